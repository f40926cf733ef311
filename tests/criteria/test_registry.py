"""What holds for every criterion, whatever it ranks by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.criteria.base import Criterion, ScoringRun
from prunebench.criteria.gradients import DataCriterion
from prunebench.criteria.registry import CRITERIA, criterion_class, criterion_name
from prunebench.methods.registry import method_class
from prunebench.training.run import RunState


def criterion(name: str, **options: Any) -> Criterion:
    kind = criterion_class(name)
    few = {"samples": 6, "batch": 4} if issubclass(kind, DataCriterion) else {}
    return kind(**few, **options)


@pytest.fixture(params=CRITERIA)
def each(request: pytest.FixtureRequest) -> Criterion:
    return criterion(request.param)


def test_every_unit_of_every_group_has_a_finite_score(
    each: Criterion, resnet_run: RunState
) -> None:
    groups = resnet_run.graph.groups  # streams too
    found = each.scores(resnet_run, groups)
    assert {n: s.shape for n, s in found.items()} == {n: (g.n_units,) for n, g in groups.items()}
    assert all(scores.isfinite().all() for scores in found.values())
    assert not any(scores.requires_grad for scores in found.values())


def test_the_network_is_left_as_it_was(each: Criterion, resnet_run: RunState) -> None:
    model = resnet_run.model
    model.stages[0].eval()
    resnet_run.params["fc.bias"].requires_grad_(False)
    resnet_run.params["fc.weight"].grad = torch.ones_like(resnet_run.params["fc.weight"])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random = torch.get_rng_state()
    each.scores(resnet_run, resnet_run.graph.groups)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), random)
    with_grad = {name: p.grad for name, p in resnet_run.params.items() if p.grad is not None}
    assert list(with_grad) == ["fc.weight"]
    assert bool((with_grad["fc.weight"] == 1).all())
    assert [n for n, p in resnet_run.params.items() if not p.requires_grad] == ["fc.bias"]


def test_the_same_scores_come_out_again(each: Criterion, resnet_run: RunState) -> None:
    first, second = (each.scores(resnet_run, resnet_run.graph.groups) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_scores_do_not_depend_on_the_caller(each: Criterion, resnet_run: RunState) -> None:
    groups = resnet_run.graph.groups
    wanted = each.scores(resnet_run, groups)
    with torch.no_grad():
        found = each.scores(resnet_run, groups)
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_every_criterion_is_a_method_too() -> None:
    for name in CRITERIA:
        kind = criterion_class(name)
        assert issubclass(method_class(name).Options, kind)
        own = method_class(name).Options.model_fields
        assert {n: own[n].default for n in kind.model_fields} == {
            n: field.default for n, field in kind.model_fields.items()
        }


def test_criteria_are_listed_in_order() -> None:
    assert list(CRITERIA) == sorted(CRITERIA)


@pytest.mark.parametrize("name", CRITERIA)
def test_a_criterion_knows_its_name(name: str) -> None:
    assert criterion_name(criterion_class(name)) == name


class Constant(Criterion):
    """The same score for every unit."""

    summary = "constant"

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        return {name: torch.ones(group.n_units) for name, group in groups.items()}


def test_a_plug_in_is_a_method_and_an_option(register: Callable[[str, str, str], None]) -> None:
    register("prunebench.criteria", "constant", f"{__name__}:Constant")
    assert method_class("constant").Options().scores(None, {}) == {}
    orthoreg = method_class("orthoreg").Options(criterion="constant")
    written = orthoreg.model_dump(mode="json", include={"criterion"})
    assert written == {"criterion": {"constant": {"combine": "joint"}}}
