from __future__ import annotations

import pytest

from prunebench.training.batches import portion


@pytest.mark.parametrize(("accumulation", "world"), [(1, 1), (3, 1), (1, 3), (2, 4)])
@pytest.mark.parametrize("images", [16, 17, 31, 64])
def test_portions_cover_a_batch_once_and_their_weights_are_shares(
    images: int, accumulation: int, world: int
) -> None:
    seen: list[int] = []
    weights = 0.0
    for rank in range(world):
        own = portion(images, accumulation=accumulation, rank=rank, world=world)
        rows = range(images)[own.rows]
        for part, weight in own.parts:
            seen += rows[part]
            weights += weight
            assert weight == pytest.approx(len(rows[part]) * world / images)
            assert len(rows[part]) >= 2
    assert seen == list(range(images))
    assert weights / world == pytest.approx(1.0)  # processes average


def test_one_process_in_one_part_has_the_whole_batch() -> None:
    assert portion(64).parts == ((slice(0, 64), 1.0),)


def test_processes_cut_a_batch_as_accumulation_does() -> None:
    parts = [portion(37, rank=rank, world=3).rows for rank in range(3)]
    assert [part for part, _ in portion(37, accumulation=3).parts] == parts


def test_a_batch_too_small_to_be_cut_is_trained_whole_and_counted_once() -> None:
    first, second = (portion(3, rank=rank, world=2) for rank in range(2))
    assert first.parts == second.parts == ((slice(0, 3), 1.0),)
    assert (first.counts, second.counts) == (True, False)
