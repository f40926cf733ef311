"""Run the command line in this process; errors that a user can fix are one line."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import typer

from prunebench.cli.app import app
from prunebench.core.errors import PrunebenchError, RunStoppedError, cannot

# The module that defines typer's usage errors depends on its version.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class _TerminatedError(BaseException):
    """SIGTERM arrived outside of training, which listens to it itself."""


def run(arguments: list[str]) -> None:
    """Run `prunebench` with these arguments and exit with its status."""
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        _run(arguments)
    finally:
        signal.signal(signal.SIGTERM, before)
        _drop_unwritten()


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise _TerminatedError


def _run(arguments: list[str]) -> None:
    try:
        status = app(arguments or ["--help"], prog_name="prunebench", standalone_mode=False)
        if status == 128 + signal.SIGINT:
            _say_stopped()
        sys.exit(status)
    except RunStoppedError as stopped:
        print(f"prunebench: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except PrunebenchError as error:
        sys.exit(f"prunebench: {error}")
    except OSError as error:
        place = error.filename if error.filename is not None else "output"
        sys.exit(f"prunebench: {place}: {cannot('be used', error)}")
    except (typer.Abort, KeyboardInterrupt):
        _say_stopped()
        sys.exit(128 + signal.SIGINT)
    except _TerminatedError:
        _say_stopped()
        sys.exit(128 + signal.SIGTERM)
    except UsageError as error:
        print(f"prunebench: {_usage_sentence(error, arguments)}", file=sys.stderr)
        sys.exit(2)


def _say_stopped() -> None:
    """Print the line by which `status` knows a run that was stopped from one that failed."""
    print("prunebench: stopped", file=sys.stderr)


def _drop_unwritten() -> None:
    """Let Python end without an error of its own if the output cannot be written."""
    for stream, number in ((sys.stdout, 1), (sys.stderr, 2)):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)


def _usage_sentence(error: Exception, arguments: list[str]) -> str:
    """Return the parser's message and the command that shows the usage, in one line."""
    message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    is_general = arguments[0].startswith("-") or message.startswith("No such command")
    command = "prunebench" if is_general else f"prunebench {arguments[0]}"
    stop = "" if message.endswith("?") else ";"
    return f"{message[0].lower()}{message[1:]}{stop} see `{command} --help`"
