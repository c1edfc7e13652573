"""A voice that speaks."""

from __future__ import annotations

import json
import numbers
import os
import sys
from types import SimpleNamespace, TracebackType
from typing import (
    Any,
    AsyncIterator,
    Dict,
    Iterable,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Sequence,
    Tuple,
    Type,
    Union,
)

from . import _errors, _vitstream
from ._audio import _CODES, Audio
from ._forking import reading
from ._stream import Stream, of_arriving, of_pieces

StrPath = Union[str, "os.PathLike[str]"]
Source = Union[StrPath, bytes, bytearray, memoryview]

#: Limit on a pause: a longer one is a mistake.
_LONGEST_SILENCE = 60.0

#: No machine can use more threads than this.
_MOST_THREADS = 256


class Scales(NamedTuple):
    """The default scales of a voice, from its JSON."""

    noise: float
    length: float
    noise_w: float


class Clause(NamedTuple):
    """A clause of a sentence, its pronunciation, and the mark after it."""

    text: str
    ipa: str
    mark: str


class Sentence:
    """A sentence as read by a voice.

    Attributes:
        text: the sentence.
        phonemes: its phonemes, or the characters of a voice that reads characters.
        ids: the input of the network.
        missing: phonemes without an id, which are left out.
        replaced: phonemes that the voice spells differently, with the voice's spelling.
        clauses: its clauses.
        words: its words, each with its range of ``ids``.
        rate: rate of speech; 1 is the voice's own.
        pause: silence after it, in seconds.
    """

    __slots__ = ("clauses", "ids", "missing", "pause", "phonemes", "rate", "replaced", "text", "words")

    def __init__(self, read: Dict[str, Any]) -> None:
        self.text: str = read["text"]
        self.phonemes: List[str] = read["phonemes"]
        self.ids: List[int] = read["ids"]
        self.missing: List[str] = read["missing"]
        self.replaced: Dict[str, str] = read["replaced"]
        self.clauses: List[Clause] = [Clause(*clause) for clause in read["clauses"]]
        self.words: List[Tuple[str, range]] = [(text, range(first, end)) for text, first, end in read["words"]]
        self.rate: float = read["rate"]
        self.pause: float = read["pause"]

    def __repr__(self) -> str:
        return f"Sentence({self.text!r}, {''.join(self.phonemes)!r}, {len(self.ids)} ids)"


def _source(source: Source, name: Optional[str], config: object) -> Tuple[object, Optional[str]]:
    """The voice in the form of the native side, and the path of its JSON."""
    if isinstance(source, (str, os.PathLike)):
        if name is not None:
            raise TypeError("name: it is for contents in memory, a path has one")
        if isinstance(config, Mapping):
            raise TypeError("config: a voice on disk takes the path of its JSON, expected str or a path, found a mapping")
        return os.fspath(source), None if config is None else os.fspath(config)  # type: ignore[call-overload]
    if not isinstance(source, (bytes, bytearray, memoryview)):
        raise TypeError(f"source: expected a path or the bytes of a file, found {type(source).__name__}")
    beside: Dict[str, bytes] = {}
    path: Optional[str] = None
    if isinstance(config, Mapping):
        beside["config.json"] = json.dumps(config).encode()
    elif config is not None:
        path = os.fspath(config)  # type: ignore[call-overload]
    return (name or "contents in memory", bytes(source), beside), path


_KINDS = {"a whole number": numbers.Integral, "a number": numbers.Real}


def _checked(words: str, **given: object) -> None:
    """Raises a ``TypeError`` for arguments of the wrong type."""
    for name, value in given.items():
        is_one = isinstance(value, _KINDS[words]) and not isinstance(value, bool)
        if value is not None and not is_one:
            raise TypeError(f"{name}: expected {words}, found {type(value).__name__}")


def _hparams(hparams: Optional[Mapping[str, object]]) -> List[str]:
    def shown(value: object) -> str:
        if isinstance(value, (list, tuple)) and not any(isinstance(item, (list, tuple)) for item in value):
            return ",".join(str(item) for item in value)
        return str(value)

    return [f"{name}={shown(value)}" for name, value in (hparams or {}).items()]


def _read(
    config: Optional[str],
    hparams: Optional[Mapping[str, object]],
    weights: Optional[str],
    allow_nan: bool,
    memory_budget: Optional[int],
) -> SimpleNamespace:
    return SimpleNamespace(
        config=config, hparams=_hparams(hparams), weights=weights, allow_nan=allow_nan, memory_budget=memory_budget
    )


