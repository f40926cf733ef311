"""A method that breaks its contract is told so by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.core.errors import MethodError
from prunebench.experiments.phases import Budget
from prunebench.methods.base import Run, check_plan
from prunebench.methods.one_shot import OneShot
from prunebench.training.run import RunState

Scores = dict[str, Tensor]
FIRST = "stages.0.0.conv1"


class Sloppy(OneShot):
    """Scores that a test spoils."""

    def __init__(self, spoil: Callable[[Scores], object]) -> None:
        super().__init__(OneShot.Options())
        self.spoil = spoil

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> Scores:
        scores = {name: torch.ones(group.n_units) for name, group in groups.items()}
        self.spoil(scores)
        return scores


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: s.pop(FIRST), f"no scores for the group '{FIRST}'"),
        (lambda s: s.update(odd=torch.ones(2)), "scores for 'odd', which is no candidate"),
        (
            lambda s: s.update({FIRST: torch.ones(16, 1)}),
            rf"the scores of '{FIRST}' have shape \(16, 1\), expected \(16,\), one for each unit",
        ),
        (lambda s: s[FIRST].__setitem__(3, math.nan), f"the scores of '{FIRST}' are not all fin"),
        (lambda s: s[FIRST].__setitem__(3, math.inf), f"the scores of '{FIRST}' are not all fin"),
    ],
)
def test_scores_must_fit(
    spoil: Callable[[Scores], object], words: str, resnet_run: RunState
) -> None:
    with pytest.raises(MethodError, match=f"^Sloppy.score: {words}"):
        Sloppy(spoil).select(resnet_run, Budget(kind="units_per_group", ratio=0.5))


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(removed={"odd": torch.tensor([0])}), "'odd' cannot be pruned: there is no such"),
        (Plan(removed={FIRST: torch.tensor([16])}), f"unit 16 of '{FIRST}', whose units are 0 to"),
        (Plan(removed={FIRST: torch.arange(16)}), f"all 16 units of '{FIRST}' are removed; one"),
        (Plan(zeroed={"odd": torch.ones(1).bool()}), "a mask for 'odd', which is no parameter"),
        (
            Plan(zeroed={"conv1.weight": torch.ones(16).bool()}),
            r"the mask of 'conv1.weight' has shape \(16,\), expected \(16, 1, 3, 3\)",
        ),
    ],
)
def test_plans_must_fit(plan: Plan, words: str, resnet_run: RunState) -> None:
    with pytest.raises(MethodError, match=f"^Sloppy.select: .*{words}"):
        check_plan(Sloppy(lambda s: None), resnet_run.graph, resnet_run.params, plan)


def test_no_units_of_a_frozen_group_are_no_breach(resnet_run: RunState) -> None:
    plan = Plan(removed={"odd": torch.tensor([], dtype=torch.int64)})
    check_plan(Sloppy(lambda s: None), resnet_run.graph, resnet_run.params, plan)
