from __future__ import annotations

import math

import pytest
import torch

from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace
from prunebench.models.base import initialize
from prunebench.models.registry import build


@pytest.mark.parametrize("name", ["resnet20", "vgg13", "vgg16", "vgg19", "mobilenet_v1"])
def test_a_whole_network_gets_the_weights_of_a_new_one(name: str) -> None:
    torch.manual_seed(1)
    model = build(name, num_classes=10)
    trained = {key: value.clone() + 1 for key, value in model.state_dict().items()}
    model.load_state_dict(trained)
    initialize(model)
    torch.manual_seed(1)
    new = build(name, num_classes=10)
    for key, value in new.state_dict().items():
        drawn = model.state_dict()[key]
        assert value.shape == drawn.shape
        if value.numel() > 500:
            assert float(drawn.std()) == pytest.approx(float(value.std()), rel=0.1)
        elif not key.endswith(("weight", "bias")):
            assert torch.equal(value, drawn)  # running statistics


def test_a_narrow_layer_is_drawn_for_its_own_fan_in() -> None:
    torch.manual_seed(0)
    model = build("vgg19", num_classes=10)
    graph = trace(model, torch.zeros(1, 3, 8, 8))
    smaller = remove(model, graph, {"stages.4.0.conv": torch.arange(384)})
    initialize(smaller)
    weight = smaller.get_parameter("stages.4.1.conv.weight")
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)
