"""The toy runs of `prunebench.testing` are real runs, and its checks find what is wrong."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunebench import testing
from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.core.errors import MethodError
from prunebench.criteria.registry import criterion_class
from prunebench.experiments.phases import Budget, Epochs, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Method, MethodOptions, Run
from prunebench.methods.one_shot import OneShot
from prunebench.methods.registry import method_class
from prunebench.training.run import RunState

L1 = method_class("l1")

HALF = testing.HALF


def l1() -> L1:
    return L1(L1.Options())


# --- networks and data
def test_the_toy_network_has_groups_of_three_roles() -> None:
    graph = testing.start(testing.toy_network(classes=5)).graph
    found = {name: (group.role, group.n_units) for name, group in graph.groups.items()}
    assert found == {
        "stem": ("stream", 4),
        "block.conv1": ("inside", 6),
        "conv": ("inside", 8),
    }


def test_a_toy_network_is_a_function_of_its_seed() -> None:
    before = torch.get_rng_state()
    first, same, other = (testing.toy_network(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["fc.weight"], other["fc.weight"])
    assert torch.equal(torch.get_rng_state(), before)


def test_given_images_reach_the_network_as_they_are() -> None:
    images = torch.tensor([0.5, -2.0, 3.0, 7.0]).view(4, 1, 1, 1)
    network = testing.named_layers(stem=nn.Conv2d(1, 2, 1), flatten=nn.Flatten())
    run = testing.start(network, testing.toy_data(images, torch.tensor([1, 0, 1, 0])))
    seen: list[Tensor] = []
    run.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    testing.backward(run)
    assert torch.equal(seen[0], images)
    assert run.divisor == 4


# --- runs
@pytest.mark.parametrize(("size", "found"), [(4, "(1, 2, 4, 4)"), (1, "(1, 2, 1, 1)")])
def test_a_loss_of_a_network_that_ends_in_a_convolution_is_a_clear_error(
    size: int, found: str
) -> None:
    network = testing.named_layers(stem=nn.Conv2d(1, 3, 1), head=nn.Conv2d(3, 2, 1))
    run = testing.start(network, image=(1, size, size))
    assert set(criterion_class("l1")().scores(run, run.graph.groups)) == {"stem"}  # without loss
    words = f"output for one image has shape {found}, expected (1, classes); end it with nn.Adapt"
    with pytest.raises(ValueError, match=re.escape(words)):
        criterion_class("taylor")().scores(run, run.graph.groups)


def test_steps_are_looked_at_before_and_after_the_update() -> None:
    before: list[Tensor] = []
    changed: list[bool] = []

    def look(run: RunState) -> None:
        assert run.params["fc.weight"].grad is not None
        before.append(run.params["fc.weight"].detach().clone())

    def compare(run: RunState) -> None:
        changed.append(not torch.equal(before[-1], run.params["fc.weight"]))

    recipe = testing.RECIPE.model_copy(update={"epochs": 2})
    run = testing.train(
        l1(), HALF, recipes={"fine_tune": recipe}, before_step=look, after_step=compare
    )
    assert changed == [True] * 6
    assert [row.epoch for row in run.records.history if not row.event] == [1, 2]


def test_a_look_before_the_step_does_not_change_the_run() -> None:
    def nothing(run: RunState) -> None:
        pass

    plain, looked = testing.train(l1(), HALF), testing.train(l1(), HALF, before_step=nothing)
    assert torch.equal(plain.params["fc.weight"], looked.params["fc.weight"])


@pytest.mark.parametrize(("dtype", "digits"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
def test_a_step_is_computed_in_the_networks_precision(dtype: torch.dtype, digits: float) -> None:
    run = testing.start(testing.toy_network().to(dtype))
    plain, split = copy.deepcopy(run.model), run.dataset.train
    recipe = Recipe(epochs=1, batch_size=12, lr=0.1, momentum=0.0, weight_decay=0.0)
    testing.train(l1(), [training("train", recipe)], run)
    F.cross_entropy(plain(split.images / 255), split.labels).backward()
    for name, parameter in plain.named_parameters():
        wanted = parameter - 0.1 * parameter.grad
        torch.testing.assert_close(run.params[name], wanted, rtol=0, atol=digits)


def test_double_precision_is_kept_through_training_and_removal() -> None:
    run = testing.train(l1(), HALF, testing.start(testing.toy_network().double()))
    assert {p.dtype for p in run.params.values()} == {torch.float64}
    assert run.kept["block.conv1"].numel() == 3


def test_a_run_that_has_begun_stands_before_its_first_step() -> None:
    class Begun(Method[MethodOptions]):
        def before_phase(self, run: Run) -> None:
            self.state["epochs"] = run.epochs

        def attach(self, run: Run) -> list[Any]:
            self.state["attached"] = True
            return []

    method = Begun(MethodOptions())
    phase = Phase(
        name="train", recipe=testing.RECIPE, length=Epochs(2.5), hooks=frozenset({"attach"})
    )
    run = testing.begin(method, [phase])
    assert (run.phase, method.state) == (phase, {"epochs": 2.5, "attached": True})


def test_training_begins_a_run_anew_that_has_begun() -> None:
    begun = []

    class Begun(Method[MethodOptions]):
        def before_phase(self, run: Run) -> None:
            begun.append(run.phase.name)

    method, phases = Begun(MethodOptions()), [training("train", testing.RECIPE)]
    run = testing.begin(method, phases)
    testing.train(method, phases, run)
    assert begun == ["train", "train"]
    assert run.clock == 3


def test_a_removal_is_written_down_and_checked() -> None:
    run = testing.prune(l1(), HALF)
    (plan,) = run.records.plans
    assert plan.macs == run.costs.macs() < run.base_macs
    assert plan.masked_removed_difference < 1e-12


def test_an_output_per_pixel_cannot_be_trained() -> None:
    network = testing.named_layers(stem=nn.Conv2d(1, 2, 1), head=nn.Conv2d(2, 3, 1))
    with pytest.raises(ValueError, match=r"has shape \(1, 3, 4, 4\), expected \(1, classes\)"):
        testing.train(l1(), HALF, testing.start(network))


# --- the checks
class Trains(OneShot):
    """A method that is right, for the wrong ones below."""

    summary = "magnitude after one epoch of training"
    recipe_roles = ("train",)

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        hooks = frozenset({"before_optimizer_step"})
        return [training("train", recipes["train"], hooks=hooks, then=budget)]

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        return {n: run.params[f"{n}.weight"].detach().flatten(1).norm(dim=1) for n in groups}


class CountsOutsideOfState(Trains):
    """The number of steps is lost where a run is resumed."""

    steps = 0

    def before_optimizer_step(self, run: Run) -> None:
        self.steps += 1
        for parameter in run.params.values():
            assert parameter.grad is not None
            parameter.grad.mul_(1 / self.steps)


class ForgetsItsHook(Trains):
    """A penalty that no phase enables."""

    def loss_term(self, run: Run) -> Tensor:
        return run.params["fc.weight"].abs().sum()


@pytest.mark.parametrize("check", [testing.check_method, lambda kind: run_once(kind)])
def test_a_hook_that_no_phase_enables_is_refused(check: Callable[[type], object]) -> None:
    with pytest.raises(MethodError, match="ForgetsItsHook defines loss_term, but no phase enables"):
        check(ForgetsItsHook)


def run_once(kind: type[OneShot]) -> object:
    return testing.begin(kind(kind.Options()), HALF)


class DrawsAnew(Trains):
    """Random numbers of the global state."""

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        return {name: torch.rand(group.n_units) for name, group in groups.items()}


class ReadsTheGradient(Trains):
    """A condition on a tensor within a step."""

    def before_optimizer_step(self, run: Run) -> None:
        grad = run.params["fc.weight"].grad
        assert grad is not None
        if grad.norm() > 1:
            grad.zero_()


class AlwaysOne(Trains):
    """A unit of each group, whatever the ratio."""

    def pruned_count(self, n_units: int, ratio: float) -> int:
        return 1


class KeepsAll(Trains):
    """Nothing is pruned, whatever the ratio."""

    def pruned_count(self, n_units: int, ratio: float) -> int:
        return 0


class EmptiesGroups(Trains):
    """Ratios are rounded to the nearest number of units, be it all."""

    def pruned_count(self, n_units: int, ratio: float) -> int:
        return round(ratio * n_units)


def test_a_right_method_passes() -> None:
    testing.check_method(Trains)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (CountsOutsideOfState, "stopped after step 1 and resumed has another result"),
        (DrawsAnew, "the same seed has given another result"),
        (ReadsTheGradient, "reads a tensor on the CPU; hooks of a step must not"),
        (AlwaysOne, "a ratio of 0 has pruned something"),
        (KeepsAll, "has pruned nothing"),
    ],
)
def test_a_wrong_method_is_told_its_fault(kind: type[Trains], sentence: str) -> None:
    torch.manual_seed(0)  # two choices of a few units may be equal by chance
    with pytest.raises(AssertionError, match=sentence):
        testing.check_method(kind)


def test_a_method_that_empties_a_group_is_stopped() -> None:
    with pytest.raises(MethodError, match="one must stay"):
        testing.check_method(EmptiesGroups)


def test_masks_must_fit_too() -> None:
    class Misfit(Trains):
        def select(self, run: Run, budget: Budget) -> Plan:
            return Plan(zeroed={"odd": torch.ones(1).bool()})

    with pytest.raises(MethodError, match="'odd', which is no parameter"):
        testing.check_method(Misfit)


def test_a_read_within_a_step_is_caught() -> None:
    with (
        pytest.raises(AssertionError, match="reads a tensor on the CPU"),
        testing.recorded_operations(),
    ):
        float(torch.ones(2).sum())
