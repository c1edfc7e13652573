"""The package's exceptions: one for each sort of failure, so that programs decide by class and messages stay free to improve."""

from __future__ import annotations

from typing import Optional


class Error(Exception):
    """Something failed. The message names the file it is about, what was expected, what was found, and what helps.

    ``kind`` is the sort of failure in a word, ``path`` the file or folder that it is about, ``remedy`` what helps, as the rest of
    a sentence; the last two are ``None`` when there is none.
    """

    kind: str = "internal"
    path: Optional[str] = None
    remedy: Optional[str] = None


class FileError(Error, OSError):
    """A file or folder could not be read or written."""

    kind = "io"


class InputError(Error, ValueError):
    """The input is damaged, or is no voice."""

    kind = "input"


class UnsupportedError(Error):
    """The input is a voice, another network, or a text that vitstream cannot handle."""

    kind = "unsupported"


class RequestError(Error, ValueError):
    """An argument makes no sense, or not for this voice."""

    kind = "request"


class OutputError(Error, OSError):
    """The output cannot be put where it was asked for."""

    kind = "output"


class ComputeError(Error, RuntimeError):
    """The runtime is not there, or failed while it computed."""

    kind = "runtime"


class Cancelled(Error):
    """The caller asked to stop."""

    kind = "interrupted"


class InternalError(Error, RuntimeError):
    """A defect of vitstream."""

    kind = "internal"


class PhonemizerError(Error, RuntimeError):
    """Nothing says how words sound: espeak-ng is not there, or did not answer."""

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
    """The exception for a failure of this kind."""
    error = _BY_KIND.get(kind, InternalError)(f"{message}; {remedy}" if remedy else message)
    error.path, error.remedy = path, remedy
    return error
