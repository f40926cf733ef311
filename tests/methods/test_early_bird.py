"""Early-Bird tickets; E8 and E9 are examples of OrthoReg's notes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from prunebench import testing
from prunebench.channels.unit_weights import scale_names
from prunebench.experiments.phases import Budget, Epochs, Phase
from prunebench.experiments.recipe import Recipe
from prunebench.methods.early_bird import EarlyBird, distances_to_newest, mask_distance, scale_mask
from prunebench.testing import recorded_operations
from prunebench.training.run import RunState

SCALES = [0.9, 0.1, 0.4, 0.3, 0.8, 0.05, 0.6, 0.2, 0.7, 0.5]
HALF = Budget(kind="units_global", ratio=0.5)
FIXED = {"draw": "fixed", "schedule": "anew", "sparsity": 0.0, "initial_scale": None}


def bits(text: str) -> Tensor:
    return torch.tensor([bit == "1" for bit in text])


def early_bird(**options: Any) -> EarlyBird:
    return EarlyBird(EarlyBird.Options(**options))


def phases(
    method: EarlyBird, recipe: Recipe, budget: Budget = HALF, epochs: int = 6
) -> list[Phase]:
    given = {
        "search": recipe.model_copy(update={"epochs": epochs}),
        "fine_tune": recipe.model_copy(update={"epochs": 2, "lr": 0.02}),
    }
    return method.phases(given, budget)


# --- E8
def test_distance_of_example_e8() -> None:
    assert mask_distance(bits("11001"), bits("10011")) == 0.4


@pytest.mark.parametrize(("ratio", "mask"), [(0.3, "1010101011"), (0.5, "1000101010")])
def test_masks_of_example_e8(ratio: float, mask: str) -> None:
    # one more is off than the ratio says: 4 and 6 of 10
    assert torch.equal(scale_mask(torch.tensor(SCALES), ratio), bits(mask))


# --- E9: ten channels, one mask and then another
A, B = "1111100000", "1111010000"


def test_distances_of_example_e9() -> None:
    assert distances_to_newest([bits(m) for m in (A, B, B, B, B)]) == [0.2, 0.0, 0.0, 0.0]
    assert distances_to_newest([bits(m) for m in (B, B, B, B, B)]) == [0.0, 0.0, 0.0, 0.0]


def test_the_ticket_of_example_e9_is_drawn_at_epoch_five(resnet_run: RunState) -> None:
    method = early_bird(mask_ratio=0.4)  # floor(0.4 x 10) + 1 = 5 of ten are off
    method.state = {"masks": []}
    drawn = []
    for mask in (A, B, B, B, B, B):
        method.scales = [torch.nn.Parameter(bits(mask) + torch.arange(10) * 1e-3)]
        method.decide(resnet_run)
        assert torch.equal(method.state["masks"][-1], bits(mask))
        drawn.append(method.finished(resnet_run))
    assert drawn == [False, False, False, False, False, True]
    assert method.figures() == {"ticket_epoch": 5.0, "mask_distance": 0.0}


def test_a_distance_of_exactly_the_threshold_is_near_enough(resnet_run: RunState) -> None:
    # the official code rejects what is larger
    for distance, drawn in ((0.1, True), (0.100001, False)):
        method = early_bird()
        method.state = {"masks": [bits(A)] * 5, "distance": distance}
        assert method.finished(resnet_run) is drawn


# --- over time
def test_the_search_ends_at_the_fifth_check_at_the_earliest(
    resnet_run: RunState, recipe: Recipe
) -> None:
    method = early_bird(distance=1.0)
    search = phases(method, recipe)[0]
    testing.train(method, [search], resnet_run)
    assert resnet_run.clock == 4 * 3  # epochs of three steps
    assert resnet_run.records.capped == []
    inside = [len(kept) for name, kept in resnet_run.kept.items() if name.endswith("conv1")]
    assert sum(inside) == 16 + 336 // 2  # the stem stays, half of the rest


def scramble(run: RunState) -> None:
    """Draw the scales anew."""
    with torch.no_grad():
        for name in scale_names(run.model):
            run.params[name].uniform_()


def test_a_search_without_end_is_cut_off(resnet_run: RunState, recipe: Recipe) -> None:
    method = early_bird(distance=0.0)
    testing.train(method, [phases(method, recipe)[0]], resnet_run, before_step=scramble)
    assert resnet_run.records.capped == ["search"]
    assert method.figures()["mask_distance"] > 0.0


def test_training_goes_on_where_the_search_stood(recipe: Recipe) -> None:
    search, train = phases(early_bird(), recipe)
    assert (search.until_finished, search.then, search.reportable_from) == (True, HALF, None)
    assert (train.optimizer, train.clock, train.length) == ("carry", "continue", Epochs(6))
    assert train.recipe == search.recipe
    assert early_bird().interval == Epochs(1)
    assert EarlyBird.start == "fresh"


def test_orthoregs_way_is_a_fixed_number_of_epochs_and_the_best_of_them(recipe: Recipe) -> None:
    method = early_bird(**FIXED, ticket="best", penalty=0.01, criterion="fisher")
    search, select, train = phases(method, recipe, epochs=25)
    assert (search.until_finished, search.length, search.then) == (False, Epochs(25), None)
    assert search.keep_best
    assert search.hooks == {"attach", "loss_term", "after_epoch"}
    assert (select.start, select.then) == ("best", HALF)
    assert (train.optimizer, train.clock, train.length) == ("new", "new", Epochs(2))
    assert "loss_term" not in train.hooks


def test_scales_begin_at_a_half(resnet_run: RunState, recipe: Recipe) -> None:
    method = early_bird()
    testing.begin(method, phases(method, recipe), resnet_run)
    names = scale_names(resnet_run.model)
    assert len(names) == 19
    assert all(bool((resnet_run.params[name] == 0.5).all()) for name in names)


def test_scales_feel_their_sign(resnet_run: RunState, recipe: Recipe) -> None:
    method = early_bird(sparsity=0.25)
    testing.begin(method, phases(method, recipe), resnet_run)
    gamma = resnet_run.params["bn1.weight"]
    with torch.no_grad():
        gamma[:3] = torch.tensor([2.0, -3.0, 0.0])
    testing.backward(resnet_run)
    others = {n: p.grad.clone() for n, p in resnet_run.params.items()}
    method.before_optimizer_step(resnet_run)
    change = gamma.grad - others["bn1.weight"]
    torch.testing.assert_close(change[:3], torch.tensor([0.25, -0.25, 0.0]))
    same = set(resnet_run.params) - scale_names(resnet_run.model)
    assert all(torch.equal(others[name], resnet_run.params[name].grad) for name in same)


def test_the_masks_have_the_ratio_of_the_run(resnet_run: RunState, recipe: Recipe) -> None:
    method = early_bird(initial_scale=None)
    scramble(resnet_run)
    budget = Budget(kind="macs", ratio=0.25)
    testing.begin(method, phases(method, recipe, budget), resnet_run)
    method.decide(resnet_run)
    (mask,) = method.state["masks"]
    n = 16 * 7 + 32 * 6 + 64 * 6  # all channels of ResNet-20
    assert (len(mask), int((~mask).sum())) == (n, n // 4 + 1)


def test_steps_read_nothing_on_the_host_and_repeat(resnet_run: RunState, recipe: Recipe) -> None:
    method = early_bird(penalty=0.01)
    testing.begin(method, phases(method, recipe), resnet_run)
    steps = []
    for _ in range(2):
        testing.backward(resnet_run)
        with recorded_operations() as operations:
            method.loss_term(resnet_run)
            method.before_optimizer_step(resnet_run)
        steps.append(list(operations))
    assert steps[0] == steps[1]
    assert len(steps[0]) > 0


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"ticket": "best"}, "ticket 'best' returns to an earlier epoch"),
        ({"draw": "fixed"}, "draw 'fixed' uses all epochs of 'search'"),
    ],
)
def test_options_that_do_not_go_together_are_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        early_bird(**options)


def test_ratio_zero_changes_nothing(resnet_run: RunState) -> None:
    plan = early_bird().select(resnet_run, Budget(kind="units_global", ratio=0.0))
    assert (plan.removed, plan.zeroed) == ({}, {})


def test_ratios_by_layer_need_a_ratio_of_the_masks(recipe: Recipe) -> None:
    budget = Budget(kind="auto", ratio=None)
    with pytest.raises(ValueError, match="mask_ratio is missing"):
        phases(early_bird(layer_ratios={"stages.*": 0.5}), recipe, budget)
    assert phases(early_bird(mask_ratio=0.5), recipe, budget)
