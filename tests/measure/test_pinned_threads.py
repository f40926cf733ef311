from __future__ import annotations

import os
import threading

import pytest

from prunebench.measure.pinned_threads import pinned_threads

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system cannot pin threads"
)


@needs_affinity
@pytest.mark.parametrize("count", [1, 10_000])
def test_threads_are_pinned_to_the_last_cores_and_freed_again(count: int) -> None:
    before = os.sched_getaffinity(0)
    with pinned_threads(count) as cores:
        assert cores == tuple(sorted(before)[-count:])
        assert os.sched_getaffinity(0) == set(cores)
    assert os.sched_getaffinity(0) == before


@needs_affinity
def test_other_threads_are_pinned_too_and_new_ones_freed() -> None:
    before, seen = os.sched_getaffinity(0), []
    inside, noted, outside = threading.Event(), threading.Barrier(3), threading.Event()

    def note() -> None:
        for event in (inside, outside):
            event.wait()
            seen.append(os.sched_getaffinity(0))
            noted.wait()

    old, new = threading.Thread(target=note), threading.Thread(target=note)
    old.start()
    with pinned_threads(1) as cores:
        new.start()
        inside.set()
        noted.wait()
    outside.set()
    noted.wait()
    old.join()
    new.join()
    assert cores is not None
    assert seen == [set(cores), set(cores), before, before]


@needs_affinity
def test_threads_are_freed_after_an_error() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(RuntimeError, match="in the block"), pinned_threads(1):
        raise RuntimeError("in the block")
    assert os.sched_getaffinity(0) == before


def test_nothing_is_pinned_without_an_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pinned_threads(1) as cores:
        assert cores is None
