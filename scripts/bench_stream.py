#!/usr/bin/env python3
"""Text that arrives token by token, as from a language model: when is it heard, and does it break off?

    scripts/bench_stream.py target/release/vitstream

Tokens are written to `vitstream speak --raw`, 30 a second, and its samples are taken as a loudspeaker takes them, from the
first one on. For each text the script tells
- how long after the token that completes its first sentence (or clause) the first samples came: the median of some runs,
- how often the samples ran out before the next ones were there, which they must not,
and compares what was heard with each sentence spoken alone. Installs joe and espeak-ng as `bench_text.py` does. The exit
status is 1 if a sentence sounds otherwise, if samples ran out, or if the first ones came later than 60 ms. The processor's
time until then is told too, which counts on a machine that others use (`--judge cpu`). Needs Linux.
"""

import argparse
import json
import os
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time

from bench_text import cpu_seconds, install

TOKENS_A_SECOND = 30
# Seconds from the completing token to the first samples.
WANTED = 0.060
RATE = 22_050
SEED = ["--seed", "7"]

# Each with the end of what is spoken first: a sentence, and a clause of a sentence that is long.
TEXTS = {
    "sentence": (
        "It is half past nine. The train to the coast leaves in twenty minutes from platform four. You can still get a coffee, "
        "if you hurry! Shall I tell your sister that you will be there at noon? She asked me this morning.",
        "nine.",
    ),
    "clause": (
        "When the last of the travellers had left the old station behind, the keeper closed the heavy doors and walked along "
        "the silent platform to the small house by the river. A light was still burning there. Somebody had kept his supper warm.",
        "behind,",
    ),
}


def tokens(text):
    """Pieces of up to four letters with the space before them, as language models have them."""
    return re.findall(r"\s*\S{1,4}", text)


class Listener:
    """A loudspeaker that begins with the first samples."""

    def __init__(self, process):
        self.output, self.pid = process.stdout, process.pid
        self.used = 0.0
        self.samples = b""
        self.started = None
        self.until = 0.0
        self.underruns = 0

    def hear(self, seconds):
        """Takes what comes within `seconds`; whether there may be more."""
        end = time.perf_counter() + seconds
        while True:
            left = end - time.perf_counter()
            if left <= 0 or not select.select([self.output], [], [], left)[0]:
                return True
            data = os.read(self.output.fileno(), 1 << 20)
            now = time.perf_counter()
            if not data:
                return False
            if self.started is None:
                self.used += cpu_seconds(self.pid)
                self.started = self.until = now
            elif now > self.until:
                self.underruns += 1
                self.until = now
            self.samples += data
            self.until += len(data) / 2 / RATE


def stream(command, text, first):
    """Seconds to the first samples by the clock and of the processor, how often they ran out, and all of them."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    listener = Listener(process)
    # It reads the voice before it reads text; no language model is as fast.
    time.sleep(1.0)
    # The character after the mark and its space shows that the sentence is over.
    complete = text.index(first) + len(first) + 1
    begin, written, completed = time.perf_counter(), 0, None
    for number, token in enumerate(tokens(text)):
        listener.hear(max(0.0, begin + number / TOKENS_A_SECOND - time.perf_counter()))
        process.stdin.write(token.encode())
        written += len(token)
        if completed is None and written > complete:
            completed = time.perf_counter()
            listener.used = -cpu_seconds(process.pid)
    process.stdin.close()
    while listener.hear(60.0):
        pass
    if process.wait() != 0 or listener.started is None:
        sys.exit("vitstream failed")
    return listener.started - completed, listener.used, listener.underruns, listener.samples


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the command vitstream, built with --release")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--judge", choices=("clock", "cpu"), default="clock", help="which time the limit is to hold for")
    args = parser.parse_args()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        _, voice, espeak = install(folder)
        reading = [voice, "--espeak", espeak]
        for name, (text, first) in TEXTS.items():
            # A first sentence that is cut is two.
            cut = text.index(first) + len(first)
            parts = [text] if first.endswith(".") else [text[:cut], text[cut:]]
            alone = b""
            for part in parts:
                shown = subprocess.run([args.program, "phonemize", *reading, part, "--json"], check=True, capture_output=True)
                for sentence in json.loads(shown.stdout)["sentences"]:
                    ids = ",".join(map(str, sentence["ids"]))
                    command = [args.program, "speak", voice, "--ids", ids, "--raw", *SEED]
                    alone += subprocess.run(command, check=True, capture_output=True).stdout
            command = [args.program, "speak", *reading, "--raw", "--threads", "1", *SEED]
            runs = [stream(command, text, first) for _ in range(args.rounds)]
            underruns = sum(run[2] for run in runs)
            same = all(run[3] == alone for run in runs)
            print(f"{name}: first audio after {first!r} is complete, wanted {WANTED * 1e3:.0f} ms")
            for column, judged in enumerate(("clock", "cpu")):
                median = statistics.median(run[column] for run in runs)
                delays = ", ".join(f"{run[column] * 1e3:.0f}" for run in runs)
                print(f"  {judged:<5} {median * 1e3:.0f} ms ({delays})")
                good &= judged != args.judge or median <= WANTED
            print(f"  {underruns} underruns in {args.rounds} runs of {len(alone) / 2 / RATE:.1f} s", flush=True)
            print(f"  each sentence as it is alone: {'yes' if same else 'NO'}", flush=True)
            good &= same and underruns == 0
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
