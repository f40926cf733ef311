from __future__ import annotations

from typing import Any

import pytest
import torch

from prunebench import testing
from prunebench.channels.plan import Plan
from prunebench.channels.removal import remove
from prunebench.core.errors import ModelError
from prunebench.experiments.phases import Budget, Phase, RatioKind
from prunebench.methods.registry import method_class
from prunebench.training import pruning
from prunebench.training.pruning import apply_plan, missed_ratio
from prunebench.training.run import RunState
from tests.training.conftest import MakeLoop, Phases

FIRST, SECOND = "stages.0.0.conv1", "stages.1.0.conv1"


@pytest.fixture
def run(make_loop: MakeLoop) -> RunState:
    return make_loop(Phases([]), [Phase(name="p")]).run


def test_kept_units_keep_their_first_numbers_over_rounds(run: RunState) -> None:
    apply_plan(run, Plan(removed={FIRST: torch.tensor([1])}))
    apply_plan(run, Plan(removed={FIRST: torch.tensor([1])}))  # unit 2 of the whole network
    assert run.kept[FIRST].tolist() == [0, 3]
    assert run.kept[SECOND].tolist() == list(range(8))


def test_masks_are_cut_along(run: RunState) -> None:
    keep = torch.ones(4, 4, 3, 3, dtype=torch.bool)
    keep[3] = False
    name = f"{FIRST}.weight"
    apply_plan(run, Plan(zeroed={name: keep}, removed={FIRST: torch.tensor([0])}))
    assert run.masks[name].all(dim=(1, 2, 3)).tolist() == [True, True, False]
    assert not run.params[name][2].any()


def test_masks_of_two_plans_add_up(run: RunState) -> None:
    for filter_ in (0, 2):
        keep = torch.ones(4, 3, 3, 3, dtype=torch.bool)
        keep[filter_] = False
        apply_plan(run, Plan(zeroed={"conv1.weight": keep}))
    kept = run.masks["conv1.weight"].all(dim=(1, 2, 3))
    assert kept.tolist() == [False, True, False, True]


def test_a_removal_tells_what_it_did(run: RunState) -> None:
    applied = apply_plan(run, Plan(removed={FIRST: torch.tensor([1, 2])}))
    assert applied.units == (2, 16 + 4 + 8 + 16)  # the stream, and a block a stage
    assert applied.difference is not None
    assert applied.difference < 1e-12
    assert applied.before.graph.groups[FIRST].n_units == 4


def test_an_empty_plan_changes_nothing(run: RunState) -> None:
    before = run.model
    applied = apply_plan(run, Plan(removed={FIRST: torch.tensor([], dtype=torch.int64)}))
    assert run.model is before
    assert applied.difference is None


def test_a_removal_that_changes_the_network_stops_the_run(
    run: RunState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoilt(*args: object) -> torch.nn.Module:
        smaller = remove(*args)  # type: ignore[arg-type]
        torch.nn.init.zeros_(smaller.get_parameter("fc.weight"))
        return smaller

    monkeypatch.setattr(pruning, "remove", spoilt)
    with pytest.raises(ModelError, match=r"phase 'p': removal changes the output by .*" + FIRST):
        apply_plan(run, Plan(removed={FIRST: torch.tensor([1])}))


@pytest.mark.parametrize(
    ("name", "kind", "ratio", "options", "reached"),
    [
        # Groups of 6 and 8 units; convolutions of 4, 6, 4 and 8 filters.
        ("l1", "units_per_group", 0.5, {}, None),
        ("l1", "units_per_group", 0.999, {}, 12 / 14),  # one unit of each group stays
        ("sfp", "units_per_group", 0.1, {}, 0.0),  # int(0.8) is 0
        ("sfp", "units_per_group", 0.5, {}, None),
        ("sfp", "units_per_group", 0.999, {}, 18 / 22),
        ("sfp", "units_per_group", 0.1, {"scope": "group"}, 0.0),
        ("sfp", "weights", 0.5, {"scope": "weight"}, None),
        ("l1", "weights", 0.5, {"unit": "weight"}, None),
        ("l1", "macs", 0.3, {}, None),
        ("l1_columns", "macs", 0.3, {"count_linear": False}, None),
        ("unpruned", "units_per_group", 0.0, {}, None),
    ],
)
def test_a_ratio_that_is_not_reached_is_found(
    name: str, kind: RatioKind, ratio: float, options: dict[str, Any], reached: float | None
) -> None:
    found = method_class(name)
    method, budget = found(found.Options(**options)), Budget(kind=kind, ratio=ratio)
    run = testing.train(method, budget)
    assert missed_ratio(method, run, budget) == (
        None if reached is None else pytest.approx(reached)
    )


@pytest.mark.parametrize("kind", ["units_global", "macs", "params"])
def test_a_run_that_has_pruned_nothing_has_reached_nothing(kind: RatioKind) -> None:
    method = method_class("l1")(method_class("l1").Options())
    assert missed_ratio(method, testing.start(), Budget(kind=kind, ratio=0.25)) == 0.0
