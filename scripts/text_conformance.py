#!/usr/bin/env python3
"""Holds vitstream-text against two copies of espeak-ng, through the library that it loads at run time.

PyPI's espeakng-loader 0.2.4 has release 1.52.0: every clause must be said as recorded. PyPI's piper-tts 1.8.0 has the
copy that Piper speaks with, inside a Python module: every text must have Piper's ids. Both wheels are only unpacked;
nothing is installed and no Python of theirs is run.

Needs cargo, a C linker and a package index. Where no wheel fits this machine, it says so and ends well.
"""

import argparse
import json
import pathlib
import platform
import subprocess
import sys
import tempfile
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
WHEELS = [
    # package, library, data, what it is held against
    ("espeakng-loader==0.2.4", "espeakng_loader/libespeak-ng.so", "espeakng_loader", "espeakng-loader 0.2.4"),
    ("piper-tts==1.8.0", "piper/espeakbridge.so", "piper/espeak-ng-data", "piper"),
]


def example(name, *flags):
    """Builds an example of the crate; the path of the program."""
    command = ["cargo", "rustc", "-q", "-p", "vitstream-text", "--example", name, "--message-format=json", *flags]
    # Its symbols must be found by the module that it loads.
    command += ["--", "-C", "link-arg=-rdynamic"]
    output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    artifacts = (json.loads(line) for line in output.splitlines())
    return [a["executable"] for a in artifacts if a.get("executable")][-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheels", type=pathlib.Path, help="a folder to keep the wheels in")
    parser.add_argument("--bench", action="store_true", help="also measure the way from text to ids")
    options = parser.parse_args()
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        print("text conformance: skipped, as piper-tts's library is looked for on Linux only")
        return 0
    program = example("library")
    bench = example("text_to_ids", "--release") if options.bench else None
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        wheels = options.wheels or scratch / "wheels"
        for package, library, data, column in WHEELS:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
            subprocess.run([*pip, "--only-binary=:all:", "--dest", str(wheels), package], check=True)
            name = package.replace("-", "_").replace("==", "-")
            (wheel,) = wheels.glob(f"{name}-*.whl")
            folder = scratch / name
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder)
            location = f"{folder / library}:{folder / data}"
            failed += subprocess.run([program, location, column]).returncode != 0
            if bench:
                # The module of Piper's copy needs the symbols that only the other program exports.
                if column != "piper":
                    subprocess.run([bench, location], check=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
