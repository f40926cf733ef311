"""One writer of a folder at a time, on all hosts that share its file system.

The lock is a lease of the library filelock: a file that only one process can create, which holds
host and process, and whose time the holder renews. It needs no locks of the file system. A waiting
process takes over at once from a dead process of its own host, and from another host when it has
seen no renewal for `LEASE_S` by its own clock, so clocks need not agree.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import gethostname
from typing import NamedTuple

from filelock import LeaseCompromise, SoftFileLease, Timeout

from prunebench.core.errors import ResultError, cannot
from prunebench.core.files import make_folder, read_json, write_json

LEASE_S = 60.0  # renewed three times in that time
POLL_S = 0.5
LOCK_FILE, RECORD_FILE = ".writer.lock", ".writer.json"


class Writer(NamedTuple):
    """The process that holds a folder's lock, or has left it behind."""

    host: str
    pid: int
    slurm_job: str | None
    renewed_s: float  # seconds since the lock was renewed, by this host's clock

    @property
    def is_alive(self) -> bool:
        """Whether the process runs or, on another host, has renewed its lock lately."""
        if self.host == gethostname() and not _runs(self.pid):
            return False
        return self.renewed_s < 2 * LEASE_S

    def __str__(self) -> str:
        job = f", SLURM job {self.slurm_job}" if self.slurm_job else ""
        return f"process {self.pid} on {self.host}{job}"


def writer_of(folder: Path) -> Writer | None:
    """Return the process whose lock is in a folder, dead or alive; None without a lock."""
    try:
        renewed_s = time.time() - (folder / LOCK_FILE).stat().st_mtime
        stored = read_json(folder / RECORD_FILE)
        return Writer(stored["host"], stored["pid"], stored["slurm_job"], renewed_s)
    except (OSError, ResultError, KeyError, TypeError):  # nobody, or not yet recorded
        return None


@contextmanager
def only_writer(folder: Path, say: Callable[[str], None], *, at_once: bool) -> Iterator[bool]:
    """Hold the lock of a folder; yield whether another process held it before.

    `say` gets a sentence about the wait: with `at_once` when it begins, otherwise when it is over,
    so that the waiting process does not write into the log of the other one. If the lock is lost,
    as by a process that was suspended while another one waited, this process ends at once: two
    would write the same files. ResultError if the lock cannot be created.
    """
    make_folder(folder)
    lock = SoftFileLease(
        folder / LOCK_FILE,
        lease_duration=LEASE_S,
        on_compromise=_end_process,
        thread_local=False,
    )
    waited = _acquire(lock, folder, say, at_once=at_once)
    try:
        own = {"host": gethostname(), "pid": os.getpid()}
        write_json(folder / RECORD_FILE, own | {"slurm_job": os.environ.get("SLURM_JOB_ID")})
        yield waited
    finally:
        with suppress(OSError):
            (folder / RECORD_FILE).unlink(missing_ok=True)
        lock.release()


def _acquire(
    lock: SoftFileLease, folder: Path, say: Callable[[str], None], *, at_once: bool
) -> bool:
    """Acquire the lock and return whether that took a wait."""
    try:
        lock.acquire(timeout=0)
        return False
    except Timeout:
        pass
    except OSError as error:
        raise ResultError(f"{folder}: {cannot('be locked', error)}") from None
    other, started = writer_of(folder) or "another process", time.monotonic()
    if at_once:
        say(f"{folder}: {other} writes this run; waiting for it to end")
    try:
        lock.acquire(poll_interval=POLL_S)
    except OSError as error:
        raise ResultError(f"{folder}: {cannot('be locked', error)}") from None
    if not at_once:
        waited_s = time.monotonic() - started
        say(f"{folder}: waited {waited_s:.0f} s for {other}, which wrote this run")
    return True


def _end_process(lost: LeaseCompromise) -> None:
    """End this process without a further write."""
    folder = Path(lost.lock_file).parent
    print(
        f"prunebench: {folder}: the lock is lost ({lost.reason}): this process was suspended, or "
        "somebody deleted the lock; it ends here, so that another one can resume the run alone",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)


def _runs(pid: int) -> bool:
    """Whether a process of this host exists and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
