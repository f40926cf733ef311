"""One writer per run folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def only_writer(folder: Path, say: Callable[[str], None]) -> Iterator[bool]:
    """Hold the folder's lock; yield whether another process held it before.

    The operating system gives the lock of a dead process back, so a second one takes over at
    once from a dead first, and waits for a living one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    waited = False
    try:
        lock.acquire(timeout=0)
    except Timeout:
        waited = True
        say(f"{folder}: another process writes this run; waiting for it to end")
        lock.acquire()
    try:
        yield waited
    finally:
        lock.release()
