from __future__ import annotations

import math

import pytest
import torch

from prunebench.models.detection.fsaf import (
    assign,
    best_levels,
    decoded,
    iou_loss,
    location_losses,
    touched,
)

# Two levels of a 16x16 image: 2x2 cells of 8 pixels, then one of 16 pixels. An anchor is a square
# of the stride's size whose lower right corner is the center of its cell.
ANCHORS = torch.tensor(
    [[-4.0, -4, 4, 4], [4, -4, 12, 4], [-4, 4, 4, 12], [4, 4, 12, 12], [-8, -8, 8, 8]]
)
LEVELS = (4, 1)


def test_an_output_of_one_is_four_strides() -> None:
    # center (4, 4), stride 8: up 16, left 8, down 32, right 0 since a distance is not negative
    codes = torch.tensor([[[0.5, 0.25, 1.0, -3.0]]])
    assert decoded(codes, ANCHORS[:1]).tolist() == [[[4 - 8, 4 - 16, 4, 4 + 32]]]


def test_a_region_covers_the_cells_it_touches() -> None:
    # center (9, 3); a fifth is 8.2 to 9.8, 2.8 to 3.2: cell 1; a half is 7 to 11, 2.5 to 3.5
    boxes = torch.tensor([[5.0, 2, 13, 4]])
    assert touched(boxes, ANCHORS, 0.2).tolist() == [[False, True, False, False, True]]
    assert touched(boxes, ANCHORS, 0.5).tolist() == [[True, True, False, False, True]]


def test_the_level_with_the_least_mean_loss_is_chosen() -> None:
    losses = torch.tensor([[1.0, 3, 0, 0, 2.5], [1, 9, 0, 0, 2.5]])
    effective = torch.tensor([[True, True, False, False, True]] * 2)
    assert best_levels(losses, effective, LEVELS).tolist() == [0, 1]  # 2 < 2.5, 5 > 2.5


def test_losses_of_a_location_for_a_box() -> None:
    # logits 0 of two classes: 0.25 / 4 ln 2 for the label, 0.75 / 4 ln 2 for the other; IoU 1/2
    found = location_losses(
        torch.zeros(1, 2),
        torch.tensor([[0.0, 0, 4, 4]]),
        torch.tensor([[0.0, 0, 4, 2]]),
        torch.tensor([1]),
    )
    assert found.item() == pytest.approx(math.log(2) * (0.25 + 0.75) / 4 + math.log(2))


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        # level 0 predicts the box: cell 1 learns it, cell 0 lies in the ignoring region, level 1 is
        # adjacent
        ([5.0, 2, 13, 4], [-2, 0, -1, -1, -2]),
        # level 0 misses it, level 1 does not: level 0 is adjacent, so both its cells are ignored
        ([0.0, 0, 0, 0], [-2, -2, -1, -1, 0]),
    ],
)
def test_a_box_is_learned_at_its_level_and_ignored_beside_it(
    predicted: list[float], expected: list[int]
) -> None:
    box = torch.tensor([[5.0, 2, 13, 4], [0, 0, 16, 16]])
    found = torch.tensor([predicted] * 4 + [[0.0, 0, 16, 8]])
    matched = assign(
        torch.zeros(5, 2),
        found,
        ANCHORS,
        LEVELS,
        box,
        torch.tensor([1, -1]),
        torch.tensor([True, False]),
    )
    assert matched.tolist() == expected


def test_of_two_boxes_the_smaller_is_learned() -> None:
    boxes = torch.tensor([[4.0, 1, 14, 5], [5, 2, 13, 4]])
    matched = assign(
        torch.zeros(5, 2),
        boxes[1:].repeat(5, 1),
        ANCHORS,
        LEVELS,
        boxes,
        torch.tensor([0, 1]),
        torch.tensor([True, True]),
    )
    assert matched[1] == 1


def test_boxes_apart_have_a_finite_loss() -> None:
    predicted = torch.tensor([[0.0, 0, 1, 1]], requires_grad=True)
    loss = iou_loss(predicted, torch.tensor([[5.0, 5, 6, 6]]))
    loss.sum().backward()
    assert loss.item() == pytest.approx(6 * math.log(10))
    assert predicted.grad is not None
    assert predicted.grad.abs().sum() == 0
