from __future__ import annotations

from typing import Any

import pytest
import torch

from prunebench.models.registry import build

TARGETS = torch.tensor([[[1.0, 4, 4, 40, 50], [0, 20, 20, 60, 60]], [[-1, 0, 0, 0, 0]] * 2])


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return build("faster_rcnn_r18_fpn_x0_1", num_classes=2)


def test_without_targets_every_image_has_512_regions(model: Any) -> None:
    outputs = model(torch.randn(2, 3, 64, 64))
    assert len(outputs) == 5 + 1  # levels, regions
    classes, codes = outputs[-1]
    assert classes.shape == (2 * 512, 1 + 2)
    assert codes.shape == (2 * 512, 4 * (1 + 2))
    assert torch.allclose(classes[:512], classes[:1].expand(512, -1), atol=1e-6)


def test_samples_come_from_the_global_generator(model: Any) -> None:
    x, losses = torch.randn(2, 3, 128, 128), []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        losses.append(model(x, TARGETS).item())
    assert losses[0] == losses[1] != losses[2]


def test_the_image_of_each_sampled_region_is_known_while_they_are_classified(model: Any) -> None:
    seen = []
    model.head.register_forward_pre_hook(
        lambda head, args: seen.append((len(args[0]), model.row_images))
    )
    model(torch.randn(2, 3, 64, 64), TARGETS)
    ((rows, images),) = seen
    assert images.shape == (rows,)
    assert {*images.tolist()} == {0, 1}
    assert torch.equal(images, images.sort().values)
    assert model.row_images is None


def test_a_region_is_pooled_from_the_level_of_its_size(model: Any) -> None:
    # 112 pixels lie at level 1 (stride 8), 111 at level 0 (stride 4); the levels hold their numbers
    levels = {str(i): torch.full((1, 1, 64 >> i, 64 >> i), float(i)) for i in range(5)}
    boxes = [torch.tensor([[0.0, 0, 111, 111], [0, 0, 112, 112], [0, 0, 224, 224]])]
    pooled = model.roi_heads.box_roi_pool(levels, boxes, [(256, 256)])
    assert pooled.shape == (3, 1, 7, 7)
    assert pooled.amax((1, 2, 3)).tolist() == [0, 1, 2]
