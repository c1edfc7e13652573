#!/usr/bin/env python3
"""Time an exported pair against another one, usually a traced one, in ONNX Runtime.

    pip install -r scripts/requirements-conformance.txt
    scripts/bench_graphs.py OURS THEIRS [--ids IDS.json]

Without --ids, random ids are spoken.

Both pairs run interleaved in one process under default session options; only the two sessions that are
being compared exist at a time. Reported are medians over the runs, of the ratio pair by pair. With one
thread the thread's CPU time counts, which other load on the machine disturbs least; with more, wall time.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

LENGTHS = {"short": 69, "medium": 309, "long": 1383, "para": 3079}
FRAMES = (628, 32, 16)


def arguments(description, wanted):
    """A parser of what every comparison of two pairs is given; `wanted` says which texts it takes from --ids."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ours", type=Path)
    parser.add_argument("theirs", type=Path)
    parser.add_argument("--ids", type=Path, help=f"JSON: {wanted} -> phoneme ids; random ones by default")
    return parser


def texts(path):
    """Phoneme ids by name: those in the file, or random ones of the usual lengths that every voice has."""
    if path:
        return json.loads(path.read_text())
    generator = np.random.default_rng(4)
    return {name: generator.integers(1, 40, length).tolist() for name, length in LENGTHS.items()}


def session(path, threads):
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def clock(threads):
    return time.thread_time if threads == 1 else time.perf_counter


def timed(run, threads):
    now = clock(threads)
    start = now()
    run()
    return now() - start


def compare(ours, theirs, threads, runs):
    """Medians of both, and of their ratio run by run."""
    ours(), theirs()
    pairs = [(timed(ours, threads), timed(theirs, threads)) for _ in range(runs)]
    ratios = sorted(b / a for a, b in pairs)
    return {
        "ours_ms": 1e3 * statistics.median(a for a, _ in pairs),
        "theirs_ms": 1e3 * statistics.median(b for _, b in pairs),
        "ratio": statistics.median(ratios),
        "spread": (ratios[0], ratios[-1]),
    }


def noise(session, feed):
    """Draws for the inputs that an encoder exported with `--noise input` has beside the contract's."""
    names = [port.name for port in session.get_inputs()]
    draw = lambda shape: np.random.default_rng(0).standard_normal(shape, np.float32)
    if "noise_dp" in names:
        feed["noise_dp"] = draw((1, 2, feed["input"].shape[1]))
    if "noise_p" in names:
        channels = next(port.shape[1] for port in session.get_inputs() if port.name == "noise_p")
        feed["noise_p"] = draw((1, channels, 12 * feed["input"].shape[1]))
    return feed


def encoder_feed(session, ids):
    feed = {
        "input": np.array([ids], np.int64),
        "input_lengths": np.array([len(ids)], np.int64),
        # Without noise: both graphs then do the same work, whatever they would have drawn.
        "scales": np.array([0, 1, 0], np.float32),
    }
    if any(port.name == "sid" for port in session.get_inputs()):
        feed["sid"] = np.zeros(1, np.int64)
    return noise(session, feed)


def decoder_feed(session, frames):
    feed = {}
    for port in session.get_inputs():
        if port.name == "y_mask":
            feed["y_mask"] = np.ones((1, 1, frames), np.float32)
        else:
            length = frames if port.name == "z" else 1
            feed[port.name] = np.random.default_rng(1).standard_normal((1, port.shape[1], length), np.float32)
    return feed


class Stream:
    """decoder.stream.onnx in chunks."""

    def __init__(self, path, threads):
        self.session = session(path, threads)
        metadata = self.session.get_modelmeta().custom_metadata_map
        self.look_ahead = int(metadata["look_ahead"])
        self.states = json.loads(metadata["states"])
        self.outputs = ["output"] + [state["output"] for state in self.states]

    def run(self, z, speaker, chunk):
        states = {state["input"]: np.zeros(state["shape"], np.float32) for state in self.states}
        at, total = 0, z.shape[2]
        while at < total:
            end = min(total, at + (chunk if at else max(chunk, self.look_ahead)))
            feed = {"z": z[:, :, at:end], "last": np.array([end == total], np.int64), **speaker, **states}
            result = self.session.run(self.outputs, feed)
            states = {state["input"]: value for state, value in zip(self.states, result[1:])}
            at = end


