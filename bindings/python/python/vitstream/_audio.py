"""Samples."""

from __future__ import annotations

import array
import os
from typing import List, Optional, Sequence, Tuple, Union

from . import _vitstream

_CODES = {"float32": "f", "int16": "h"}


class Word:
    """A word, or several that are spoken as one, with its times in seconds from the first sample of the audio."""

    __slots__ = ("end", "start", "text")

    def __init__(self, text: str, start: float, end: float) -> None:
        self.text, self.start, self.end = text, start, end

    def __repr__(self) -> str:
        return f"Word({self.text!r}, {self.start:.3f}, {self.end:.3f})"


class Timing:
    """The times of a phoneme id, in seconds from the first sample of the audio.

    ``symbol`` is the phoneme of the id, or ``None`` if the voice's JSON has none.
    """

    __slots__ = ("end", "id", "start", "symbol")

    def __init__(self, id: int, symbol: Optional[str], start: float, end: float) -> None:
        self.id, self.symbol, self.start, self.end = id, symbol, start, end

    def __repr__(self) -> str:
        return f"Timing({self.id}, {self.symbol!r}, {self.start:.3f}, {self.end:.3f})"


class Utterance:
    """A unit of speech for the network: a sentence of a text, or given ids.

    ``text`` and ``phonemes`` are empty for ids. ``start`` and ``samples`` give its position and length in the audio's samples.
    """

    __slots__ = ("_durations", "_symbols", "_words", "ids", "phonemes", "sample_rate", "samples", "start", "text")

    def __init__(
        self,
        *,
        text: str,
        phonemes: Sequence[str],
        ids: Sequence[int],
        words: Sequence[Tuple[str, int, int]],
        start: int,
        samples: int,
        durations: Optional[Sequence[int]],
        sample_rate: int,
        symbols: dict,
    ) -> None:
        self.text, self.phonemes, self.ids = text, list(phonemes), list(ids)
        self.start, self.samples, self.sample_rate = start, samples, sample_rate
        self._words, self._durations, self._symbols = list(words), durations, symbols

    @property
    def durations(self) -> Optional[List[int]]:
        """Samples of each id; ``None`` if the voice does not provide them (``Voice.gives_durations``)."""
        return None if self._durations is None else list(self._durations)

    @property
    def timings(self) -> Optional[List[Timing]]:
        """The times of each id; ``None`` if the voice does not provide durations."""
        if self._durations is None:
            return None
        at = self._times()
        return [Timing(id, self._symbols.get(id), at[i], at[i + 1]) for i, id in enumerate(self.ids)]

    @property
    def words(self) -> Optional[List[Word]]:
        """The times of each word; ``None`` if the voice does not provide durations, empty for ids and phonemes."""
        if self._durations is None:
            return None
        at = self._times()
        last = len(at) - 1
        return [Word(text, at[min(first, last)], at[min(end, last)]) for text, first, end in self._words]

    def _times(self) -> List[float]:
        # A microsecond is far less than a sample.
        sample = self.start
        times = [round(sample / self.sample_rate, 6)]
        for duration in self._durations or ():
            sample += duration
            times.append(round(sample / self.sample_rate, 6))
        return times

    def __repr__(self) -> str:
        return f"Utterance({self.text!r}, {len(self.ids)} ids, {self.samples} samples from {self.start} on)"


class Audio(array.array):
    """Mono samples: an ``array.array`` of float32 (about -1 to 1) or int16, which can be used wherever a buffer is accepted.

    ``memoryview(audio)``, ``numpy.asarray(audio)`` and ``file.write(audio)`` copy nothing. ``sample_rate`` is in hertz.
    ``utterances`` lists the utterances in it, with their times.
    """

    sample_rate: int
    utterances: Tuple[Utterance, ...]

    @classmethod
    def _of(cls, code: str, samples: bytes, sample_rate: int, utterances: Tuple[Utterance, ...]) -> "Audio":
        made = cls(code, samples)
        made.sample_rate, made.utterances = sample_rate, utterances
        return made

    @property
    def seconds(self) -> float:
        """The duration in seconds."""
        return len(self) / self.sample_rate

    @property
    def format(self) -> str:
        """``"float32"`` or ``"int16"``."""
        return "float32" if self.typecode == "f" else "int16"

    def pcm(self) -> bytes:
        """The samples as signed 16-bit little-endian bytes. Values beyond -1 and 1 are clipped."""
        return _vitstream.pcm(self.tobytes()) if self.typecode == "f" else self.tobytes()

    def wav(self) -> bytes:
        """A 16-bit WAV file."""
        return _vitstream.wav_header(self.sample_rate, len(self)) + self.pcm()

    def save(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """Writes a 16-bit WAV file, completely or not at all.

        Raises:
            FileError: when the file cannot be written.
        """
        _vitstream.write_file(path, self.wav())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples, {self.format}, {self.sample_rate} hertz)"


class Chunk(Audio):
    """A piece of a stream: samples as soon as they are ready.

    Attributes:
        index: its index among the stream's chunks, from 0.
        start: number of the stream's samples before it.
        ready: seconds from the start of the utterance's computation to this chunk.
        last: true if its utterance ends with it.
        utterance: its utterance; ``None`` for silence between sentences.
    """

    index: int
    start: int
    ready: float
    last: bool
    utterance: Optional[Utterance]

    def __repr__(self) -> str:
        return f"Chunk({self.index}: {len(self)} samples from {self.start} on, {self.format}, {self.sample_rate} hertz)"
