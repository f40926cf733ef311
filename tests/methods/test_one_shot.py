from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch

from prunebench.core.errors import ConfigError
from prunebench.criteria.base import Criterion
from prunebench.criteria.gradients import DataCriterion
from prunebench.criteria.registry import CRITERIA, criterion_class
from prunebench.experiments.phases import Budget, Epochs
from prunebench.methods.base import Method
from prunebench.methods.one_shot import one_shot
from prunebench.methods.registry import method_class
from prunebench.testing import begin, named_layers, prune, start, train
from prunebench.training.run import RunState

L1 = method_class("l1")
Random = method_class("random")

ALL = [method_class(name) for name in CRITERIA]
FILTERS = [(1.0, -1.0), (0.1, 0.3), (-2.0, 0.5), (0.2, -0.3), (0.4, 0.4)]


def budget(ratio: float) -> Budget:
    return Budget(kind="units_per_group", ratio=ratio)


def method(kind: type[Method[Any]], **options: Any) -> Method[Any]:
    few = {"samples": 6, "batch": 4} if issubclass(kind.Options, DataCriterion) else {}
    return kind(kind.Options(**few, **options))


@pytest.mark.parametrize(
    ("ratio", "removed"), [(0.2, [1]), (0.5, [1, 3, 4]), (0.7, [0, 1, 3, 4]), (0.95, [0, 1, 3, 4])]
)
def test_l1_removes_the_smallest_filters(
    ratio: float, removed: list[int], five_filter_run: RunState
) -> None:
    # means of |w|: 1.0, 0.2, 1.25, 0.25, 0.4
    assert method(L1).select(five_filter_run, budget(ratio)).removed["conv"].tolist() == removed


@pytest.fixture
def five_filter_run() -> RunState:
    model = named_layers(
        stem=torch.nn.Conv2d(1, 2, 1), conv=torch.nn.Conv2d(2, 5, 1), head=torch.nn.Conv2d(5, 2, 1)
    )
    with torch.no_grad():
        model.conv.weight.copy_(torch.tensor(FILTERS)[:, :, None, None])
    return start(model, image=(1, 1, 1))


@pytest.mark.parametrize("kind", ALL)
def test_ratio_zero_removes_nothing(kind: type[Method[Any]], resnet_run: RunState) -> None:
    assert method(kind).select(resnet_run, budget(0.0)).removed == {}


@pytest.mark.parametrize("kind", ALL)
def test_every_layer_keeps_a_filter(kind: type[Method[Any]], resnet_run: RunState) -> None:
    plan = method(kind).select(resnet_run, budget(0.999))
    assert {n: len(u) for n, u in plan.removed.items()} == {
        n: g.n_units - 1 for n, g in resnet_run.graph.groups.items() if g.role == "inside"
    }


def test_groups_are_chosen_by_role(resnet_run: RunState) -> None:
    plan = method(L1, roles=("stream",)).select(resnet_run, budget(0.5))
    assert {n: len(u) for n, u in plan.removed.items()} == {
        "conv1": 8,
        "stages.1.0.conv2": 8,
        "stages.2.0.conv2": 16,
    }


def test_groups_are_chosen_by_their_place_and_name(resnet_run: RunState) -> None:
    l1 = method(L1, roles=("first_convolutions", "not stages.[02].*"))
    plan = l1.select(resnet_run, budget(0.5))
    assert list(plan.removed) == [f"stages.1.{block}.conv1" for block in range(3)]


def test_budgets_count_from_the_start_of_the_run(resnet_run: RunState) -> None:
    l1 = method(L1)
    prune(l1, budget(0.25), resnet_run)
    plan = l1.select(resnet_run, budget(0.5))
    assert len(plan.removed["stages.0.0.conv1"]) == 4  # half of 16, less the 4 that have left


def test_random_is_a_function_of_seed_and_group(resnet_run: RunState) -> None:
    random = method(Random)
    begin(random, budget(0.5), resnet_run)
    first, again = (random.select(resnet_run, budget(0.5)).removed for _ in range(2))
    resnet_run.seed = 1
    other = random.select(resnet_run, budget(0.5)).removed
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert first["stages.0.0.conv1"].tolist() != first["stages.0.1.conv1"].tolist()


def test_fine_tuning_follows_the_removal(resnet_run: RunState) -> None:
    steps: list[tuple[str, int]] = []

    def note(run: RunState) -> None:
        steps.append((run.phase.name, run.params["stages.0.0.conv1.weight"].shape[0]))

    train(method(L1), budget(0.5), resnet_run, before_step=note)
    assert [phase.length for phase in resnet_run.phases] == [None, Epochs(1)]
    assert steps == [("fine_tune", 8)] * 3


@pytest.mark.parametrize("name", CRITERIA)
def test_only_criteria_that_score_weights_have_a_unit(name: str) -> None:
    found = method_class(name)
    has_unit = "unit" in found.Options.model_fields
    assert has_unit == ("weights" in found.ratio_kinds) == (name in ("l1", "lamp", "random"))


def test_a_criterion_has_one_method() -> None:
    assert one_shot(criterion_class("fpgm")) is one_shot(criterion_class("fpgm"))
    assert method_class("fpgm").__name__ == "FPGM"


@pytest.mark.parametrize("name", CRITERIA)
def test_options_survive_pickling(name: str) -> None:
    options = method_class(name).Options(roles=("stream",))
    found = pickle.loads(pickle.dumps(options))
    assert (type(found), found) == (type(options), options)


class Clashing(Criterion):
    """A criterion whose option has the name of a method's."""

    summary = "clashes"
    rounds: int = 3


def test_an_option_that_one_shot_methods_have_is_refused() -> None:
    with pytest.raises(ConfigError, match="Clashing: its option 'rounds' is an option of one-shot"):
        one_shot(Clashing)
