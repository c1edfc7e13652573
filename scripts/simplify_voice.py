#!/usr/bin/env python3
"""Simplify a finished voice as its publishers often do.

    pip install onnx==1.23.2 onnxsim==0.8.1
    scripts/simplify_voice.py VOICE.onnx OUTPUT.onnx
"""

import sys

import onnx
import onnxsim

simplified, equal = onnxsim.simplify(onnx.load(sys.argv[1]))
assert equal, "the simplified voice computes something else"
onnx.save(simplified, sys.argv[2])
