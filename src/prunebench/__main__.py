"""`prunebench`, and `python -m prunebench`."""

from __future__ import annotations

import sys

from prunebench.core.errors import PrunebenchError, RunStoppedError


def main() -> None:
    """Run the command line; an error that the user can mend is one sentence."""
    import typer

    from prunebench.cli.app import app

    # Where typer's errors of usage are defined depends on its version.
    usage_error: type[Exception] = typer.BadParameter.__bases__[0]
    try:
        sys.exit(app(sys.argv[1:] or ["--help"], prog_name="prunebench", standalone_mode=False))
    except RunStoppedError as stopped:
        print(f"prunebench: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except PrunebenchError as error:
        sys.exit(f"prunebench: {error}")
    except typer.Abort:
        sys.exit("prunebench: stopped")
    except usage_error as error:
        print(f"prunebench: {_usage_sentence(error)}", file=sys.stderr)
        sys.exit(2)


def _usage_sentence(error: Exception) -> str:
    """Put the parser's complaint and the command that explains more into one sentence."""
    message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
    command = " ".join(["prunebench", *sys.argv[1:2]] if sys.argv[1][0] != "-" else ["prunebench"])
    if message.startswith("No such command"):
        command = "prunebench"
    stop = "" if message.endswith("?") else ";"
    return f"{message[0].lower()}{message[1:]}{stop} `{command} --help` explains all"


if __name__ == "__main__":
    main()
