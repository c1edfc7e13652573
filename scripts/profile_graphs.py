#!/usr/bin/env python3
"""Where ONNX Runtime spends its time in an exported pair and in another one, usually a traced one, by kinds of nodes.

    pip install -r scripts/requirements-conformance.txt
    scripts/profile_graphs.py OURS THEIRS [--ids IDS.json]

Without --ids, random ids are spoken.

Prints two markdown tables: the encoder on the text `medium`, the decoder on --frames frames. One thread, default session
options but for the profiler, which itself costs something for each node. A cell is the sum over nodes of the median
time that each took over the runs, and in brackets how many nodes ran: fewer than the file has, because ONNX Runtime has
folded and fused some, or more, because it has added changes of layout. A loop's time is without its body's nodes, which
count themselves.
"""

import json
import statistics
import tempfile
from bisect import bisect
from collections import defaultdict
from pathlib import Path

import onnxruntime as ort
from bench_graphs import arguments, decoder_feed, encoder_feed, texts

# Kinds that do the same work before and after ONNX Runtime's fusions, or in one pair and in the other.
GROUPS = (
    ("Conv", "FusedConv", "ConvTranspose"),
    ("MatMul", "FusedMatMul"),
    ("ReorderInput", "ReorderOutput"),
)


def profile(path, feed_of, runs):
    """Milliseconds and number of nodes by op kind, of `runs` runs after one that warms up."""
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = feed_of(session)
        for _ in range(1 + runs):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    starts = [event["ts"] for event in events if event["name"] == "model_run"]
    nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith("_kernel_time")]
    loops = [event for event in nodes if event["args"]["op_name"] == "Loop"]
    times = defaultdict(lambda: [0.0] * len(starts))
    for event in nodes:
        run = bisect(starts, event["ts"]) - 1
        times[event["args"]["op_name"], event["name"], event["args"]["node_index"]][run] += event["dur"]
        # The nodes in a loop's body count themselves.
        for loop in loops:
            if event is not loop and loop["ts"] <= event["ts"] < loop["ts"] + loop["dur"]:
                times["Loop", loop["name"], loop["args"]["node_index"]][run] -= event["dur"]
    kinds = defaultdict(lambda: (0.0, 0))
    for (kind, _, _), durations in times.items():
        ms, count = kinds[kind]
        kinds[kind] = (ms + statistics.median(durations[1:]) / 1e3, count + 1)
    return kinds


def total(kinds, names):
    parts = [kinds[name] for name in names if name in kinds]
    return sum(ms for ms, _ in parts), sum(nodes for _, nodes in parts)


def table(title, ours, theirs, rows):
    names = ours.keys() | theirs.keys()
    groups = [tuple(name for name in group if name in names) for group in GROUPS]
    groups += [(name,) for name in names.difference(*groups)]
    largest = sorted(groups, key=lambda group: max(total(theirs, group), total(ours, group)), reverse=True)[:rows]
    listed = [(", ".join(group), group) for group in largest]
    listed += [("others", names.difference(*largest)), ("all", names)]
    print(f"| {title} | traced, ms (nodes run) | ours, ms (nodes run) |\n|---|---|---|")
    for label, group in listed:
        cells = (f"{ms:.1f} ({nodes:,})" for ms, nodes in (total(theirs, group), total(ours, group)))
        print(f"| {label} | {' | '.join(cells)} |")
    print(flush=True)


def main():
    parser = arguments(__doc__, "medium")
    parser.add_argument("--frames", type=int, default=628, help="of the decoder's input")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--rows", type=int, default=8, help="kinds that are told apart")
    args = parser.parse_args()
    ids = texts(args.ids)["medium"]
    for title, file, feed_of in (
        (f"encoder, {len(ids)} ids", "encoder.onnx", lambda session: encoder_feed(session, ids)),
        (f"decoder, {args.frames} frames", "decoder.onnx", lambda session: decoder_feed(session, args.frames)),
    ):
        ours, theirs = (profile(folder / file, feed_of, args.runs) for folder in (args.ours, args.theirs))
        table(title, ours, theirs, args.rows)


if __name__ == "__main__":
    main()
