from __future__ import annotations

import pytest
import torch

from prunebench.core.phases import Budget, Epochs, Phase
from prunebench.core.recipe import Recipe
from prunebench.methods.scratch import ScratchB, ScratchE, ScratchOptions, scratch_b_epochs

from .conftest import FakeRun

BASE = Recipe(epochs=4, batch_size=4, lr=0.01, weight_decay=0.0)


def phases(method: ScratchE) -> list[Phase]:
    return method.phases({"base": BASE}, Budget(kind="units_per_group", ratio=0.5))


@pytest.fixture
def half_width_run(resnet_run: FakeRun) -> FakeRun:
    """A run whose source kept every second unit inside of blocks."""
    resnet_run.source_kept = {
        name: torch.arange(0, n, 2) if resnet_run.graph.groups[name].role == "inside" else units
        for (name, n), units in zip(resnet_run.sizes.items(), resnet_run.kept.values(), strict=True)
    }
    return resnet_run


@pytest.mark.parametrize(
    ("base_macs", "macs", "epochs"),
    [(400, 100, 40), (300, 200, 30), (200, 100, 40), (100, 100, 20)],
)
def test_scratch_b_trains_as_much_as_the_base_up_to_a_cap(
    base_macs: int, macs: int, epochs: float
) -> None:
    assert scratch_b_epochs(20, base_macs, macs, longest=2.0) == epochs


def test_widths_are_those_of_the_followed_run(half_width_run: FakeRun) -> None:
    method = ScratchE(ScratchOptions())
    half_width_run.train(method, phases(method)[:1])
    kept = half_width_run.kept
    assert {name: units.tolist() for name, units in kept.items()} == {
        name: units.tolist() for name, units in half_width_run.source_kept.items()
    }


def test_the_small_network_starts_from_fresh_weights(half_width_run: FakeRun) -> None:
    method = ScratchE(ScratchOptions())
    half_width_run.train(method, phases(method)[:1])
    found = half_width_run.params["stages.0.0.conv2.weight"].clone()
    half_width_run.initialize()
    assert found.shape == (16, 8, 3, 3)
    assert torch.equal(found, half_width_run.params["stages.0.0.conv2.weight"])


def test_a_run_that_kept_everything_gives_the_whole_network(resnet_run: FakeRun) -> None:
    method = ScratchE(ScratchOptions())
    resnet_run.source_kept = dict(resnet_run.kept)
    assert method.select(resnet_run, Budget(kind="units_per_group", ratio=0.0)).removed == {}


def test_scratch_e_trains_the_base_recipe_s_epochs(resnet_run: FakeRun) -> None:
    method = ScratchE(ScratchOptions())
    assert method.phase_length(resnet_run, phases(method)[1]) == Epochs(4)


@pytest.mark.parametrize(("longest", "epochs"), [(2.0, 4 * 1.5), (1.25, 5.0)])
def test_scratch_b_s_epochs_follow_from_the_present_network(
    longest: float, epochs: float, resnet_run: FakeRun
) -> None:
    method = ScratchB(ScratchOptions(longest=longest))
    resnet_run.base_macs = resnet_run.costs.macs() * 3 // 2
    length = method.phase_length(resnet_run, phases(method)[1])
    assert isinstance(length, Epochs)
    assert length.n == pytest.approx(epochs)
