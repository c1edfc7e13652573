#!/usr/bin/env python3
"""Speak phoneme ids chunk by chunk: stream_onnxruntime.py DIR OUT.wav ID,ID,... [SPEAKER]"""

import json
import os
import sys
import wave

import numpy as np
import onnxruntime

directory, out, ids = sys.argv[1], sys.argv[2], [int(i) for i in sys.argv[3].split(",")]
speaker, chunk = int(sys.argv[4]) if len(sys.argv) > 4 else 0, 32
encoder, decoder = (
    onnxruntime.InferenceSession(os.path.join(directory, name), providers=["CPUExecutionProvider"])
    for name in ("encoder.onnx", "decoder.stream.onnx")
)
meta = decoder.get_modelmeta().custom_metadata_map
states = json.loads(meta["states"])
config = os.path.join(directory, "config.json")
inference = json.load(open(config, encoding="utf-8")).get("inference", {}) if os.path.exists(config) else {}
scales = [inference.get(name, usual) for name, usual in (("noise_scale", 0.667), ("length_scale", 1), ("noise_w", 0.8))]

feed = {"input": np.array([ids]), "input_lengths": np.array([len(ids)]), "scales": np.array(scales, np.float32)}
if int(meta["n_speakers"]) > 1:
    feed["sid"] = np.array([speaker])
# By name: which outputs there are depends on the voice and on how it was exported (`g`, `durations`).
outputs = dict(zip([output.name for output in encoder.get_outputs()], encoder.run(None, feed)))
z = outputs["z"]

feed = {state["input"]: np.zeros(state["shape"], np.float32) for state in states}
feed |= {name: outputs[name] for name in ("g",) if name in outputs}
with wave.open(out, "wb") as wav:
    wav.setnchannels(1), wav.setsampwidth(2), wav.setframerate(int(meta["sample_rate"]))
    start, size = 0, max(int(meta["look_ahead"]), chunk)  # the first call takes at least the look-ahead
    while start < z.shape[2]:
        end = min(start + size, z.shape[2])
        feed |= {"z": z[:, :, start:end], "last": np.array([int(end == z.shape[2])])}
        samples, *following = decoder.run(["output"] + [state["output"] for state in states], feed)
        feed |= {state["input"]: value for state, value in zip(states, following)}
        wav.writeframes(np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        start, size = end, chunk
