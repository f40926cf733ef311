"""Threads pinned to cores, so that a timed pass is not moved from one core to another."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TASKS = Path("/proc/self/task")  # the threads of this process, by number


@contextmanager
def pinned_threads(count: int) -> Iterator[tuple[int, ...] | None]:
    """Pin all threads of this process to `count` of its cores within the block; yield the cores.

    They are the last cores that the process may use, since interrupts are usually served by the
    first. A process with fewer cores is pinned to all of them. Afterwards every thread may use the
    cores that it could use before, and a thread that was started within the block those of the
    calling thread. Without an affinity in the operating system (macOS, Windows), None is yielded
    and nothing is pinned.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = {thread: os.sched_getaffinity(thread) for thread in _threads()}
    own = os.sched_getaffinity(0)
    cores = tuple(sorted(own)[-count:])
    _pin({thread: set(cores) for thread in before})
    try:
        yield cores
    finally:
        _pin({thread: before.get(thread, own) for thread in _threads()})


def _threads() -> list[int]:
    return [int(path.name) for path in TASKS.iterdir()]


def _pin(cores: dict[int, set[int]]) -> None:
    for thread, wanted in cores.items():
        with suppress(ProcessLookupError):  # the thread has ended meanwhile
            os.sched_setaffinity(thread, wanted)
