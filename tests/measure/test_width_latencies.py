from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from prunebench import testing
from prunebench.channels.costs import costs_of
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import ModelError
from prunebench.experiments.latency_table import LatencyTable
from prunebench.measure import width_latencies
from prunebench.measure.latency import Pass
from prunebench.measure.width_latencies import Layer, called_layers, fitted, measure_table
from tests.channels.latency_tables import product_table

CONV = (("kernel_size", (3, 3)), ("stride", (1, 1)), ("padding", (1, 1)), ("dilation", (1, 1)))


def layers_of(network: nn.Module, image: tuple[int, int, int]) -> dict[str, list[Layer]]:
    example = torch.zeros(1, *image)
    return called_layers(network, example, costs_of(trace(network, example)))


def test_equal_layers_are_of_one_kind() -> None:
    found = layers_of(testing.toy_network(), (1, 4, 4))
    assert list(found) == [
        "stem.weight", "block.conv1.weight", "block.conv2.weight", "conv.weight", "fc.weight",
    ]  # fmt: skip
    (stem,), (conv1,) = found["stem.weight"], found["block.conv1.weight"]
    assert stem == Layer(CONV, (4, 4), 4, 1, 1, (True, False), norm=True)
    assert conv1 == Layer(CONV, (4, 4), 6, 4, 1, (True, True), norm=True)
    assert str(conv1) == (
        "convolution, kernel_size 3x3, stride 1x1, padding 1x1, dilation 1x1, 4 to 6, input 4x4, "
        "batch norm and ReLU"
    )
    assert found["fc.weight"] == [Layer(None, (), 2, 8, 1, (False, True), norm=False)]


def test_a_layer_that_is_called_twice_has_two_places() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(self.conv(x)[:, :, ::2, ::2])
            return y

    (calls,) = layers_of(Twice(), (2, 8, 8)).values()
    assert [layer.place for layer in calls] == [(8, 8), (4, 4)]


def test_other_layers_are_refused() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ConvTranspose2d(4, 2, 2))
    with pytest.raises(ModelError, match=r"'1\.weight' is neither a Conv2d nor a Linear"):
        layers_of(network, (1, 4, 4))


