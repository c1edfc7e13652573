"""The command line, and the groups in which things are checked."""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from .cases import check_real, check_source
from .contract import check_against_traced
from .ground import FIXTURES, GOLDEN, OPSETS, TRACED, Tally
from .subjects import Binary, Source
from .voices import check_traced_pair, check_voices


def sources(tally):
    """The golden checkpoints, further ones of the fixtures, and models of the other families."""
    golden = list(Source.in_folder(GOLDEN))
    known = {source.label for source in golden}
    tiny = list(Source.in_folder(FIXTURES / "tiny"))
    if not tiny:
        tally.skip("further tiny networks", f"{FIXTURES / 'tiny'} is not there")
    return [*golden, *(source for source in tiny if source.label not in known), *Source.of_families()]


def voices(tally, binary, scratch):
    check_voices(tally, binary, scratch / "voices")
    for traced in (TRACED, FIXTURES / "traced/joe"):
        if traced.is_dir():
            check_traced_pair(tally, binary, traced, scratch / "pairs")
        else:
            tally.skip(f"traced pair {traced.name}", f"{traced} is not there")


def joe(tally, binary, scratch):
    folder = FIXTURES / "joe"
    if not (folder / "joe.ckpt").is_file():
        return tally.skip("joe", f"{folder / 'joe.ckpt'} is not there")
    files = {name: folder / f"joe.{name}.safetensors" for name in ("short", "medium")}
    source = Source("joe", folder / "joe.ckpt", files)
    check_real(tally, binary, source, (OPSETS[0], OPSETS[-1]), FIXTURES / "traced/joe", scratch / "joe")


def multi(tally, binary, scratch):
    traced = FIXTURES / "traced/tiny-multi"
    if not traced.is_dir():
        return tally.skip("multi, against the traced pair", f"{traced} is not there")
    with tally.check("multi: against the traced pair"):
        check_against_traced(binary.export(GOLDEN / "multi.ckpt", scratch / "traced"), traced)


# What `--only` names beside the sources.
GROUPS = {"voices": voices, "joe": joe, "multi": multi}


def main(description):
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vitstream", type=Path, help="the built binary")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="these sources alone, e.g. multi joe voices")
    parser.add_argument("--opset", type=int, nargs="+", default=list(OPSETS), help="these opsets alone")
    args = parser.parse_args()
    print(f"onnx {onnx.__version__}, onnxruntime {ort.__version__}, numpy {np.__version__}")

    tally = Tally()
    binary = Binary(args.vitstream.resolve())
    wanted = lambda name: not args.only or name in args.only
    with tempfile.TemporaryDirectory(prefix="vitstream-conformance-") as scratch:
        scratch = Path(scratch)
        for source in sources(tally):
            if not wanted(source.label):
                continue
            print(f"-- {source.label}", flush=True)
            # The graphs of the families are Piper's: the opsets in between would show nothing new.
            opsets = sorted({min(args.opset), max(args.opset)}) if source.settings else args.opset
            check_source(tally, binary, source, opsets, scratch / source.label)
        for name, check in GROUPS.items():
            if wanted(name):
                print(f"-- {name}", flush=True)
                check(tally, binary, scratch)
    tally.table()
    print(f"\n{tally.passed} passed, {tally.failed} failed, {tally.skipped} skipped")
    sys.exit(1 if tally.failed or not tally.passed else 0)
