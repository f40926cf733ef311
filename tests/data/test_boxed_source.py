from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from prunebench.core.errors import DataError
from prunebench.data.boxed_source import Box, BoxedFile, BoxedSplits, box_arrays, decode_scaled
from tests.data.conftest import write_image


def source(counts: list[int], validation: int | None = None) -> BoxedSplits:
    """A source whose training images have so many boxes; there are no pixels."""
    labels = np.full((len(counts), max(counts)), -1)
    for row, count in zip(labels, counts, strict=True):
        row[:count] = 0
    return BoxedSplits(training={"labels": labels}, test={}, validation=validation, about={})


def test_each_quarter_of_the_number_of_boxes_contributes_its_share() -> None:
    counts = [k % 20 + 1 for k in range(40)]  # every number of 1 to 20 twice
    held = source(counts).hold_out(0.2)
    assert len(held.held_out) == 8
    found = sorted(counts[k] for k in held.held_out)
    # two images each of 1 to 5, 6 to 10, 11 to 15 and 16 to 20 boxes
    assert [(n - 1) // 5 for n in found] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sorted([*held.kept, *held.held_out]) == list(range(40))
    assert held.words == ("8 of 40 training images are held out for validation, stratified, seed 0")


def test_the_same_images_are_held_out_on_every_call() -> None:
    counts = [k % 7 + 1 for k in range(50)]
    assert np.array_equal(
        source(counts).hold_out(0.3).held_out, source(counts).hold_out(0.3).held_out
    )


@pytest.mark.parametrize(("n", "fraction", "expected"), [(3, 0.1, 1), (7, 0.1, 1), (5, 0.5, 3)])
def test_a_few_images_can_be_divided(n: int, fraction: float, expected: int) -> None:
    assert len(source(list(range(1, n + 1))).hold_out(fraction).held_out) == expected


def test_own_validation_images_are_the_last_ones() -> None:
    held = source([1] * 5, validation=2).hold_out(0.1)
    assert (held.kept.tolist(), held.held_out.tolist(), held.fraction) == ([0, 1, 2], [3, 4], 0.4)
    assert held.words == "2 validation images are the source's own"
    nothing = source([1] * 5, validation=2).hold_out(0.0)
    assert (nothing.kept.tolist(), nothing.held_out.tolist()) == ([0, 1, 2], [])
    assert nothing.words == "its 2 validation images are not used"


def test_boxes_are_padded_to_the_most_of_an_image() -> None:
    box = Box((1.0, 2.0, 3.0, 5.0), 4, 6.0, True)
    files = [BoxedFile(Path("a"), (10, 20), ()), BoxedFile(Path("b"), (30, 40), (box, box))]
    arrays = box_arrays(files)
    assert arrays["sizes"].tolist() == [[10, 20], [30, 40]]
    assert arrays["labels"].tolist() == [[-1, -1], [4, 4]]
    assert arrays["boxes"].tolist() == [[[0] * 4] * 2, [[1, 2, 3, 5]] * 2]
    assert arrays["areas"].tolist() == [[0, 0], [6, 6]]
    assert arrays["crowd"].tolist() == [[False, False], [True, True]]
    assert box_arrays(files[:1])["labels"].tolist() == [[-1]]


def test_an_image_of_another_size_than_its_annotations_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", (90, 90, 90), (16, 12))
    file = BoxedFile(tmp_path / "a.png", (16, 12), ())
    expected = r"a.png: has 16x12 pixels, but its annotations say 12x16"
    with pytest.raises(DataError, match=expected):
        decode_scaled([file], (64, 64))
