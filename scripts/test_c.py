#!/usr/bin/env python3
"""Builds the C examples against the installed library and runs them: the samples are the command line's, and valgrind finds
nothing that is lost or read where nothing is.

    scripts/test_c.py BUILT       the folder that cargo builds into, such as target/debug

Needs gcc, g++ and pkg-config; valgrind and cmake are used where they are (CMAKE names another cmake), and said to be absent.
"""

import array
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINDING = ROOT / "bindings" / "c"
SUPPRESSIONS = ROOT / "scripts" / "valgrind.supp"
GOLDEN = ROOT / "crates" / "vitstream-vits" / "tests" / "golden"
TEXT = "hello there, this is a voice! it speaks letters! does it?"
STRICT = ["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1", "-g"]


def run(*command, **how):
    done = subprocess.run([*map(str, command)], stdout=subprocess.PIPE, **how)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit status {done.returncode}")
    return done.stdout


def letters(folder):
    voice = folder / "letters.ckpt"
    shutil.copy(GOLDEN / "legacy-single.ckpt", voice)
    ids = {"_": [0], "^": [1], "$": [2]}
    ids.update({symbol: [at + 3] for at, symbol in enumerate(" abcdefghijklmnopqrstuvwxyz,.!?")})
    config = {"audio": {"sample_rate": 22050}, "phoneme_type": "text", "phoneme_id_map": ids}
    (folder / "letters.ckpt.json").write_text(json.dumps(config))
    return voice


def int16(floats):
    """As the command line rounds: to the nearest, halves away from zero."""
    def one(sample):
        scaled = array.array("f", [sample * 32767.0])[0]
        return max(-32768, min(32767, int(math.copysign(math.floor(abs(scaled) + 0.5), scaled))))

    return array.array("h", map(one, floats)).tobytes()


def main():
    built = pathlib.Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        prefix, voice = scratch / "prefix", letters(scratch)
        run(BINDING / "install.sh", prefix, built)
        found = dict(os.environ, PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig"))
        flags = run("pkg-config", "--cflags", "--libs", "vitstream", env=found, text=True).split()
        examples = BINDING / "examples"
        run("gcc", "-std=c11", *STRICT, examples / "speak.c", "-o", scratch / "speak", *flags)
        run("gcc", "-std=c11", *STRICT, examples / "errors.c", "-o", scratch / "errors", *flags, "-lpthread")
        # As a program for libpiper is linked.
        piper = ["-I", prefix / "include", "-L", prefix / "lib", "-lpiper"]
        run("g++", "-std=c++17", *STRICT, examples / "piper.cpp", "-o", scratch / "piper", *piper)
        environment = dict(os.environ, LD_LIBRARY_PATH=str(prefix / "lib"))

        expected = run(built / "vitstream", "speak", voice, TEXT, "--raw", "--seed", "7")

        def spoken(program, *before):
            output = scratch / "samples"
            run(*before, program, voice, TEXT, output, 7, env=environment)
            found = int16(array.array("f", output.read_bytes()))
            if not before:
                assert found == expected, "other samples than the command line's"
                return
            # Valgrind's processor has other instructions, so other roundings.
            pairs = zip(array.array("h", found), array.array("h", expected))
            largest = max(abs(one - other) for one, other in pairs)
            assert len(found) == len(expected) and largest <= 4, f"off by {largest} of 32767"

        spoken(scratch / "speak")
        run(scratch / "errors", voice, env=environment)
        sentences = run(scratch / "piper", voice, f"{voice}.json", TEXT, env=environment, text=True).splitlines()
        assert len(sentences) == 3, sentences
        for sentence in sentences:
            groups, total = sentence.split(" = ")
            samples = [int(group.split(":")[1]) for group in groups.split()]
            assert sum(samples) == int(total.split()[0]) and groups.startswith("94:") and "36:" in groups, sentence
        checked = ["samples equal to the command line's", "errors", "libpiper's surface"]

        if valgrind := shutil.which("valgrind"):
            # Without what is possibly lost: lists of the thread pool's that live as long as the process.
            strict = [valgrind, "--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite"]
            strict += [f"--suppressions={SUPPRESSIONS}", "--error-exitcode=99"]
            spoken(scratch / "speak", *strict)
            run(*strict, scratch / "errors", voice, env=environment)
            run(*strict, scratch / "piper", voice, f"{voice}.json", "hello there!", env=environment)
            checked.append("valgrind")
        else:
            print("skipped: valgrind is not on this machine")
        if cmake := os.environ.get("CMAKE") or shutil.which("cmake"):
            run(cmake, "-S", examples, "-B", scratch / "cmake", f"-DCMAKE_PREFIX_PATH={prefix}")
            run(cmake, "--build", scratch / "cmake")
            for program in ("speak", "speak_static"):
                spoken(scratch / "cmake" / program)
            checked.append("the CMake package")
        else:
            print("skipped: cmake is not on this machine")
    print(f"C: {', '.join(checked)}")


if __name__ == "__main__":
    main()
