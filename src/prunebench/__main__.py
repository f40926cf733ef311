"""`prunebench`, and `python -m prunebench`."""

from __future__ import annotations

import sys

from prunebench.core.errors import PrunebenchError, RunStoppedError


def main() -> None:
    """Run the command line; an error that the user can mend is one sentence."""
    from prunebench.cli.app import app

    try:
        app(prog_name="prunebench")
    except RunStoppedError as stopped:
        print(f"prunebench: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except PrunebenchError as error:
        print(f"prunebench: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