@pytest.mark.parametrize(
    ("groups", "varied", "outputs", "inputs", "built"),
    [
        (1, (True, True), 5, 3, (5, 3, 1)),
        (8, (True, False), 6, 1, (6, 1, 6)),  # depthwise: a group for each channel
        (2, (True, False), 4, 4, (4, 4, 1)),  # whole groups of four channels are removed
        (2, (True, True), 6, 3, (6, 3, 2)),  # the same channels of both groups
    ],
)
def test_a_layer_is_built_at_other_widths(
    groups: int,
    varied: tuple[bool, bool],
    outputs: int,
    inputs: int,
    built: tuple[int, int, int],
) -> None:
    layer = Layer(CONV, (4, 4), 8, 8 // groups, groups, varied, norm=True)
    module = layer.build(outputs, inputs, torch.rand(8 * 8 * 9))
    (conv, *_) = module.children()
    assert isinstance(conv, nn.Conv2d)
    assert (conv.out_channels, conv.weight.shape[1], conv.groups) == built
    assert module(layer.input_of(module, 2, torch.rand(2 * 8 * 16))).shape == (2, outputs, 4, 4)


def test_grouped_outputs_are_timed_in_whole_units() -> None:
    whole = Layer(CONV, (4, 4), 12, 4, 3, (True, False), norm=False)
    local = Layer(CONV, (4, 4), 12, 4, 3, (True, True), norm=False)
    assert whole.grid(8) == ((4, 8, 12), (4,))  # one group, two and three
    assert local.grid(8) == ((3, 6, 9, 12), (1, 2, 3, 4))  # one channel of every group, and so on


def test_linear_layers_read_tokens() -> None:
    layer = Layer(None, (5,), 3, 8, 1, (True, True), norm=False)
    module = layer.build(2, 7, torch.rand(24))
    assert module(layer.input_of(module, 2, torch.rand(80))).shape == (2, 5, 2)


def test_the_fit_finds_factor_sums_and_remainder() -> None:
    network = testing.named_layers(
        stem=nn.Conv2d(1, 4, 1),
        conv=nn.Conv2d(4, 6, 1),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(6, 2),
    )
    costs = costs_of(trace(network, torch.zeros(1, 1, 4, 4)))
    table = product_table(network, (1, 4, 4), sums={"stem.weight": 16})
    networks = {"whole": {}, "half": {"stem": 2, "conv": 3}, "a": {"conv": 3}, "b": {"stem": 1}}
    # 10 + 2 (a + a b + 2 b) + 0.25 a of a and b channels: 91, 38.5, 55 and 48.25 (a = 1, b = 6)
    found = fitted(table, costs, networks, [91.0, 38.5, 55.0, 48.25])
    assert (found.factor, found.remainder_ms) == pytest.approx((2, 10), rel=1e-3)
    assert found.sums == pytest.approx({"stem.weight": 0.25}, rel=1e-3)
    assert [one.name for one in found.networks] == ["whole", "half", "a", "b"]
    assert [one.predicted_ms for one in found.networks] == pytest.approx([91, 38.5, 55, 48.25])


def twice_the_whole(passes: Sequence[Pass], images: Tensor, repeats: int) -> list[list[float]]:
    """Take 2 ms for networks, which read the images, and 1 ms for layers."""
    return [[2.0 if isinstance(own, nn.Module) else 1.0] * repeats for own in passes]


def test_a_table_holds_the_times_of_each_kind_of_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(width_latencies, "timer_on", lambda device: twice_the_whole)
    table = measure_table(
        testing.toy_network(),
        architecture="toy",
        num_classes=2,
        image=(1, 4, 4),
        batch_size=2,
        device="cpu",
        repeats=3,
    )
    assert LatencyTable.model_validate_json(table.model_dump_json()) == table
    assert table.layers == {
        "stem.weight": (0,), "block.conv1.weight": (1,), "block.conv2.weight": (2,),
        "conv.weight": (3,), "fc.weight": (4,),
    }  # fmt: skip
    assert {ms for times in table.times for row in times.ms for ms in row} == {1.0}
    assert set(table.sums) == {"stem.weight", "block.conv2.weight"}  # they are added
    assert [one.name for one in table.networks] == [
        "whole", "0.75 of all groups", "0.5 of all groups", "0.25 of all groups",
        "0.75 of inside", "0.5 of inside", "0.25 of inside",
    ]  # fmt: skip
    assert {one.measured_ms for one in table.networks} == {2.0}


@pytest.mark.gpu
def test_a_table_is_measured_on_a_gpu() -> None:
    table = measure_table(
        testing.toy_network(),
        architecture="toy",
        num_classes=2,
        image=(1, 4, 4),
        batch_size=2,
        device="cuda",
        repeats=3,
    )
    assert (table.device_kind, table.device) == ("cuda", torch.cuda.get_device_name())
    assert len(table.networks) == 7
    assert all(0 < ms < 1000 for times in table.times for row in times.ms for ms in row)


def test_layers_are_timed_relative_to_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def slower(passes: Sequence[Pass], images: Tensor, repeats: int) -> list[list[float]]:
        seen.append(len(passes))  # warm-up and repeats of the networks, then of the layers
        speed = 1.0 if len(seen) <= 2 else 4.0
        return [[speed * ms for ms in own] for own in twice_the_whole(passes, images, repeats)]

    monkeypatch.setattr(width_latencies, "timer_on", lambda device: slower)
    network = nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 1))
    table = measure_table(
        network, architecture="toy", num_classes=2, image=(1, 4, 4), batch_size=2, device="cpu"
    )
    assert {ms for times in table.times for row in times.ms for ms in row} == {1.0}
