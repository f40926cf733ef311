"""What all trainable detectors have in common."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunebench.models.base import initialize
from prunebench.models.registry import build, is_detector, names

SMALL = [
    "retinanet_r18_fpn_x0_25",
    "fsaf_r18_fpn_x0_25",
    "atss_r18_fpn_x0_25",
    "paa_r18_fpn_x0_25",
    "faster_rcnn_r18_fpn_x0_25",
]
SIDE = 64
TARGETS = torch.tensor(
    [
        [[1, 4, 4, 30, 40], [0, 30, 8, 60, 60], [-1, 0, 0, 0, 0]],
        [[-1, 0, 0, 0, 0]] * 3,  # an image without boxes
        [[2, 0, 0, 64, 64], [-1, 0, 0, 0, 0], [1, 1, 40, 20, 44]],
    ],
    dtype=torch.float32,
)


def built(name: str) -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(name, num_classes=3)


def images(n: int = 3) -> Tensor:
    return torch.randn(n, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("training", [True, False])
def test_the_loss_is_finite_and_reaches_every_parameter(name: str, training: bool) -> None:
    model = built(name).train(training)
    loss = model(images(), TARGETS)
    loss.backward()
    assert loss.ndim == 0
    assert torch.isfinite(loss)
    reached = {n: p.grad is not None and bool(p.grad.any()) for n, p in model.named_parameters()}
    # the factor of an ATSS level counts only if an anchor of the level predicts a box
    assert [n for n, found in reached.items() if not found and not n.startswith("scales")] == []
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("targets", [TARGETS[1:2], TARGETS[1:2, :0]])
def test_images_without_boxes_have_a_loss(name: str, targets: Tensor) -> None:
    model = built(name).eval()
    loss = model(images(1), targets)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_padding_does_not_change_the_loss(name: str) -> None:
    model = built(name).eval()
    more = torch.cat([TARGETS, TARGETS.new_full((3, 2, 5), -1)], 1)
    losses = []
    for own in (TARGETS, more):
        torch.manual_seed(3)  # of the samples of a two-stage detector
        losses.append(model(images(), own).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_is_for_layers_only(name: str) -> None:
    model, losses = built(name).eval(), []
    for enabled in (False, True):
        torch.manual_seed(3)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append(model(images(), TARGETS))
    assert [loss.dtype for loss in losses] == [torch.float32] * 2
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=0.02)


@pytest.mark.parametrize("name", SMALL)
def test_outputs_have_the_same_shapes_in_both_modes(name: str) -> None:
    model = built(name)
    shapes = [
        [leaf.shape for leaf in tree_leaves(model.train(training)(images(2)))]
        for training in (True, False)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", SMALL)
def test_detections_are_sorted_and_lie_in_the_image(name: str) -> None:
    model = built(name).eval()
    torch.nn.init.normal_(model.head.classes.bias, std=0.5)  # scores above the threshold
    sizes = torch.tensor([[SIDE, SIDE], [40, 50], [SIDE, 20]])
    found = model.detect(images(), sizes)
    assert len(found) == 3
    for own, (h, w) in zip(found, sizes.tolist(), strict=True):
        boxes, scores = own["boxes"], own["scores"]
        assert 0 < len(boxes) == len(scores) == len(own["labels"]) <= 100
        assert own["labels"].dtype == torch.int64
        assert {*own["labels"].tolist()} <= {0, 1, 2}
        assert torch.equal(scores, scores.sort(descending=True).values)
        assert bool((boxes >= 0).all())
        assert bool((boxes <= torch.tensor([w, h, w, h])).all())
        assert bool((boxes[:, 2:] > boxes[:, :2]).all())


@pytest.mark.parametrize("name", SMALL)
def test_weights_drawn_again_are_those_of_a_new_network(name: str) -> None:
    model, fresh = built(name), built(name).state_dict()
    initialize(model)
    for key, value in model.state_dict().items():
        if value.is_floating_point() and value.numel() > 100:
            assert value.std().item() == pytest.approx(fresh[key].std().item(), rel=0.5)
        elif key.endswith("bias"):
            assert torch.equal(value, fresh[key]) or value.abs().max() < 0.2


def test_detectors_are_told_apart_by_name() -> None:
    assert is_detector("retinanet_r18_fpn_x0_25")
    assert not is_detector("resnet18_x0_25")
    assert {name for name in names() if is_detector(name)} >= {"paa_r50_fpn", "atss_r18_fpn"}
