"""The cases in tables: what is checked of every export, and of every source once."""

import json
from typing import Callable, NamedTuple

from .contract import check_against_traced, check_checker, check_contract
from .extras import check_extras
from .ground import EXAMPLE
from .noise import check_noise, check_seed, check_short_noise
from .settings import check_config, check_family_config, check_json
from .stream import check_example, check_stream, check_stream_contract, open_stream
from .values import check_batch, check_case, check_two_speakers


class Subject:
    """A source, what was exported of it, and its reference cases that serve special checks."""

    def __init__(self, tally, binary, source, scratch):
        self.tally, self.binary, self.source, self.scratch = tally, binary, source, scratch
        cases = source.cases.values()
        # The longest of the single utterances, the batch and the first of all.
        self.single = max((v for v in cases if len(v["input"]) == 1), key=lambda v: v["z_p"].shape[2])
        self.batch = next((v for v in cases if len(v["input"]) > 1), None)
        self.first = next(iter(cases))
        # The export that is looked at, with the noise as inputs, and one that draws it.
        self.pair = self.internal = self.opset = None
        self.row = source.label

    def folder(self, name):
        folder = self.scratch / name
        folder.mkdir(parents=True)
        return folder

    def export(self, opset):
        """Export with the noise as inputs; whether that worked."""
        self.pair, self.opset, self.row = None, opset, f"{self.source.label}, opset {opset}"
        with self.tally.check(f"{self.row}: export"):
            options = ("--noise", "input", "--opset", opset)
            self.pair = self.binary.export(self.source.checkpoint, self.scratch / str(opset), *options)
        return self.pair is not None

    def export_internal(self):
        internal = self.binary.export(self.source.checkpoint, self.scratch / "internal")
        check_contract(internal, self.source, noise_input=False)
        self.internal = internal

    def check(self, label, cases):
        for case in cases:
            if case.when(self):
                with self.tally.check(f"{label}: {case.label}"):
                    case.run(self)


class Case(NamedTuple):
    """`run` is given the subject and fails by an exception; `when` tells whether there is anything to check."""

    label: str
    run: Callable
    when: Callable = lambda subject: True


def reference_values(source):
    """A case for each file of PyTorch's values."""
    return [
        Case(name, lambda s, values=values: check_case(s.tally, s.row, s.pair, s.source, values))
        for name, values in source.cases.items()
    ]


# Of every export, before its reference values.
FILES = (
    Case("onnx.checker", lambda s: check_checker(s.pair, s.opset)),
    Case("contract", lambda s: check_contract(s.pair, s.source, noise_input=True)),
)

# Of every export, after them.
EXPORT = (
    Case(
        "items of a batch as alone",
        lambda s: check_batch(s.tally, s.row, s.pair, s.source, s.batch),
        when=lambda s: s.batch is not None,
    ),
    Case("stateful decoder, contract", lambda s: check_stream_contract(s.pair, s.source)),
    Case(
        "stateful decoder, streamed as whole",
        lambda s: check_stream(s.tally, s.row, s.pair, s.source, s.single, *open_stream(s.pair)),
    ),
)

# Of every source, with its first export.
SOURCE = (
    # The families' models are too small to hold weights that would be rounded.
    Case(
        "durations and half precision",
        lambda s: check_extras(s.tally, s.row, s.binary, s.pair, s.source, s.single, s.scratch / "extras"),
        when=lambda s: s.source.settings is None,
    ),
    Case(
        "two speakers in a batch",
        lambda s: check_two_speakers(s.tally, s.row, s.pair, s.source, s.single),
        when=lambda s: s.source.multi,
    ),
    Case("more and fewer draws than frames", lambda s: check_short_noise(s.pair, s.source, s.single)),
    Case("export with internal noise", Subject.export_internal),
    Case("statistics of internal noise", lambda s: check_noise(s.pair, s.internal, s.source), when=lambda s: s.internal),
    Case(EXAMPLE.name, lambda s: check_example(s.internal, s.source, s.single), when=lambda s: s.internal),
    Case(
        f"{EXAMPLE.name} with durations",
        lambda s: check_example(
            s.binary.export(s.source.checkpoint, s.scratch / "timed", "--durations"), s.source, s.single
        ),
    ),
    Case("seeds", lambda s: check_seed(s.binary, s.source, s.scratch / "seed", s.first)),
    Case(
        "voice JSON",
        lambda s: check_config(s.binary, s.source, s.folder("config")),
        when=lambda s: s.source.settings is None,
    ),
    Case(
        "voice JSON",
        lambda s: check_family_config(s.binary, s.source, s.folder("config")),
        when=lambda s: s.source.settings is not None,
    ),
    Case("--json", lambda s: check_json(s.binary, s.source, s.scratch / "json")),
)

# Of the exports of a real voice, which is too large for all of the above.
REAL_EXPORT = (
    Case(
        "stateful decoder",
        lambda s: (
            check_stream_contract(s.pair, s.source),
            check_stream(s.tally, s.row, s.pair, s.source, s.source.cases["short"], *open_stream(s.pair)),
        ),
    ),
)

# Of the real voice, with its first export.
REAL_SOURCE = (
    Case(
        "durations and half precision",
        lambda s: check_extras(
            s.tally, s.source.label, s.binary, s.pair, s.source, s.source.cases["medium"], s.scratch / "extras"
        ),
    ),
)


def check_source(tally, binary, source, opsets, scratch):
    subject, first = Subject(tally, binary, source, scratch), None
    for opset in opsets:
        if subject.export(opset):
            first = first or (subject.pair, subject.opset, subject.row)
            subject.check(subject.row, [*FILES, *reference_values(source), *EXPORT])
    if first:
        subject.pair, subject.opset, subject.row = first
        subject.check(source.label, SOURCE)


def check_real(tally, binary, source, opsets, traced, scratch):
    """A real voice against PyTorch's values, and against the pair that PyTorch traced of it."""
    subject = Subject(tally, binary, source, scratch)
    for number, opset in enumerate(opsets):
        if subject.export(opset):
            subject.check(subject.row, [*FILES, *reference_values(source)])
            if number == 0:
                subject.check(source.label, REAL_SOURCE)
            subject.check(subject.row, REAL_EXPORT)
    with tally.check(f"{source.label}: internal noise, against the traced pair"):
        pair = binary.export(source.checkpoint, scratch / "internal")
        check_against_traced(pair, traced)
        written = json.loads((pair.directory / "config.json").read_text(encoding="utf-8"))
        assert written.pop("streaming", None) is True, 'config.json has no "streaming": true'
        expected = json.loads(next(source.checkpoint.parent.glob("*.onnx.json")).read_text(encoding="utf-8"))
        expected.pop("streaming", None)
        assert written == expected, "config.json is not the voice's own JSON"
