"""A shortened run: fewer steps, the same algorithm, the same goals."""

from __future__ import annotations

import pytest

from prunebench.experiments.recipe import Recipe
from prunebench.methods import registry
from prunebench.methods.greg import FixRegOptions, GReg1, GReg2, GReg2Options, GRegOptions
from prunebench.methods.group_fisher import GroupFisherOptions
from prunebench.methods.increg.penalty_table import IncRegOptions
from prunebench.methods.increg.to_ratios import IncReg


@pytest.mark.parametrize("name", registry.method_paths())
def test_options_of_a_whole_run_stay(name: str) -> None:
    options = registry.method_class(name).Options()
    assert options.shortened(1) == options


@pytest.mark.parametrize("name", registry.method_paths())
def test_shortened_options_are_valid(name: str) -> None:
    kind = registry.method_class(name).Options
    short = kind().shortened(0.001)
    assert kind.model_validate(short.model_dump()) == short


def test_greg_reaches_its_ceiling_in_a_share_of_the_updates() -> None:
    assert GReg1(GRegOptions()).most_updates() == 10_000
    short = GRegOptions().shortened(0.05)
    assert (short.delta, short.stabilize_steps) == (2e-3, 500)
    assert GReg1(short).most_updates() in (500, 501)  # float32


def test_greg_2_picks_in_a_share_of_the_updates() -> None:
    short = GReg2Options().shortened(0.05)
    assert (short.delta_pick, short.pick_ceiling) == (2e-4, 0.01)
    whole = GReg2(GReg2Options()).regularize_steps()
    assert GReg2(short).regularize_steps() == pytest.approx(0.05 * whole, rel=0.01)


def test_fixreg_and_group_fisher_shorten_what_they_count_in_steps() -> None:
    assert FixRegOptions().shortened(0.01).fixed_steps == 500
    assert GroupFisherOptions().shortened(0.2).interval_steps == 5
    assert GroupFisherOptions().shortened(0.2).units_at_once == 1


def test_group_fisher_prunes_several_units_at_once_if_steps_do_not_suffice() -> None:
    short = GroupFisherOptions().shortened(0.01)  # 4 units in each step for 1 in each 25
    assert (short.interval_steps, short.units_at_once) == (1, 4)
    twice = GroupFisherOptions().shortened(0.1).shortened(0.1)
    assert (twice.interval_steps, twice.units_at_once) == (1, 5)  # 25 is rounded to 2


def test_increg_reaches_its_ceiling_in_a_share_of_the_steps() -> None:
    prune = Recipe(batch_size=4, lr=0.01, weight_decay=2.5e-4)
    whole, short = (IncReg(IncRegOptions().shortened(s)).hold(prune, 0.2) for s in (1, 0.1))
    assert whole == 24521  # 6.13009 / 2.5e-4
    assert short == 2453
