"""Errors that a user can mend: one sentence each, printed without a traceback."""

from __future__ import annotations

import errno
from typing import Any

LONGEST_VALUE = 60  # characters of a value shown in an error


def shown(value: Any) -> str:
    """Return a value as Python writes it, shortened if it is long.

    >>> shown(0.5), shown("a" * 100)[-5:], shown(10**5000)
    ('0.5', 'aaaa…', 'int')
    """
    try:
        text = repr(value)
    except ValueError:  # a whole number with thousands of digits
        text = type(value).__name__
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def cannot(do: str, error: OSError) -> str:
    """Return what cannot be done to a file, the system's reason, and what helps.

    >>> cannot("be read", OSError(errno.EACCES, "Permission denied"))
    'cannot be read (Permission denied); change its permissions or its owner'
    """
    advice = _ADVICE.get(error.errno or 0)
    return f"cannot {do} ({error.strerror or error})" + (f"; {advice}" if advice else "")


_SPACE = "free some space"
_RIGHTS = "change its permissions or its owner"
_FILE_IN_PLACE = "a file is in the place of a folder: move it away"
_FILES = "raise the limit of open files (`ulimit -n`)"
_ADVICE = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EROFS: "mount its file system for writing, or use another folder",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EISDIR: "a folder is in the place of this file: move it away",
    errno.ENOTDIR: _FILE_IN_PLACE,
    errno.EEXIST: _FILE_IN_PLACE,
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.EIO: "check the disk",
}


def in_one_line(error: BaseException) -> str:
    r"""Return the first line of an exception's message, or its type if it has none.

    >>> in_one_line(RuntimeError("size mismatch\n  in layer 1")), in_one_line(AssertionError())
    ('size mismatch', 'AssertionError')
    """
    lines = [line.strip() for line in str(error).splitlines()]
    return next(filter(None, lines), type(error).__name__)


class PrunebenchError(Exception):
    """Base of every error whose message alone tells the user what to change."""


class ConfigError(PrunebenchError):
    """A configuration file, an override or a command line asks for something impossible."""


class DataError(PrunebenchError):
    """A data set's file is missing, damaged or of the wrong shape."""


class ModelError(PrunebenchError):
    """A network cannot be built, traced, loaded or pruned as asked."""


class RemovalError(ModelError):
    """A network without the removed units does not compute what it does with masked ones."""


class MethodError(PrunebenchError):
    """A method breaks its contract: a score that is not finite, a group without any unit left."""


class TrainingError(PrunebenchError):
    """Training cannot go on: a loss that is not finite, a layer without channels."""


class ResultError(PrunebenchError):
    """A result file is missing, damaged or belongs to another specification."""


class RunStoppedError(PrunebenchError):
    """A signal has ended a run; its checkpoint is written."""

    def __init__(self, number: int, phase: str, clock: int) -> None:
        super().__init__(
            f"stopped by signal {number} in phase {phase} before step {clock}; "
            "the same command goes on from there"
        )
        self.number = number