def peak():
    """What a large matrix product reaches on one core, in GFLOP/s: the ceiling of direct convolution."""
    n = 1024
    ports = [onnx.helper.make_tensor_value_info(name, 1, [n, n]) for name in "abc"]
    node = onnx.helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = onnx.helper.make_graph([node], "peak", ports[:2], ports[2:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)], ir_version=8)
    product = session(model.SerializeToString(), 1)
    value = np.random.default_rng(0).standard_normal((n, n), np.float32)
    run = lambda: product.run(None, {"a": value, "b": value})
    # The best of many: the first runs are slow while the core has yet to wake up, and what is asked for is a ceiling.
    return 2 * n**3 / min(timed(run, 1) for _ in range(50)) / 1e9


def rows(args, threads):
    ids = texts(args.ids)
    ours, theirs = (session(path / "encoder.onnx", threads) for path in (args.ours, args.theirs))
    for name, length in LENGTHS.items():
        feeds = [encoder_feed(s, ids[name]) for s in (ours, theirs)]
        runs = max(3, args.runs // 3) if length > 1000 else args.runs
        yield f"encoder, {length} ids", compare(
            lambda: ours.run(None, feeds[0]), lambda: theirs.run(None, feeds[1]), threads, runs
        )
    del ours, theirs
    ours, theirs = (session(path / "decoder.onnx", threads) for path in (args.ours, args.theirs))
    for frames in FRAMES:
        feed = decoder_feed(ours, frames)
        yield f"decoder, {frames} frames", compare(
            lambda: ours.run(None, feed), lambda: theirs.run(None, feed), threads, args.runs
        )
    stream_path = args.ours / "decoder.stream.onnx"
    if stream_path.exists():
        stream = Stream(stream_path, threads)
        feed = decoder_feed(ours, FRAMES[0])
        speaker = {key: value for key, value in feed.items() if key == "g"}
        for label, whole in (("the other decoder", theirs), ("our own", ours)):
            for chunk in (8, 16, 32):
                yield f"stream in {chunk}s against {label} in one go", compare(
                    lambda: stream.run(feed["z"], speaker, chunk), lambda: whole.run(None, feed), threads, args.runs
                )


def load(args):
    for name in ("encoder.onnx", "decoder.onnx"):
        times = compare(lambda: session(args.ours / name, 1), lambda: session(args.theirs / name, 1), 1, args.runs)
        yield f"load {name}", times


def main():
    parser = arguments(__doc__, ", ".join(LENGTHS))
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    report = {"machine": platform.processor() or platform.machine(), "onnxruntime": ort.__version__, "rows": []}
    report["peak_gflops"] = peak()
    if not args.json:
        print(f"onnxruntime {ort.__version__}; a large matrix product reaches {report['peak_gflops']:.0f} GFLOP/s on a core")
        print(f"{'':52}{'ours ms':>10}{'theirs ms':>11}{'times faster':>14}")
    for threads in args.threads:
        for label, result in [*rows(args, threads), *(load(args) if threads == 1 else [])]:
            report["rows"].append({"label": label, "threads": threads, **result})
            if not args.json:
                low, high = result["spread"]
                print(
                    f"{label + f', {threads} thread' + 's' * (threads > 1):52}{result['ours_ms']:10.1f}"
                    f"{result['theirs_ms']:11.1f}{result['ratio']:10.2f}  ({low:.2f} to {high:.2f})",
                    flush=True,
                )
    if args.json:
        print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
