"""Latencies that follow from a table, and the widths that meet a target in them."""

from __future__ import annotations

import pytest
from torch import nn

from prunebench import testing
from prunebench.channels.predicted_latency import PredictedLatency, interpolated
from prunebench.core.errors import ModelError, TrainingError
from prunebench.experiments.latency_table import LayerTimes
from prunebench.experiments.phases import Budget
from prunebench.methods.registry import method_class
from prunebench.training.run import RunState
from tests.channels.latency_tables import product_table


def network() -> nn.Sequential:
    """Layers of 4 and 6 channels: a, a b and 2 b milliseconds by a table of products."""
    return testing.named_layers(
        stem=nn.Conv2d(1, 4, 1),
        conv=nn.Conv2d(4, 6, 1),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(6, 2),
    )


@pytest.fixture
def run() -> RunState:
    table = product_table(
        network(), (1, 4, 4), factor=2.0, remainder_ms=10.0, sums={"stem.weight": 0.5}
    )
    run = testing.start(network())
    run.latency = PredictedLatency(table)
    return run


def test_a_latency_is_remainder_factor_times_layers_and_sums(run: RunState) -> None:
    # 10 + 2 (4 + 24 + 12) + 0.5 * 4, and 10 + 2 (2 + 6 + 6) + 0.5 * 2
    assert run.base_cost("latency") == 92
    assert run.cost("latency", {"stem": 2, "conv": 3}) == 39


def test_times_between_measured_widths_are_interpolated() -> None:
    times = LayerTimes(layer="c", outputs=(2, 4), inputs=(1, 3), ms=((1.0, 2.0), (3.0, 8.0)))
    at = interpolated(times)
    assert (at(2, 1), at(3, 1), at(2, 2), at(4, 3)) == (1, 2, 1.5, 8)
    assert at(3, 2) == (1 + 2 + 3 + 8) / 4
    assert (at(1, 1), at(9, 9)) == (1, 8)  # beyond the grid: the nearest


def test_a_layer_of_one_measured_width_has_one_time() -> None:
    times = LayerTimes(layer="c", outputs=(4,), inputs=(3,), ms=((7.0,),))
    assert interpolated(times)(4, 3) == 7


def test_widths_meet_a_target_in_latency(run: RunState) -> None:
    L1 = method_class("l1")
    method = L1(L1.Options(roles=("stem", "inside")))
    testing.prune(method, Budget(kind="latency", ratio=0.5), run)
    # At most 46. Uniform: (3, 4) has 10 + 2 (3 + 12 + 8) + 1.5 = 57.5, (2, 4) 47, (2, 3) 39.
    assert [len(units) for units in run.kept.values()] == [2, 3]
    assert run.cost("latency") == 39


def test_a_target_below_the_remainder_is_out_of_reach(run: RunState) -> None:
    L1 = method_class("l1")
    method = L1(L1.Options(roles=("stem", "inside")))
    # One unit each: 10 + 2 (1 + 1 + 2) + 0.5 = 18.5 of 92.
    with pytest.raises(
        TrainingError, match=r"0\.9 of latency is out of reach; the largest is 0\.7"
    ):
        testing.prune(method, Budget(kind="latency", ratio=0.9), run)


def test_a_run_without_a_table_says_so() -> None:
    with pytest.raises(TrainingError, match="ratio_kind 'latency' needs a latency table"):
        testing.start(network()).cost("latency")


def test_a_layer_that_the_table_lacks_is_named(run: RunState) -> None:
    assert run.latency is not None
    other = testing.start(testing.toy_network())
    with pytest.raises(ModelError, match=r"^only the .* has the layer '.*'; measure the table ag"):
        run.latency.ms(other.costs)