def _wall() -> Optional[Tuple[str, List[str]]]:
    """The program whose processes run strangers' graphs."""
    return (sys.executable, ["-m", "vitstream._graph_worker"]) if sys.executable else None


class Voice:
    """A voice. Any number of threads may use it at the same time; the interpreter's lock is released while it computes.

    A voice that was opened natively with one thread, which is the default, continues to work in a forked process. Other
    voices raise an error there, saying that they must be opened again.
    """

    __slots__ = ("_native", "_symbols")

    def __init__(self, native: _vitstream.Voice) -> None:
        self._native = native
        self._symbols: Optional[Dict[int, str]] = None

    @classmethod
    def open(
        cls,
        source: Source,
        *,
        name: Optional[str] = None,
        config: Union[StrPath, Mapping[str, Any], None] = None,
        hparams: Optional[Mapping[str, object]] = None,
        weights: Optional[str] = None,
        allow_nan: bool = False,
        memory_budget: Optional[int] = None,
        sample_rate: Optional[int] = None,
        backend: str = "auto",
        threads: int = 1,
        decoder: str = "auto",
        library: Optional[StrPath] = None,
        espeak: Optional[str] = None,
        phonemizer: Optional[str] = None,
        lexicon: Optional[StrPath] = None,
        markdown: bool = False,
    ) -> "Voice":
        """Opens a voice: an exported folder, any file that ``export`` reads, or the bytes of such a file.

        Args:
            source: a path, or the contents of a file.
            name: a name for contents in memory, used in messages.
            config: the path of the voice's JSON or of its training's config.json, if it is not next to the file under the
                usual name; for contents in memory also the JSON itself, as a dict.
            hparams: hyper-parameters that a checkpoint does not state, or states wrongly, such as
                ``{"upsample_rates": [8, 8, 4]}``.
            weights: ``"raw"`` or ``"ema"``, for a checkpoint that has both.
            allow_nan: accept weights that are infinite or NaN.
            memory_budget: bytes that the file's tensors may take; by default twice the file's size plus 64 MiB.
            sample_rate: the sample rate in hertz, for a voice whose files do not state it.
            backend: ``"native"``, vitstream's own engine; ``"rten"`` or ``"onnxruntime"``, which run the graphs of an exported
                folder in separate processes; ``"auto"`` is native where possible.
            threads: 1 to 256. The number does not change native audio.
            decoder: ``"auto"``, ``"stateful"`` or ``"windowed"``, for backends that run graphs.
            library: ONNX Runtime's shared library, if it is not where it is usually found.
            espeak: the espeak-ng library to use, ``LIBRARY`` or ``LIBRARY:DATA``; by default the one in the environment
                variable ``VITSTREAM_ESPEAK``, else the system's, else the program ``espeak-ng``.
            phonemizer: a program to use as phonemizer instead.
            lexicon: a file of pronunciations.
            markdown: remove Markdown from texts.

        Raises:
            Error: ``FileError``, ``InputError`` or ``UnsupportedError`` when the voice cannot be read; ``RequestError`` when an
                argument is not valid, or the sample rate is unknown; ``ComputeError`` when the backend is not available.
            TypeError: when an argument has the wrong type.
        """
        native, path = _source(source, name, config)
        _checked("a whole number", threads=threads, sample_rate=sample_rate, memory_budget=memory_budget)
        if not 1 <= threads <= _MOST_THREADS:
            raise _errors.made("request", f"threads: expected 1 to {_MOST_THREADS}, found {threads}")
        if espeak is not None and phonemizer is not None:
            raise _errors.made("request", "espeak and phonemizer are both given: expected one of them")
        return cls(
            _vitstream.Voice(
                native,
                _read(path, hparams, weights, allow_nan, memory_budget),
                SimpleNamespace(
                    backend=backend,
                    threads=threads,
                    sample_rate=sample_rate,
                    decoder=decoder,
                    library=library,
                    wall=_wall(),
                ),
                SimpleNamespace(espeak=espeak, phonemizer=phonemizer, lexicon=lexicon, markdown=markdown),
            )
        )

    # Properties

    @property
    def sample_rate(self) -> int:
        """The sample rate in hertz."""
        return self._native.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples per frame: durations and chunks are multiples of it."""
        return self._native.hop_length

    @property
    def speakers(self) -> int:
        """The number of speakers."""
        return self._native.speakers

    @property
    def speaker_ids(self) -> Dict[str, int]:
        """The speakers' numbers by their names."""
        return self._native.speaker_ids

    @property
    def symbols(self) -> Optional[int]:
        """The number of phoneme ids; ids are less than this."""
        return self._native.symbols

    @property
    def scales(self) -> Scales:
        """The scales used when the caller gives none."""
        return Scales(*self._native.scales)

    @property
    def config(self) -> Dict[str, Any]:
        """The voice's JSON; empty when there is none."""
        return json.loads(self._native.config())

    @property
    def backend(self) -> str:
        """The backend in use: ``"native"``, ``"rten"`` or ``"onnxruntime"``."""
        return self._native.backend

    @property
    def warnings(self) -> List[str]:
        """Warnings about its files."""
        return self._native.warnings

    @property
    def gives_durations(self) -> bool:
        """True if the length of each phoneme is known: always for native voices, for others if exported with durations."""
        return self._native.gives_durations

    @property
    def phonemizer(self) -> Optional[Tuple[str, str]]:
        """The phonemizer: library or program, and version; ``None`` for a voice that reads letters.

        Raises:
            PhonemizerError: when one is needed but none is found.
        """
        with reading:
            return self._native.phonemizer()

    # Speaking

    def phonemize(self, text: str, *, ssml: bool = False) -> List[Sentence]:
        """Returns how the voice reads a text: sentences with phonemes and ids.

        Raises:
            RequestError: when the voice cannot read text, or the text has a NUL.
            UnsupportedError: when its phonemes are not supported.
            PhonemizerError: when there is no espeak-ng, or it does not answer.
        """
        with reading:
            return [Sentence(read) for read in self._native.read(text, ssml)]

    def stream(
        self,
        text: Union[str, Iterable[str], AsyncIterator[str], None] = None,
        *,
        ids: Optional[Sequence[int]] = None,
        phonemes: Optional[str] = None,
        ssml: bool = False,
        speaker: Union[int, str, None] = None,
        length_scale: Optional[float] = None,
        noise_scale: Optional[float] = None,
        noise_w: Optional[float] = None,
        seed: Optional[int] = None,
        volume: float = 1.0,
        format: str = "float32",
        chunk: Optional[int] = None,
        sentence_silence: float = 0.0,
        whole_sentences: bool = False,
    ) -> Stream:
        """Speaks a text, phonemes or ids, chunk by chunk: the first one comes long before the last.

        Args:
            text: a text; or an iterator of pieces of one, such as a language model's tokens, which is spoken while it arrives,
                sentence by sentence. An asynchronous iterator makes a stream for ``async for``.
            ids: the phoneme ids of one utterance, at most 5,000, instead of a text.
            phonemes: the phonemes of one utterance: IPA, or the characters of a voice that reads characters.
            ssml: the text is SSML.
            speaker: number or name; the first one by default.
            length_scale: slowness of speech, 0.05 to 20; the default, as for the next two, is from the voice's JSON.
            noise_scale: variation of the voice, 0 to 5.
            noise_w: variation of the durations, 0 to 2.
            seed: makes the noise reproducible; each sentence is spoken as it would be alone.
            volume: factor for all samples, 0 to 100. Samples of int16 are clipped, those of float32 are not.
            format: ``"float32"``, about -1 to 1, or ``"int16"``.
            chunk: frames of each chunk; by default small first, then growing.
            sentence_silence: seconds of silence between sentences.
            whole_sentences: do not divide a long first sentence of arriving text at a comma, which makes it heard sooner.

        Raises:
            RequestError: when an argument is not valid for this voice, or the voice is closed.
            TypeError: when an argument has the wrong type.
            The stream raises these too, because texts are read only when needed, and the exceptions of ``phonemize``.
        """
        said = [name for name, given in (("text", text), ("ids", ids), ("phonemes", phonemes)) if given is not None]
        if len(said) != 1:
            raise TypeError(f"expected one of text, ids and phonemes, found {' and '.join(said) or 'none'}")
        if format not in _CODES:
            raise _errors.made("request", f"format: expected float32 or int16, found {format!r}")
        scales = dict(length_scale=length_scale, noise_scale=noise_scale, noise_w=noise_w)
        _checked("a number", **scales, volume=volume, sentence_silence=sentence_silence)
        _checked("a whole number", seed=seed, chunk=chunk)
        if isinstance(speaker, bool) or not isinstance(speaker, (numbers.Integral, str, type(None))):
            raise TypeError(f"speaker: expected a number or a name, found {type(speaker).__name__}")
        if seed is not None and not 0 <= seed < 1 << 64:
            raise _errors.made("request", f"seed: expected 0 to 2^64 - 1, found {seed}")
        if chunk is not None and not 1 <= chunk < 1 << 32:
            raise _errors.made("request", f"chunk: expected at least 1 frame, found {chunk}")
        if not 0.0 <= sentence_silence <= _LONGEST_SILENCE:
            raise _errors.made(
                "request", f"sentence_silence: expected 0 to {_LONGEST_SILENCE:g} seconds, found {sentence_silence}"
            )
        how = SimpleNamespace(
            speaker=speaker,
            noise_scale=noise_scale,
            length_scale=length_scale,
            noise_w=noise_w,
            seed=seed,
            chunk=chunk,
            format=format,
            volume=volume,
        )
        native = self._native
        sentences: Any
        if ids is not None:
            sentences = iter([{"ids": list(ids)}])
        elif phonemes is not None:
            if ssml:
                raise TypeError("ssml: it is for text, and phonemes are given")
            with reading:
                sentences = iter([native.read_phonemes(phonemes)])
        elif isinstance(text, str):
            if ssml:
                with reading:
                    sentences = iter(native.read(text, True))
            else:
                sentences = of_pieces(native, (text,), True)
        elif ssml:
            raise TypeError("ssml: a text of SSML is read whole, expected str")
        elif isinstance(text, (bytes, bytearray, memoryview)):
            raise TypeError(f"text: expected str, found {type(text).__name__}; decode it first")
        elif hasattr(text, "__aiter__"):
            sentences = of_arriving(native, text.__aiter__(), whole_sentences)  # type: ignore[union-attr]
        elif hasattr(text, "__iter__"):
            sentences = of_pieces(native, iter(text), whole_sentences)  # type: ignore[arg-type]
        else:
            raise TypeError(f"text: expected str or an iterator of str, found {type(text).__name__}")
        # Problems with the arguments are reported now and not with the first chunk.
        native.check(how)
        return Stream(native, sentences, how, sentence_silence, self._symbols_by_id)

    def synthesize(
        self,
        text: Union[str, Iterable[str], None] = None,
        *,
        ids: Optional[Sequence[int]] = None,
        phonemes: Optional[str] = None,
        ssml: bool = False,
        speaker: Union[int, str, None] = None,
        length_scale: Optional[float] = None,
        noise_scale: Optional[float] = None,
        noise_w: Optional[float] = None,
        seed: Optional[int] = None,
        volume: float = 1.0,
        format: str = "float32",
        chunk: Optional[int] = None,
        sentence_silence: float = 0.0,
    ) -> Audio:
        """Speaks a text, phonemes or ids and returns all samples at once; arguments and exceptions as in ``stream``."""
        with self.stream(
            text,
            ids=ids,
            phonemes=phonemes,
            ssml=ssml,
            speaker=speaker,
            length_scale=length_scale,
            noise_scale=noise_scale,
            noise_w=noise_w,
            seed=seed,
            volume=volume,
            format=format,
            chunk=chunk,
            sentence_silence=sentence_silence,
            whole_sentences=True,
        ) as stream:
            samples = b"".join(memoryview(part).cast("B") for part in stream)
            return Audio._of(_CODES[format], samples, stream.sample_rate, tuple(stream.utterances))

    def _symbols_by_id(self) -> Dict[int, str]:
        if self._symbols is None:
            ids = self.config.get("phoneme_id_map")
            symbols: Dict[int, str] = {}
            for symbol, of_symbol in (ids if isinstance(ids, dict) else {}).items():
                for id in of_symbol if isinstance(of_symbol, list) else [of_symbol]:
                    symbols.setdefault(id, symbol)
            self._symbols = symbols
        return self._symbols

    # Ending

    def close(self) -> None:
        """Releases its memory once no stream uses it any more. Later calls raise ``RequestError``."""
        self._native.close()

    @property
    def closed(self) -> bool:
        """True if it was closed."""
        return self._native.closed

    def __enter__(self) -> "Voice":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self.closed:
            return "<vitstream.Voice, closed>"
        return f"<vitstream.Voice, {self.backend}, {self.sample_rate} hertz, {self.speakers} speakers>"
