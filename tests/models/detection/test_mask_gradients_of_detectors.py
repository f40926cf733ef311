"""Gradients of channel masks while a detector trains."""

from __future__ import annotations

import pytest
import torch

from prunebench.channels.trace.tracer import trace
from prunebench.criteria.masks import MaskGradients, readers
from prunebench.models.registry import build

TARGETS = torch.tensor(
    [[[1.0, 4, 4, 40, 50], [0, 20, 20, 60, 60]], [[-1, 0, 0, 0, 0]] * 2, [[2, 9, 9, 50, 30]] * 2]
)


@pytest.mark.parametrize(
    "name",
    [
        "retinanet_r18_fpn_x0_0625",
        "faster_rcnn_r18_fpn_x0_0625",
        pytest.param("fasterrcnn_resnet50_fpn", marks=pytest.mark.slow),
    ],
)
def test_the_images_gradients_add_up_to_those_of_the_pyramid_s_outputs(name: str) -> None:
    # The layers that produce a unit are linear: the mask's gradient is the sum of weight times
    # gradient over the unit's weights and biases, in all of them.
    torch.manual_seed(0)
    model = build(name, num_classes=3).double().eval()
    x = torch.randn(3, 3, 64, 64, dtype=torch.float64)
    graph = trace(model, x[:1])
    producer = {"fasterrcnn": "detector.backbone.fpn.layer_blocks.0.0"}.get(
        name.split("_")[0], "pyramid.outputs.0"
    )
    (group,) = (g for g in graph.groups.values() if f"{producer}.weight" in g.producers)
    gradients = MaskGradients(model, {"g": group}, {"g": readers(group)}, batch=3)
    gradients.watch()
    model(x, TARGETS).backward()
    params = dict(model.named_parameters())
    expected = torch.zeros(group.n_units, dtype=torch.float64)
    for weight in group.producers:
        for own in (params[weight], params[weight.replace(".weight", ".bias")]):
            expected += (own * own.grad).flatten(1).sum(1) if own.ndim > 1 else own * own.grad
    assert torch.allclose(gradients.table.sum(0), expected.detach(), rtol=1e-9, atol=1e-15)
    assert gradients.table.abs().sum(1).min() > 0  # of each image
