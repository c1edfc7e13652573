#!/usr/bin/env python3
"""Hold what `vitstream speak` says on systems with larger memory pages against what it says here.

    scripts/pages.py target/debug/vitstream

Every golden network of the repository is spoken by the native engine, with one and two threads, as if pages had 16 KiB
(Raspberry Pi 5, Apple hardware under Linux) and 64 KiB (ARM servers): scripts/pages.c, preloaded, makes a system of them. The
samples must be those of the system's own pages, bit by bit. Prints how many were tried and how many mishandled; the exit
status is 1 if any was. Needs Linux and a C compiler, and says so where one is absent.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "crates/vitstream-vits/tests/golden"
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "model.pth", "G_0.pth")
PAGES = (16 << 10, 64 << 10)
IDS = "1,0,9,0,3,0,14,0,7,0,5,0,2"
THREADS = (1, 2)
# Seconds that one utterance of a golden network may take.
PATIENCE = 120


def networks():
    """Every network that is committed, with the arguments that it needs."""
    families = [path for name in WEIGHTS for path in GOLDEN.glob(f"families/*/{name}")]
    voices = [*GOLDEN.glob("families/voices/*.onnx"), *ROOT.glob("crates/vitstream/tests/data/*.onnx")]
    for path in sorted([*GOLDEN.glob("*.ckpt"), *families, *voices]):
        several = "multi" in str(path.relative_to(ROOT))
        yield path, ["--speaker", "1"] if several else []


def speak(vitstream, path, arguments, environment=None):
    """The samples; an error's text where there are none."""
    command = [vitstream, "speak", path, "--runtime", "native", "--ids", IDS, "--seed", "1", "--sample-rate", "22050", "--raw"]
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, timeout=PATIENCE,
                              env={**os.environ, **(environment or {})})
    except subprocess.TimeoutExpired:
        return f"nothing within {PATIENCE} s"
    if done.returncode != 0:
        return f"exit status {done.returncode}: {done.stderr.decode(errors='replace').strip()}"
    return done.stdout or "no samples"


def check(vitstream, scratch):
    """Returns how many utterances were tried and how many mishandled, or why none could be."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not sys.platform.startswith("linux"):
        return f"pages are emulated under Linux only, this is {sys.platform}"
    if compiler is None:
        return "no C compiler (cc or gcc)"
    library = Path(scratch) / "pages.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, ROOT / "scripts/pages.c", "-ldl"], check=True)

    def system(page):
        return {"LD_PRELOAD": str(library), "VITSTREAM_PAGE_SIZE": str(page)}

    # Without this, a program that ignores the library would pass.
    for page in PAGES:
        told = subprocess.run(["getconf", "PAGESIZE"], capture_output=True, text=True, env={**os.environ, **system(page)})
        if told.stdout.strip() != str(page):
            return f"the preloaded library has no effect here ({told.stdout.strip() or told.stderr.strip()})"

    tried = mishandled = 0
    for path, arguments in networks():
        expected = speak(vitstream, path, arguments)
        for page in PAGES:
            for threads in THREADS:
                found = speak(vitstream, path, [*arguments, "--threads", str(threads)], system(page))
                tried += 1
                if isinstance(expected, bytes) and found == expected:
                    continue
                mishandled += 1
                what = next((text for text in (expected, found) if isinstance(text, str)), "other samples")
                print(f"{path.relative_to(ROOT)}: pages of {page >> 10} KiB, {threads} threads: {what}")
    return tried, mishandled


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vitstream", type=Path, help="the program to try")
    vitstream = parser.parse_args().vitstream.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        result = check(vitstream, scratch)
    if isinstance(result, str):
        print(f"skipped: {result}")
        return 0
    tried, mishandled = result
    print(f"pages: {tried} tried, {mishandled} mishandled")
    return 0 if tried and not mishandled else 1


if __name__ == "__main__":
    sys.exit(main())
