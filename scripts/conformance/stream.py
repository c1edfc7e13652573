"""The stateful decoder: its contract, every way of cutting an utterance, and the example that runs it."""

import json
import subprocess
import sys
import wave

import numpy as np
import onnx

from .contract import PAIR_METADATA
from .ground import EXAMPLE, F32, I64, STREAM_TOLERANCE
from .subjects import metadata, session


def stream(decoder, states, feed, z, sizes):
    """Samples of every call of the stateful decoder, one after the other."""
    names = ["output"] + [state["output"] for state in states]
    feed = feed | {state["input"]: np.zeros(state["shape"], np.float32) for state in states}
    pieces, start = [], 0
    for size in sizes:
        end = start + size
        feed |= {"z": z[:, :, start:end], "last": np.array([int(end == z.shape[2])])}
        samples, *following = decoder.run(names, feed)
        feed |= {state["input"]: value for state, value in zip(states, following)}
        pieces.append(samples)
        start = end
    assert start == z.shape[2], "the chunks do not cover the utterance"
    return np.concatenate(pieces, axis=2)


def chunkings(frames, look_ahead, generator):
    """Ways of cutting an utterance: in one piece, and with later chunks of several sizes."""
    yield [frames]
    rest = frames - look_ahead
    if rest <= 0:
        return
    yield [look_ahead] + [1] * min(rest, 40) + ([rest - 40] if rest > 40 else [])
    for size in (8, 16, 45):
        yield [look_ahead] + [size] * (rest // size) + ([rest % size] if rest % size else [])
    yield [frames - 1, 1]
    cuts = np.sort(generator.choice(np.arange(look_ahead, frames), size=min(rest, 9), replace=False))
    yield np.diff([0, *cuts, frames]).tolist()


def open_stream(pair):
    """The stateful decoder, its states, and the frames that its first call takes at least."""
    decoder = session(pair.directory / "decoder.stream.onnx")
    props = decoder.get_modelmeta().custom_metadata_map
    return decoder, json.loads(props["states"]), int(props["look_ahead"])


def check_stream_contract(pair, source):
    model = onnx.load(pair.directory / "decoder.stream.onnx")
    onnx.checker.check_model(model, full_check=True)
    props = metadata(model)
    for key in PAIR_METADATA:
        expected = metadata(pair.models["decoder"])[key]
        assert props.get(key) == expected, f"metadata {key} is {props.get(key)}, the pair's {expected}"
    states = json.loads(props["states"])
    fixed = ["z", *(["g"] if source.multi else []), "last"]
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    assert inputs == fixed + [state["input"] for state in states], f"inputs are {inputs}"
    assert outputs == ["output"] + [state["output"] for state in states], f"outputs are {outputs}"
    stems = [name.removesuffix(".state") for name in inputs[len(fixed) :]]
    assert outputs[1:] == [f"{stem}.next" for stem in stems], "states are not named X.state and X.next"
    kinds = {value.name: value.type.tensor_type for value in [*model.graph.input, *model.graph.output]}
    assert kinds["last"].elem_type == I64 and [d.dim_value for d in kinds["last"].shape.dim] == [1], "last is not i64[1]"
    for name, kind in kinds.items():
        assert name == "last" or kind.elem_type == F32, f"{name} is not float32"
    assert [kinds["z"].shape.dim[i].dim_value for i in (0, 1)] == [1, source.inter], "z is not [1, inter, frames]"
    assert len(kinds["output"].shape.dim) == 3, "output is not of rank 3"


def check_stream(tally, row, pair, source, values, decoder, states, look_ahead):
    """Every chunking gives the samples of the whole utterance."""
    generator = np.random.default_rng(2)
    g = {"g": values["g"][:1]} if source.multi else {}
    long = generator.standard_normal((1, source.inter, 3 * look_ahead + 7)).astype(np.float32)
    frames = int(values["y_lengths"][0])
    for z in (values["z_p"][:1, :, :frames], long, long[:, :, :1], long[:, :, : look_ahead - 1]):
        mask = np.ones((1, 1, z.shape[2]), np.float32)
        whole = pair.run("decoder", {"z": z, "y_mask": mask, **g})["output"]
        for sizes in chunkings(z.shape[2], look_ahead, generator):
            pieces = stream(decoder, states, g, z, sizes)
            tally.near(row, "streamed", pieces, whole, STREAM_TOLERANCE)


def check_example(pair, source, values):
    """The shipped example speaks from the directory, all samples of some number of frames."""
    out = pair.directory / "example.wav"
    ids = ",".join(map(str, values["input"][0]))
    command = [sys.executable, str(EXAMPLE), str(pair.directory), str(out), ids]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr.strip()
    with wave.open(str(out)) as wav:
        assert wav.getframerate() == int(metadata(pair.models["encoder"])["sample_rate"]), "sample rate differs"
        count = wav.getnframes()
        samples = np.frombuffer(wav.readframes(count), "<i2")
    assert count > 0 and count % source.hop == 0, f"{count} samples are not whole frames of {source.hop}"
    assert samples.any(), "all samples are zero"
