"""The log of a run: what all attempts at it have printed, one after the other.

Snakemake deletes the log of a job whenever it starts the job, also while an earlier job of the run
still writes there. The log of a run therefore belongs to the program, which only appends to it.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunebench.core.errors import PrunebenchError, ResultError, cannot
from prunebench.core.files import make_folder
from prunebench.training.launch import is_first_process
from prunebench.training.progress import Progress


@contextmanager
def run_log(logs: Path | None, path: str, progress: Progress) -> Iterator[None]:
    """Append what is printed within the block, and its error, to `<logs>/<path>.log`.

    `path` is the path of a run or base network; None for `logs` changes nothing. The output before
    the block names the log. A log that cannot be written is named there, too, and ends no training.
    """
    if logs is None:
        yield
        return
    log = logs / f"{path}.log"
    try:
        make_folder(log.parent)
        number = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except (OSError, ResultError) as error:
        words = cannot("be written", error) if isinstance(error, OSError) else error
        progress.say(f"{log}: {words}; the output follows here")
        yield
        return
    if is_first_process():
        progress.say(f"the output goes to {log}")
    with _output_to(number):
        try:
            yield
        except PrunebenchError as error:
            with suppress(OSError):
                print(f"prunebench: {error}", file=sys.stderr, flush=True)
            raise
        except Exception:
            with suppress(OSError):
                traceback.print_exc()
            raise


@contextmanager
def _output_to(number: int) -> Iterator[None]:
    """Send what this process and its children print to an open file, which is closed at the end."""
    sys.stdout.flush()
    sys.stderr.flush()
    before = [os.dup(stream) for stream in (1, 2)]
    for stream in (1, 2):
        os.dup2(number, stream)
    os.close(number)
    try:
        yield
    finally:
        with suppress(OSError):  # the disk may be full
            sys.stdout.flush()
            sys.stderr.flush()
        for stream, old in zip((1, 2), before, strict=True):
            os.dup2(old, stream)
            os.close(old)
