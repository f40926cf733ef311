from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunebench.core.errors import ModelError
from prunebench.criteria.base import Needs
from prunebench.criteria.feature_maps import feature_maps, unit_maps
from prunebench.testing import named_layers, start
from prunebench.training.run import RunState

FEW = Needs(samples=6, batch=4)


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_hooks) for module in model.modules())


def images(run: RunState) -> list[Tensor]:
    return [inputs for inputs, _ in run.samples(FEW)]


def test_maps_are_the_outputs_of_the_layers_on_the_images_of_the_run() -> None:
    run = start()
    batches = list(feature_maps(run, ["stem", "norm"], FEW))
    assert [len(maps["stem"][0]) for maps in batches] == [4, 2]
    run.model.eval()
    for maps, inputs in zip(batches, images(run), strict=True):
        stem = run.model.get_submodule("stem")(inputs)
        assert torch.equal(maps["stem"][0], stem)
        assert torch.equal(maps["norm"][0], run.model.get_submodule("norm")(stem))


def test_an_operation_in_place_leaves_the_maps_as_they_were() -> None:
    net = named_layers(
        conv=nn.Conv2d(1, 2, 1),
        relu=nn.ReLU(inplace=True),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
    )
    run = start(net, image=(1, 8, 8))
    with torch.no_grad():
        run.params["conv.bias"].copy_(torch.tensor([-9.0, 9.0]))
    (maps, _) = feature_maps(run, ["conv", "relu"], FEW)
    assert (maps["conv"][0][:, 0] < 0).all()
    assert (maps["relu"][0][:, 0] == 0).all()


def test_a_layer_has_a_map_for_each_call() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.unused = nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)
            self.end = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.end(self.conv(self.conv(x)))

    run = start(Twice(), image=(1, 8, 8))
    maps = next(feature_maps(run, ["conv", "unused"], FEW))
    first, second = maps["conv"]
    assert torch.equal(second, run.model.conv(first))
    assert maps["unused"] == []


def test_nothing_is_left_behind_even_after_an_error() -> None:
    run = start()
    run.model.train()
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    maps = feature_maps(run, ["stem"], FEW)
    next(maps)
    assert hooks(run.model) == 0  # between batches
    assert run.model.training
    maps.close()

    def fail(inputs: Tensor, targets: Tensor) -> Tensor:
        raise RuntimeError("no memory")

    run.loss = fail
    with pytest.raises(RuntimeError, match="no memory"):
        next(feature_maps(run, ["stem"], FEW))
    assert hooks(run.model) == 0
    assert run.model.training
    after = run.model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not any(p.grad is not None for p in run.model.parameters())


def test_the_maps_of_units_are_those_of_their_channels() -> None:
    run = start()
    groups = {name: run.graph.groups[name] for name in ("block.conv1", "stem")}
    units = next(unit_maps(run, groups, FEW))
    maps = next(feature_maps(run, ["block.conv1", "stem", "block.conv2"], FEW))
    assert torch.equal(units["block.conv1"][0], maps["block.conv1"][0].unsqueeze(2))
    # A residual sum couples the stem's channels to those of the block's last convolution.
    assert len(units["stem"]) == 2
    assert torch.equal(units["stem"][1], maps["block.conv2"][0].unsqueeze(2))


def test_normalized_maps_are_the_outputs_of_batch_norm() -> None:
    run = start()
    groups = {name: run.graph.groups[name] for name in ("block.conv1", "stem")}
    units = next(unit_maps(run, groups, FEW, normalized=True))
    maps = next(feature_maps(run, ["block.norm1", "norm", "block.norm2"], FEW))
    assert torch.equal(units["block.conv1"][0], maps["block.norm1"][0].unsqueeze(2))
    assert len(units["stem"]) == 2
    for name in ("norm", "block.norm2"):
        assert any(torch.equal(own, maps[name][0].unsqueeze(2)) for own in units["stem"])
    net = named_layers(
        conv=nn.Conv2d(1, 2, 1),
        head=nn.Conv2d(2, 2, 1),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
    )
    run = start(net, image=(1, 8, 8))
    with_norm, without = (
        next(unit_maps(run, run.graph.groups, FEW, normalized=normalized))["conv"][0]
        for normalized in (True, False)
    )
    assert torch.equal(with_norm, without)  # there is no batch norm


def test_units_of_several_channels_and_of_linear_layers_keep_their_channels() -> None:
    net = named_layers(
        conv=nn.Conv2d(1, 4, 1),
        grouped=nn.Conv2d(4, 4, 1, groups=2),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        hidden=nn.Linear(4, 3),
        head=nn.Linear(3, 2),
    )
    run = start(net, image=(1, 8, 8))
    units = next(unit_maps(run, run.graph.groups, FEW))
    shapes = {name: [tuple(t.shape) for t in own] for name, own in units.items()}
    assert shapes["hidden"] == [(4, 3, 1)]
    (shape,) = shapes["conv"]
    assert (shape[0], shape[1] * shape[2], shape[3:]) == (4, 4, (8, 8))


def test_an_unknown_layer_is_named_with_similar_ones() -> None:
    with pytest.raises(ModelError, match="unknown layer 'steam'; did you mean stem"):
        next(feature_maps(start(), ["steam"], FEW))


def test_an_output_that_is_no_tensor_is_named() -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.end = Pair(), nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.end(self.pair(x)[0])

    with pytest.raises(ModelError, match="layer 'pair': its output is of the type tuple"):
        next(feature_maps(start(Net(), image=(1, 8, 8)), ["pair"], FEW))
