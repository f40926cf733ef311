from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

from prunebench.channels.trace.shape_only import looks_at_values
from prunebench.models.detection.anchors import grid, match
from prunebench.models.detection.dense import focal_loss
from prunebench.models.detection.detector import truth_of
from prunebench.models.detection.retinanet import CELLS, box_loss
from prunebench.models.detection.selection import select
from prunebench.models.registry import build


def test_anchors_of_the_first_level() -> None:
    # stride 8: sizes 32, 32 * 2^(1/3), 32 * 2^(2/3), each with height / width of 1/2, 1, 2
    assert CELLS[0][1] == (32, 32)
    assert CELLS[0][0] == pytest.approx((32 * math.sqrt(2), 32 / math.sqrt(2)))
    assert CELLS[0][8] == pytest.approx((32 * 2 ** (2 / 3) / math.sqrt(2), 32 * 2 ** (7 / 6)))
    assert [len(own) for own in CELLS] == [9] * 5


def test_anchors_lie_at_multiples_of_the_stride_row_by_row() -> None:
    anchors = grid(((2, 2),), (8,), (((4.0, 6.0),),), torch.float64, torch.device("cpu"))
    assert anchors.tolist() == [[-2, -3, 2, 3], [6, -3, 10, 3], [-2, 5, 2, 11], [6, 5, 10, 11]]


@pytest.mark.parametrize("seed", range(5))
def test_matching_is_torchvision_s(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(60, 2, 2, generator=generator).mul(20).sort(1).values
    boxes, anchors = corners.flatten(1)[:5], corners.flatten(1)[5:]
    iou = box_iou(boxes, anchors)
    expected = Matcher(0.5, 0.4, allow_low_quality_matches=True)(iou)
    padded = torch.cat([iou, torch.ones(2, iou.shape[1])])  # two rows of padding
    real = torch.tensor([True] * 5 + [False] * 2)
    assert torch.equal(match(padded, real, low=0.4, high=0.5), expected)
    assert {*expected.tolist()} >= {-1, -2}
    assert (expected >= 0).sum() >= 3


def test_without_boxes_all_anchors_are_background() -> None:
    iou = torch.zeros(1, 3)
    assert match(iou, torch.tensor([False]), low=0.4, high=0.5).tolist() == [-1, -1, -1]


def targets(*rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_focal_loss_counts_found_and_background_anchors() -> None:
    # logits 0: p = 1/2. A positive adds 0.25 * (1/2)^2 * ln 2, each other class 0.75 * ...
    truth = truth_of(targets([[1, 0, 0, 4, 4]]), torch.float64)
    classes = torch.zeros(1, 3, 2, dtype=torch.float64)
    loss = focal_loss(classes, torch.tensor([[0, -1, -2]]), truth)
    assert loss.item() == pytest.approx((0.25 + 3 * 0.75) * math.log(2) / 4)


def test_box_loss_is_l1_of_the_encoded_box() -> None:
    # anchor 4x4 around (2, 2), box 8x4 around (4, 2): dx = 2 / 4, dw = ln 2
    truth = truth_of(targets([[0, 0, 0, 8, 4], [-1, 0, 0, 0, 0]]), torch.float64)
    anchors = torch.tensor([[0, 0, 4, 4], [0, 0, 4, 4]], dtype=torch.float64)
    codes = torch.zeros(1, 2, 4, dtype=torch.float64, requires_grad=True)
    loss = box_loss(codes, anchors, torch.tensor([[0, -1]]), truth)
    loss.backward()
    assert loss.item() == pytest.approx(0.5 + math.log(2))
    assert codes.grad is not None
    assert codes.grad[0].tolist() == [[-1, 0, -1, 0], [0, 0, 0, 0]]


def test_of_boxes_that_overlap_the_better_one_is_selected() -> None:
    scores = torch.tensor([[0.9, 0.04], [0.8, 0.3], [0.7, 0.0]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [-5, 20, 5, 99]])
    found = select(scores, boxes, (2, 1), torch.tensor([30, 20]), overlap=0.5)
    assert found["scores"].tolist() == pytest.approx([0.9, 0.7, 0.3])
    assert found["labels"].tolist() == [0, 0, 1]
    assert found["boxes"].tolist() == [[0, 0, 10, 10], [0, 20, 5, 30], [0, 0, 10, 9]]


def test_factors_change_ranks_but_not_the_threshold() -> None:
    scores, boxes = torch.tensor([[0.9], [0.8], [0.04]]), torch.arange(12.0).reshape(3, 4)
    factors = torch.tensor([0.01, 0.5, 1.0])
    found = select(scores, boxes, (3,), torch.tensor([99, 99]), overlap=0.5, factors=factors)
    assert found["scores"].tolist() == pytest.approx([0.4, 0.009])


def test_boxes_in_the_padding_are_dropped() -> None:
    scores, boxes = torch.tensor([[0.9]]), torch.tensor([[10.0, 0, 20, 9]])
    assert len(select(scores, boxes, (1,), torch.tensor([9, 10]), overlap=0.5)["boxes"]) == 0


class ReadsNothing(TorchDispatchMode):
    """Refuse operations whose result depends on values, for which a CPU waits for its GPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert not looks_at_values(func, args), func
        return func(*args, **(kwargs or {}))


def test_the_loss_reads_nothing_from_the_device() -> None:
    model = build("retinanet_r18_fpn_x0_1", num_classes=2)
    boxes, x = torch.tensor([[[0.0, 4, 4, 40, 50], [-1, 0, 0, 0, 0]]]), torch.randn(1, 3, 64, 64)
    model(x, boxes)  # keeps the anchors
    with ReadsNothing():
        model(x, boxes).backward()


def test_anchors_made_in_inference_serve_in_training() -> None:
    model = build("retinanet_r18_fpn_x0_1", num_classes=2).double().eval()
    x = torch.randn(1, 3, 96, 32, dtype=torch.float64)  # a shape of this test alone
    with torch.inference_mode():
        model.detect(x, torch.tensor([[96, 32]]))
    model(x, torch.tensor([[[0.0, 4, 4, 30, 30]]])).backward()


def test_a_code_of_zero_is_the_anchor() -> None:
    model = build("retinanet_r18_fpn_x0_25", num_classes=1).eval()
    for parameter in model.head.boxes.parameters():
        torch.nn.init.zeros_(parameter)
    found = model.dense(torch.zeros(1, 3, 64, 64))
    scores, boxes, factors = model.scores_and_boxes(found)
    assert factors is None
    assert torch.allclose(boxes[0], model.anchors(found), atol=1e-4)
    assert scores.mean().item() == pytest.approx(0.01, rel=0.1)  # the prior
