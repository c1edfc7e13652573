"""Where things lie, how far values may be from each other, and the count of what was checked."""

import contextlib
import os
from pathlib import Path

import numpy as np
import onnx

ROOT = Path(__file__).resolve().parent.parent.parent
GOLDEN = ROOT / "crates/vitstream-vits/tests/golden"
FAMILIES = GOLDEN / "families"
VOICES = [*GOLDEN.glob("families/voices/*.onnx"), ROOT / "crates/vitstream-source/tests/data/multi.simplified.onnx"]
TRACED = ROOT / "crates/vitstream-synth/tests/data/tiny-multi"
EXAMPLE = ROOT / "examples/stream_onnxruntime.py"
# Larger ones, which are not part of the repository.
FIXTURES = Path(os.environ.get("VITSTREAM_FIXTURES", ROOT.parent / "shared/fixtures"))

OPSETS = range(15, 22)
# Largest absolute difference from PyTorch, and of a streamed utterance from the whole one.
TOLERANCE = 1e-4
STREAM_TOLERANCE = 1e-5
# Of samples from those of the same weights in PyTorch's graph. Over 300 ids of a real voice rounding alone is 1.4e-5.
VOICE_TOLERANCE = 3e-5
# The same for the tiny traced pair: its random weights saturate, and its own graph differs from itself by 1e-4 with and
# without ONNX Runtime's optimisations.
TINY_PAIR_TOLERANCE = 5e-4
# Of audio whose weights are rounded, as a share of the other's; a real voice's is 0.011.
F16_TOLERANCE = 0.05

F32, I64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
RANDOM_OPS = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}


class Tally:
    """Counts checks; a failing one is reported and the rest goes on."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.rows = {}

    @contextlib.contextmanager
    def check(self, label):
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever goes wrong is this check's result
            self.failed += 1
            print(f"FAIL {label}: {type(error).__name__}: {str(error).strip()}", flush=True)
        else:
            self.passed += 1

    def skip(self, label, why):
        self.skipped += 1
        print(f"SKIP {label}: {why}", flush=True)

    def near(self, row, column, found, expected, tolerance):
        """Assert closeness and remember the largest difference of the row for the final table."""
        assert found.shape == expected.shape, f"{column} is {found.shape}, expected {expected.shape}"
        assert np.isfinite(found).all(), f"{column} holds values that are not finite"
        difference = float(np.abs(found - expected).max(initial=0.0))
        columns = self.rows.setdefault(row, {})
        columns[column] = max(columns.get(column, 0.0), difference)
        assert difference <= tolerance, f"{column} differs by {difference:.2e}, more than {tolerance:.0e}"

    def table(self):
        columns = ["pair", "single", "sherpa-onnx", "piper-tts", "z", "g", "audio", "audio of z_p", "alone", "streamed"]
        columns.append("f16, share")
        width = max(map(len, self.rows), default=0)
        print(f"\nlargest absolute differences\n{'':{width}}  " + "  ".join(f"{c:>12}" for c in columns))
        for row, values in self.rows.items():
            cells = (f"{values[c]:12.1e}" if c in values else f"{'':12}" for c in columns)
            print(f"{row:{width}}  " + "  ".join(cells))
