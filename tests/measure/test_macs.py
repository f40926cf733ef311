from __future__ import annotations

import sys

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from prunebench.core.errors import PrunebenchError
from prunebench.measure.layer_counts import count_layers
from prunebench.measure.macs import count_macs
from prunebench.papers.conventions import macs


class Deformable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = DeformConv2d(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x, torch.zeros(1, 18, 2, 2))


def test_normalization_and_pooling_are_taken_out(small_net: nn.Module, image: Tensor) -> None:
    count = count_macs(small_net, image)
    assert count.by_operator == {"conv": 288 + 32, "linear": 12}
    assert count.total == 332
    assert count.by_layer == {"0": 288, "4": 32, "7": 12}


def test_operators_without_a_formula_are_listed(small_net: nn.Module, image: Tensor) -> None:
    assert count_macs(small_net, image).uncounted == {"aten::max_pool2d": 1}


def test_products_of_a_module_itself_are_its_own() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) @ x.transpose(1, 2)

    count = count_macs(Product(), torch.zeros(1, 3, 4))
    assert count.by_layer == {"": 3 * 4 * 3, "inner": 3 * 4 * 4}


def test_a_deformable_convolution_is_counted() -> None:
    assert count_macs(Deformable(), torch.zeros(1, 2, 4, 4)).total == 3 * 4 * (2 * 9)


def test_the_model_is_left_as_it_was(small_net: nn.Module, image: Tensor) -> None:
    small_net.train()
    count_macs(small_net, image)
    assert small_net[1].training
    assert int(small_net[1].num_batches_tracked) == 0


def test_nothing_is_printed(
    small_net: nn.Module, image: Tensor, capfd: pytest.CaptureFixture[str]
) -> None:
    count_macs(small_net, image)
    assert capfd.readouterr() == ("", "")


def test_a_missing_fvcore_says_how_to_install_it(
    small_net: nn.Module, image: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "fvcore.nn", None)
    with pytest.raises(PrunebenchError, match="pip install fvcore"):
        count_macs(small_net, image)


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "squeezenet1_1", "regnet_y_400mf"]
)
def test_fvcore_and_the_closed_form_agree_on_torchvision(name: str) -> None:
    model, example = torchvision.models.get_model(name), torch.zeros(1, 3, 64, 64)
    assert count_macs(model, example).total == macs(count_layers(model, example))
