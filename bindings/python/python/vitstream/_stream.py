"""Speech in progress."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace, TracebackType
from typing import Any, AsyncIterator, Callable, Dict, Iterable, Iterator, List, Optional, Type, TypeVar

from . import _errors, _vitstream
from ._audio import _CODES, Chunk, Utterance
from ._forking import reading

_T = TypeVar("_T")

_NOTHING_TO_SAY = "there is nothing to say: expected a text with letters or digits"


def _piece(piece: object) -> str:
    if not isinstance(piece, str):
        raise TypeError(f"text: expected pieces of str, found {type(piece).__name__}")
    return piece


class _Text:
    """The sentences of a text that arrives in pieces."""

    def __init__(self, native: _vitstream.Voice, whole_sentences: bool) -> None:
        self._native, self._whole = native, whole_sentences
        self._stream: Optional[_vitstream.TextStream] = None

    def push(self, piece: object) -> List[str]:
        return self._opened().push(_piece(piece))

    def finish(self) -> List[str]:
        rest = self._opened().finish()
        return [] if rest is None else [rest]

    def read(self, sentence: str) -> List[Dict[str, Any]]:
        with reading:
            return self._native.read_sentence(sentence)

    def _opened(self) -> _vitstream.TextStream:
        if self._stream is None:
            with reading:
                self._stream = self._native.text_stream(self._whole)
        return self._stream


def of_pieces(native: _vitstream.Voice, pieces: Iterable[str], whole_sentences: bool) -> Iterator[Dict[str, Any]]:
    """The sentences of a text, each read only when needed."""
    text = _Text(native, whole_sentences)
    for piece in pieces:
        for sentence in text.push(piece):
            yield from text.read(sentence)
    for sentence in text.finish():
        yield from text.read(sentence)


async def of_arriving(
    native: _vitstream.Voice, pieces: AsyncIterator[str], whole_sentences: bool
) -> AsyncIterator[Dict[str, Any]]:
    """The same for a text whose pieces are awaited."""
    text = _Text(native, whole_sentences)
    async for piece in pieces:
        for sentence in await _aside(lambda piece=piece: text.push(piece)):
            for read in await _aside(lambda sentence=sentence: text.read(sentence)):
                yield read
    for sentence in await _aside(text.finish):
        for read in await _aside(lambda sentence=sentence: text.read(sentence)):
            yield read


async def _aside(work: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(None, work)


class Stream:
    """The chunks of a text, as an iterator and as an asynchronous one.

    Nothing is computed before a chunk is requested. Closing the stream, from any thread, stops the work within a chunk; so does
    leaving its ``with`` block, or cancelling the task that awaits a chunk. No chunks follow an exception.

    Several threads may request chunks; each chunk goes to one of them.
    """

    def __init__(
        self,
        native: _vitstream.Voice,
        sentences: Any,
        how: SimpleNamespace,
        silence: float,
        symbols: Callable[[], Dict[int, str]],
    ) -> None:
        self.sample_rate: int = native.sample_rate
        """The sample rate in hertz."""
        self.format: str = how.format
        """``"float32"`` or ``"int16"``."""
        self.utterances: List[Utterance] = []
        """The utterances so far."""
        self._native, self._how, self._symbols = native, how, symbols
        self._sync = sentences if hasattr(sentences, "__next__") else None
        self._async = None if self._sync is not None else sentences
        self._silence = round(silence * self.sample_rate)
        self._lock = threading.Lock()
        self._closed = False
        self._spoken = False
        self._current: Optional[_vitstream.Utterance] = None
        self._said: Dict[str, Any] = {}
        self._utterance: Optional[Utterance] = None
        #: Number of samples of silence that come next.
        self._pause = 0
        self._index = 0
        self._start = 0

    # One chunk

    def _begin(self, said: Dict[str, Any]) -> None:
        """Begins a sentence, preceded by any silence that is due."""
        rate = said.get("rate", 1.0)
        if said["ids"] or not said.get("pause"):
            self._current = self._native.utterance(said["ids"], rate, self._how)
        if self._spoken:
            self._pause += self._silence
        self._said, self._utterance, self._spoken = said, None, True
        if self._current is None:
            self._end()

    def _end(self) -> None:
        self._current = None
        self._pause += round(self._said.get("pause", 0.0) * self.sample_rate)

    def _made(self, samples: bytes, ready: float, last: bool, utterance: Optional[Utterance]) -> Chunk:
        chunk = Chunk._of(_CODES[self.format], samples, self.sample_rate, (utterance,) if utterance else ())
        chunk.index, chunk.start, chunk.ready, chunk.last = self._index, self._start, ready, last
        chunk.utterance = utterance
        self._index += 1
        self._start += len(chunk)
        return chunk

    def _computed(self) -> Optional[Chunk]:
        """The next chunk of the current sentence; ``None`` if a new sentence is needed."""
        if self._closed:
            return None
        if self._pause > 0:
            width = 4 if self.format == "float32" else 2
            samples, self._pause = bytes(width * self._pause), 0
            return self._made(samples, 0.0, True, None)
        current = self._current
        if current is None:
            return None
        found = current.next()
        if found is None:
            self._end()
            return self._computed() if self._pause else None
        samples, ready, last = found
        if self._utterance is None:
            said = self._said
            self._utterance = Utterance(
                text=said.get("text", ""),
                phonemes=said.get("phonemes", ()),
                ids=said["ids"],
                words=said.get("words", ()),
                start=self._start,
                samples=current.total_samples() or 0,
                durations=current.durations(),
                sample_rate=self.sample_rate,
                symbols=self._symbols(),
            )
            self.utterances.append(self._utterance)
        if last:
            self._end()
        return self._made(samples, ready, last, self._utterance)

    def _finish(self) -> None:
        """Ends the stream: there are no more sentences."""
        if self._closed:
            return
        self._closed = True
        if not self._spoken:
            raise _errors.made("request", _NOTHING_TO_SAY)

    def _failed(self, error: BaseException) -> bool:
        """True if the error only means that the stream was closed."""
        was_closed = self._closed
        self._closed = True
        self._current = None
        return was_closed and isinstance(error, _errors.Cancelled)

    def _next(self) -> Optional[Chunk]:
        with self._lock:
            try:
                while not self._closed:
                    chunk = self._computed()
                    if chunk is not None:
                        return chunk
                    said = next(self._sync, None)
                    if said is None:
                        self._finish()
                        return None
                    self._begin(said)
            except BaseException as error:
                if not self._failed(error):
                    raise
            return None

    # Iterating

    def __iter__(self) -> "Stream":
        if self._sync is None:
            raise TypeError("text: it is an asynchronous iterator, so the stream is one too: use `async for`")
        return self

    def __next__(self) -> Chunk:
        """The next chunk.

        Raises:
            Error: as ``Voice.stream``, and when the computation fails.
        """
        iter(self)
        chunk = self._next()
        if chunk is None:
            raise StopIteration
        return chunk

    def __aiter__(self) -> "Stream":
        return self

    async def __anext__(self) -> Chunk:
        """The next chunk, computed outside the event loop."""
        try:
            chunk = await (_aside(self._next) if self._sync is not None else self._next_arriving())
        except asyncio.CancelledError:
            self.close()
            raise
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    def _computed_locked(self) -> Optional[Chunk]:
        with self._lock:
            return self._computed()

    async def _next_arriving(self) -> Optional[Chunk]:
        try:
            while not self._closed:
                chunk = await _aside(self._computed_locked)
                if chunk is not None:
                    return chunk
                try:
                    said = await self._async.__anext__()
                except StopAsyncIteration:
                    self._finish()
                    return None
                with self._lock:
                    self._begin(said)
        except BaseException as error:
            if not self._failed(error):
                raise
        return None

    # Ending

    def close(self) -> None:
        """Stops the work, from any thread. A thread that waits for a chunk gets none."""
        self._closed = True
        current = self._current
        if current is not None:
            current.cancel()

    async def aclose(self) -> None:
        """The same, for asynchronous iteration."""
        self.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        self.close()
