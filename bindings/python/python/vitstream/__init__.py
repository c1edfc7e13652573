"""A trained VITS / Piper voice, streamed: with the first sound after a twentieth of a second, on one core.

>>> import vitstream
>>> voice = vitstream.Voice.open("joe/voice")                     # doctest: +SKIP
>>> for chunk in voice.stream("Hello. It speaks."):               # doctest: +SKIP
...     loudspeaker.write(chunk)

``vitstream.piper`` provides the classes of the package ``piper-tts``.
"""

from ._audio import Audio, Chunk, Timing, Utterance, Word
from ._errors import (
    Cancelled,
    ComputeError,
    Error,
    FileError,
    InputError,
    InternalError,
    OutputError,
    PhonemizerError,
    RequestError,
    UnsupportedError,
)
from ._files import ProgressCallback, Report, export, inspect, verify
from ._stream import Stream
from ._vitstream import VERSION as __version__
from ._voice import Clause, Scales, Sentence, Voice

__all__ = [
    "Audio",
    "Cancelled",
    "Chunk",
    "Clause",
    "ComputeError",
    "Error",
    "FileError",
    "InputError",
    "InternalError",
    "OutputError",
    "PhonemizerError",
    "ProgressCallback",
    "Report",
    "RequestError",
    "Scales",
    "Sentence",
    "Stream",
    "Timing",
    "UnsupportedError",
    "Utterance",
    "Voice",
    "Word",
    "__version__",
    "export",
    "inspect",
    "verify",
]

