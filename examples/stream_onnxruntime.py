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

feed = {"input": np.array([ids]), "input_lengths": np.array([len(ids)])}
feed["scales"] = np.array([0.667, 1.0, 0.8], np.float32)  # noise_scale, length_scale, noise_w
if int(meta["n_speakers"]) > 1:
    feed["sid"] = np.array([speaker])
z, _, *g = encoder.run(None, feed)

feed = {state["input"]: np.zeros(state["shape"], np.float32) for state in states}
feed |= dict(zip(["g"], g))
with wave.open(out, "wb") as wav:
    wav.setnchannels(1), wav.setsampwidth(2), wav.setframerate(int(meta["sample_rate"]))
    start, size = 0, max(int(meta["look_ahead"]), chunk)  # the first call takes at least the look-ahead
    while start < z.shape[2]:
        end = min(start + size, z.shape[2])
        feed |= {"z": z[:, :, start:end], "last": np.array([int(end == z.shape[2])])}
        samples, *following = decoder.run(["output"] + [state["output"] for state in states], feed)
        feed |= {state["input"]: value for state, value in zip(states, following)}
        wav.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
        start, size = end, chunk
