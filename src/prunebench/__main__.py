"""`prunebench`, and `python -m prunebench`."""

from __future__ import annotations

import signal
import sys

from prunebench.cli import forkserver


def main() -> None:
    """Run the command line: here, or in a child of the workflow's server."""
    try:
        status = forkserver.run(sys.argv[1:])
        if status is not None:
            sys.exit(status)
        from prunebench.cli import command

        command.run(sys.argv[1:])
    except KeyboardInterrupt:  # while modules are imported
        print("prunebench: stopped", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
