"""The command line in this process: an error that the user can mend is one sentence."""

from __future__ import annotations

import sys

import typer

from prunebench.cli.app import app
from prunebench.core.errors import PrunebenchError, RunStoppedError

# Where typer's errors of usage are defined depends on its version.
UsageError: type[Exception] = typer.BadParameter.__bases__[0]


def run(arguments: list[str]) -> None:
    """Run `prunebench` with these arguments, and exit with its status."""
    try:
        sys.exit(app(arguments or ["--help"], prog_name="prunebench", standalone_mode=False))
    except RunStoppedError as stopped:
        print(f"prunebench: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except PrunebenchError as error:
        sys.exit(f"prunebench: {error}")
    except typer.Abort:
        sys.exit("prunebench: stopped")
    except UsageError as error:
        print(f"prunebench: {_usage_sentence(error, arguments)}", file=sys.stderr)
        sys.exit(2)


def _usage_sentence(error: Exception, arguments: list[str]) -> str:
    """Put the parser's complaint and the command that explains more into one sentence."""
    message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    command = " ".join(["prunebench", *arguments[:1]] if arguments[0][0] != "-" else ["prunebench"])
    if message.startswith("No such command"):
        command = "prunebench"
    stop = "" if message.endswith("?") else ";"
    return f"{message[0].lower()}{message[1:]}{stop} `{command} --help` explains all"
