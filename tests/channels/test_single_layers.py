from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunebench.channels.groups import Member
from prunebench.channels.single_layers import convolutions, entry_mask, norms_behind, with_norms
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import ConfigError
from prunebench.testing import named_layers
from prunebench.training.run import RunState


class PreActivation(nn.Module):
    """Batch norm behind a sum: stem, block(norm1, conv1, norm2, conv2), norm, head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 1)
        self.norm1, self.conv1 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.norm2, self.conv2 = nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.norm3, self.head = nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv2(self.norm2(self.conv1(self.norm1(x).relu())).relu())
        return self.head(self.norm3(x).relu())


@pytest.fixture
def pre_activation_net() -> nn.Module:
    return PreActivation()


def test_every_convolution_of_a_resnet_is_a_layer(resnet_run: RunState) -> None:
    layers = convolutions(resnet_run.graph)
    assert [f"{path}.weight" for path in layers] == [
        name for name, p in resnet_run.params.items() if p.ndim == 4
    ]
    # conv2 of a stage's first block is cut by two groups of 16, and still one layer of 32
    assert layers["stages.1.0.conv2"].n_units == 32


def test_a_convolution_that_makes_the_output_is_no_layer() -> None:
    net = named_layers(conv=nn.Conv2d(1, 3, 1), head=nn.Conv2d(3, 2, 1))
    assert list(convolutions(trace(net, torch.ones(1, 1, 2, 2)))) == ["conv"]


def test_filters_of_a_transposed_convolution_lie_on_its_second_dimension() -> None:
    net = named_layers(
        down=nn.Conv2d(1, 4, 2), up=nn.ConvTranspose2d(4, 5, 2), head=nn.Conv2d(5, 2, 1)
    )
    layers = convolutions(trace(net, torch.ones(1, 1, 4, 4)))
    assert (layers["up"].n_units, layers["up"].members[0].dim) == (5, 1)


def test_norms_of_a_resnet_are_found_inside_of_sums_too(resnet_run: RunState) -> None:
    norms = norms_behind(resnet_run.model, resnet_run.example)
    assert norms == {path: path.replace("conv", "bn") for path in convolutions(resnet_run.graph)}


def test_a_norm_behind_a_sum_belongs_to_no_convolution(pre_activation_net: nn.Module) -> None:
    norms = norms_behind(pre_activation_net, torch.ones(1, 1, 2, 2))
    assert norms == {"stem": "norm1", "conv1": "norm2"}


def test_norms_that_share_a_convolution_are_not_told_apart() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.a, self.b = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm2d(2)

        def forward(self, x: Tensor) -> Tensor:
            return self.a(self.conv(x)) + self.b(self.conv(2 * x))

    assert norms_behind(Shared(), torch.ones(1, 1, 2, 2)) == {}


def test_looking_for_norms_leaves_the_network_as_it_was(resnet_run: RunState) -> None:
    before = {name: tensor.clone() for name, tensor in resnet_run.model.state_dict().items()}
    norms_behind(resnet_run.model, torch.rand(2, 1, 8, 8))
    after = resnet_run.model.state_dict()
    assert resnet_run.model.training
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_hooks for module in resnet_run.model.modules())


def test_a_convolution_without_norm_is_named(pre_activation_net: nn.Module) -> None:
    graph = trace(pre_activation_net, torch.ones(1, 1, 2, 2))
    with pytest.raises(ConfigError, match="no batch norm reads the output of 'conv2' alone"):
        with_norms(convolutions(graph), norms_behind(pre_activation_net, torch.ones(1, 1, 2, 2)))


def test_entry_mask_covers_all_slices_of_a_unit() -> None:
    columns = Member(("w",), 1, "in", torch.tensor([[0, 1], [2, 3]]))
    mask = entry_mask(torch.zeros(2, 5), columns, torch.tensor([True, False]))
    assert mask.tolist() == [[True, True, False, False, True]] * 2
