from __future__ import annotations

import math

import pytest
import torch

from prunebench.models.detection.atss import CELLS, assign, centerness_of
from prunebench.models.registry import build


def anchors() -> torch.Tensor:
    """Return two levels: twelve 10x10 anchors in a row, 10 pixels apart, and one of 60x60."""
    row = [[10.0 * i, 0, 10.0 * i + 10, 10] for i in range(12)]
    return torch.tensor([*row, [0, -25, 60, 35]], dtype=torch.float64)


def test_anchors_are_squares_of_eight_strides() -> None:
    assert [own for ((own, _),) in CELLS] == [64, 128, 256, 512, 1024]


def test_overlaps_above_mean_plus_deviation_predict_a_box() -> None:
    # The nine nearest of the first level are 0 to 8. The box is anchor 2: overlaps 1, eight times
    # 0, and 100 / 3600 with the other level. Mean 0.1028, deviation 0.315: only anchor 2 stays.
    boxes = torch.tensor([[20, 0, 30, 10], [0, 0, 1, 1]], dtype=torch.float64)
    matched = assign(anchors(), (12, 1), boxes, torch.tensor([True, False]))
    assert matched.tolist() == [-1, -1, 0] + [-1] * 10


def test_the_center_of_an_anchor_must_lie_inside_the_box() -> None:
    # Box 16 to 24: overlaps 40 / 140 with the anchors 1 and 2 (whose centers are at 15 and 25),
    # and 80 / 3600 with the large one: both would pass, but their centers lie outside.
    boxes = torch.tensor([[16, 0, 24, 10]], dtype=torch.float64)
    matched = assign(anchors(), (12, 1), boxes, torch.tensor([True]))
    assert matched.tolist() == [-1] * 13


def test_an_anchor_of_two_boxes_takes_the_one_it_overlaps_more() -> None:
    boxes = torch.tensor([[20, 0, 30, 14], [20, 0, 30, 11]], dtype=torch.float64)
    matched = assign(anchors(), (12, 1), boxes, torch.tensor([True, True]))
    assert matched[2] == 1


def test_only_the_nearest_nine_of_a_level_are_candidates() -> None:
    # a box over all twelve anchors, center 60: candidates are nine of 1 to 10, overlaps 1 / 12 each
    boxes = torch.tensor([[0, 0, 120, 10]], dtype=torch.float64)
    matched = assign(anchors(), (12, 1), boxes, torch.tensor([True]))
    assert matched[0] == matched[11] == -1


def test_centerness() -> None:
    # l, r = 1, 3 and t, b = 2, 8: sqrt(1/3 * 1/4)
    found = centerness_of(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0, 4.0, 10.0]]))
    assert found.item() == pytest.approx(math.sqrt(1 / 12))


def test_the_loss_of_one_anchor_that_predicts_its_box() -> None:
    # All outputs of boxes and centerness are 0. Of the anchors that lie around the box, only one
    # of 64x64 pixels has its center (24, 24) inside: IoU = GIoU = 8^2 / 64^2, loss 2 * (1 - 1/64).
    # It lies in the middle: centerness 1, and the entropy at a logit of 0 is ln 2. All classes have
    # the logit -10^4: the focal loss is 0.25 * 10^4.
    model = build("atss_r18_fpn_x0_1", num_classes=1).double().eval()
    for layer in (model.head.boxes, model.head.third, model.head.classes):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.constant_(layer.bias, -1e4 if layer is model.head.classes else 0)
    x = torch.zeros(1, 3, 64, 64, dtype=torch.float64)
    loss = model(x, torch.tensor([[[0.0, 20, 20, 28, 28]]]))
    assert loss.item() == pytest.approx(2 * 63 / 64 + math.log(2) + 2500, rel=1e-9)
