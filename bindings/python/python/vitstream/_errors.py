"""The package's exceptions: one class for each kind of error, so that programs do not depend on messages."""

from __future__ import annotations

from typing import Optional


class Error(Exception):
    """An error. The message names the file concerned, what was expected, what was found, and what helps.

    ``kind`` is the kind of error as a word, ``path`` the file or folder concerned, and ``remedy`` a remedy as the rest of a
    sentence; the last two may be ``None``.
    """

    kind: str = "internal"
    path: Optional[str] = None
    remedy: Optional[str] = None


class FileError(Error, OSError):
    """A file or folder could not be read or written."""

    kind = "io"


class InputError(Error, ValueError):
    """The input is damaged, or is not a voice."""

    kind = "input"


class UnsupportedError(Error):
    """The input is a voice, another network, or a text that vitstream does not support."""

    kind = "unsupported"


class RequestError(Error, ValueError):
    """An argument is not valid, or not valid for this voice."""

    kind = "request"


class OutputError(Error, OSError):
    """The output cannot be written to the requested place."""

    kind = "output"


class ComputeError(Error, RuntimeError):
    """The runtime is not available, or failed while computing."""

    kind = "runtime"


class Cancelled(Error):
    """The caller asked to stop."""

    kind = "interrupted"


class InternalError(Error, RuntimeError):
    """A bug in vitstream."""

    kind = "internal"


class PhonemizerError(Error, RuntimeError):
    """No pronunciation is available: espeak-ng is missing, or did not answer."""

    kind = "phonemizer"


_BY_KIND = {
    made.kind: made
    for made in (
        FileError,
        InputError,
        UnsupportedError,
        RequestError,
        OutputError,
        ComputeError,
        Cancelled,
        InternalError,
        PhonemizerError,
    )
}


def made(kind: str, message: str, path: Optional[str] = None, remedy: Optional[str] = None) -> Error:
    """The exception for an error of this kind."""
    error = _BY_KIND.get(kind, InternalError)(f"{message}; {remedy}" if remedy else message)
    error.path, error.remedy = path, remedy
    return error
