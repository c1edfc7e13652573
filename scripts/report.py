#!/usr/bin/env python3
"""Make the table of machines for docs/performance.md from what `vitstream bench --json` wrote on each.

    vitstream bench VOICE --json > docs/machines/NAME.json
    scripts/report.py docs/machines/*.json

A line for each machine, runtime and decoder, from the files in their order; with several utterances the columns are those of
each, in their order. Times are medians, in brackets the range over the rounds; what a file lacks is left empty.
"""

import argparse
import json
import sys
from pathlib import Path


def machine(report):
    """The machine in words: what its processor is called, its instruction set, cores and clock."""
    told = report.get("machine")
    if told is None:
        return "not told"
    cores = told.get("cores")
    parts = [
        told.get("cpu") or told["architecture"],
        told["instruction_set"],
        f"{cores} core{'' if cores == 1 else 's'}" if cores else None,
        f"{told['mhz'] / 1e3:.1f} GHz" if told.get("mhz") else None,
    ]
    return ", ".join(part for part in parts if part)


def milliseconds(spread):
    low, median, high = (spread[key] * 1e3 for key in ("min", "median", "max"))
    digits = 1 if median < 100 else 0
    return f"{median:.{digits}f} ms ({low:.{digits}f}-{high:.{digits}f})"


def rows(report):
    who = report["runtime"] + (f", {report['decoder']}" if report.get("decoder") else "")
    threads = report.get("threads")
    cells = [machine(report), who, str(threads) if threads else "", milliseconds(report["load"])]
    for utterance in report["utterances"]:
        cells += [milliseconds(utterance["first_audio"]), f"{1 / utterance['real_time_factor']['median']:.1f}"]
    return cells


def table(paths):
    reports = [report for path in paths for report in json.loads(path.read_text())]
    lengths = [[utterance["ids"] for utterance in report["utterances"]] for report in reports]
    if any(one != lengths[0] for one in lengths):
        raise SystemExit("the files are of different utterances: give those of one kind")
    heads = ["machine", "runtime", "threads", "loaded in"]
    for ids in lengths[0]:
        heads += [f"{ids} ids: first audio", "times real time"]
    yield heads
    yield ["---"] * len(heads)
    yield from map(rows, reports)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+", help="what vitstream bench --json wrote")
    for cells in table(parser.parse_args().files):
        print("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")


if __name__ == "__main__":
    sys.exit(main())
