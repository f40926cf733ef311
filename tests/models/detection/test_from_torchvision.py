from __future__ import annotations

from typing import Any

import pytest
import torch
from torchvision.models import detection

from prunebench.core.errors import ConfigError, ModelError
from prunebench.models.base import initialize
from prunebench.models.registry import build, split_width

NAMES = [
    "retinanet_resnet50_fpn",
    "fcos_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
    "ssdlite320_mobilenet_v3_large",
]
SIDE = 64
TARGETS = torch.tensor([[[1.0, 4, 4, 30, 40], [0, 20, 8, 60, 60]], [[-1, 0, 0, 0, 0]] * 2])


@pytest.fixture(scope="module", params=NAMES)
def pair(request: Any) -> tuple[Any, Any]:
    """This project's detector and torchvision's with the same weights, in eval mode."""
    torch.manual_seed(0)
    ours = build(request.param, num_classes=3).eval()
    has_background = request.param.startswith(("faster", "ssd"))
    theirs = getattr(detection, request.param)(
        weights=None, weights_backbone=None, num_classes=3 + has_background
    ).eval()
    for name, parameter in ours.named_parameters():  # scores that differ between classes
        if name.endswith("bias") and ("cls" in name or "classification" in name):
            torch.nn.init.normal_(parameter)
    theirs.load_state_dict(
        {name.removeprefix("detector."): value for name, value in ours.state_dict().items()}
    )
    # Images are not resized and not normalized.
    theirs.transform.resize = lambda image, target=None: (image, target)
    theirs.transform.normalize = lambda image: image
    return ours, theirs


def images() -> torch.Tensor:
    return torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_detections_are_torchvision_s_with_labels_from_0(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    found = ours.detect(images(), torch.tensor([[SIDE, SIDE]] * 2))
    with torch.no_grad():
        expected = theirs(list(images()))
    assert sum(len(own["boxes"]) for own in found) > 0
    for own, other in zip(found, expected, strict=True):
        torch.testing.assert_close(own["boxes"], other["boxes"])
        torch.testing.assert_close(own["scores"], other["scores"])
        assert torch.equal(own["labels"] + ours.first_label, other["labels"])
        assert {*own["labels"].tolist()} <= {0, 1, 2}


def test_the_loss_is_torchvision_s_in_train_mode(pair: tuple[Any, Any]) -> None:
    ours, theirs = pair
    rows = [TARGETS[0], TARGETS[1, :0]]  # without padding
    targets = [{"boxes": r[:, 1:], "labels": r[:, 0].long() + ours.first_label} for r in rows]
    torch.manual_seed(2)
    expected = sum(theirs.train()(list(images()), targets).values())
    torch.manual_seed(2)
    found = ours.train()(images(), TARGETS)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(found, expected)


def test_the_loss_in_eval_mode_reaches_every_parameter(pair: tuple[Any, Any]) -> None:
    ours, _ = pair
    loss = ours(images(), TARGETS)
    ours.zero_grad()
    loss.backward()
    assert torch.isfinite(loss)
    assert [n for n, p in ours.named_parameters() if p.grad is None] == []
    assert all(bool(torch.isfinite(p.grad).all()) for p in ours.parameters())


def test_weights_drawn_again_are_those_of_a_new_network() -> None:
    model = build("ssdlite320_mobilenet_v3_large", num_classes=3)
    fresh = build("ssdlite320_mobilenet_v3_large", num_classes=3)
    initialize(model)
    for own, expected in zip(model.parameters(), fresh.parameters(), strict=True):
        if own.numel() > 100 and expected.std() > 0:
            assert own.std().item() == pytest.approx(expected.std().item(), rel=0.3)
            assert not torch.equal(own, expected)


def test_a_smaller_network_draws_the_first_weights_of_a_whole_one() -> None:
    model = build("ssdlite320_mobilenet_v3_large", num_classes=3)
    conv = model.detector.head.regression_head.module_list[0][1]
    conv.weight = torch.nn.Parameter(conv.weight[:, :5].clone())
    initialize(model)
    assert conv.weight.shape[1] == 5
    assert conv.weight.std().item() == pytest.approx(0.03, rel=0.3)  # torchvision's for SSDLite


def test_other_widths_are_refused() -> None:
    with pytest.raises(ConfigError, match="has one width; leave out '_x0_25'"):
        split_width("fcos_resnet50_fpn_x0_25")


def test_other_input_channels_are_refused() -> None:
    with pytest.raises(
        ModelError, match="in_channels must be 3 for torchvision's detectors, not 1"
    ):
        build("fcos_resnet50_fpn", num_classes=3, in_channels=1)
