#!/usr/bin/env python3
"""Plot what encoders cost against the number of phoneme ids, in ONNX Runtime on one thread.

    pip install -r scripts/requirements-conformance.txt matplotlib
    scripts/bench_scaling.py OURS THEIRS [--ids IDS.json] -o encoder-scaling.svg

Without --ids, random ids are spoken.

Every point is a process of its own: its peak memory is that of one utterance. Times are medians of the thread's CPU
time; memory is the peak resident set, less what Python and ONNX Runtime take before a model is loaded.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from bench_graphs import arguments, encoder_feed, session, texts, timed

LENGTHS = (50, 100, 200, 400, 800, 1600, 3079, 5000)


def peak_kib():
    """Unlike `ru_maxrss`, this is the process's own, not what its parent had when it forked."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def measure(model, ids, runs):
    before = peak_kib()
    encoder = session(model, 1)
    feed = encoder_feed(encoder, ids)
    times = [timed(lambda: encoder.run(None, feed), 1) for _ in range(runs)]
    return {"ids": len(ids), "ms": 1e3 * statistics.median(times), "mb": (peak_kib() - before) * 1024 / 1e6}


def plot(series, path):
    import matplotlib

    matplotlib.use("svg")
    # The same figures give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "vitstream"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, key, title in zip(axes, ("ms", "mb"), ("time (ms)", "peak memory (MB)")):
        for (label, points), colour in zip(series.items(), ("#0b6e4f", "#c1440e")):
            axis.loglog([p["ids"] for p in points], [p[key] for p in points], "o-", label=label, color=colour)
        axis.set_xlabel("phoneme ids")
        axis.set_title(title)
        axis.grid(True, which="both", alpha=0.25)
        ticks = [50, 200, 800, 3079]
        axis.set_xticks(ticks, ticks)
        axis.minorticks_off()
        axis.legend(frameon=False)
    figure.savefig(path, metadata={"Date": None})


def main():
    parser = arguments(__doc__, "para, repeated as needed,")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, help="the plot, as SVG")
    parser.add_argument("--point", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    text = texts(args.ids)["para"]
    if args.point:
        model, length = args.point
        ids = (text * (int(length) // len(text) + 1))[: int(length)]
        return print(json.dumps(measure(model, ids, args.runs)))

    series = {"vitstream": [], "traced by PyTorch": []}
    print(f"{'ids':>6}{'ours ms':>10}{'theirs ms':>11}{'times':>7}{'ours MB':>9}{'theirs MB':>11}{'share':>7}")
    for length in LENGTHS:
        for points, folder in zip(series.values(), (args.ours, args.theirs)):
            again = [sys.executable, __file__, *map(str, (args.ours, args.theirs))]
            again += ["--ids", str(args.ids)] if args.ids else []
            again += ["--runs", str(args.runs), "--point", str(folder / "encoder.onnx"), str(length)]
            points.append(json.loads(subprocess.run(again, check=True, capture_output=True, text=True).stdout))
        ours, theirs = (points[-1] for points in series.values())
        print(
            f"{length:6}{ours['ms']:10.1f}{theirs['ms']:11.1f}{theirs['ms'] / ours['ms']:7.2f}"
            f"{ours['mb']:9.0f}{theirs['mb']:11.0f}{ours['mb'] / theirs['mb']:7.2f}",
            flush=True,
        )
    if args.output:
        plot(series, args.output)


if __name__ == "__main__":
    main()
