#!/usr/bin/env bash
# Builds the Python package as it is published, installs it where nothing else is, and tests it there:
#
#     scripts/test_python.sh PROGRAM SCRATCH      the program `vitstream` that it is held against; a folder to work in
#
# VITSTREAM_UTTERANCES=20000 looks for leaks for longer, VITSTREAM_RAY=1 runs the example for Ray (ray[data] is installed then).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
program=$(realpath "$1")
scratch=$2

# The wheel holds the library and its tables; one that grew by a mistake is noticed.
MOST_WHEEL_BYTES=8000000

venv() {
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check "${@:2}"
}

venv "$scratch/build" maturin==1.16.0
"$scratch/build/bin/maturin" build --quiet --release --manifest-path "$root/bindings/python/Cargo.toml" --out "$scratch/wheels"
wheel=$(echo "$scratch"/wheels/vitstream-*.whl)
size=$(wc -c <"$wheel")
printf '%s: %d bytes\n' "$(basename "$wheel")" "$size"
[ "$size" -le "$MOST_WHEEL_BYTES" ] || { echo "the wheel has $size bytes, at most $MOST_WHEEL_BYTES" >&2; exit 1; }

# It needs nothing else.
venv "$scratch/alone" "$wheel"
"$scratch/alone/bin/python" -c 'import vitstream, vitstream.piper; print("vitstream", vitstream.__version__)'

venv "$scratch/tests" "$wheel" -r "$root/scripts/requirements-python.txt" ${VITSTREAM_RAY:+'ray[data]'}
cd "$scratch"
VITSTREAM_PROGRAM=$program "$scratch/tests/bin/python" -m pytest -q -rs -p no:cacheprovider "$root/bindings/python/tests"
