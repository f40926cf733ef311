"""Early-Bird tickets: prune early in training, then train on.

Source: You et al., Drawing Early-Bird Tickets, arXiv 1909.11957, and its official code, which is
followed. The network is trained with an L1 penalty on the scales of batch norm. At the start of
each epoch, a mask records which channels a pruning by |gamma| would keep. Once the last five masks
differ little, the network is pruned and trained on along the same schedule. The code compares the
newest mask with each of the older ones, and a distance equal to the threshold counts as near
enough; its README speaks of distances between neighboring epochs.

OrthoReg's official code (Lubana et al., arXiv 2009.05014) draws its "Early-Bird" tickets after a
fixed 25 epochs, from the best of them, and trains the ticket with a schedule of its own:
`draw: fixed`, `ticket: best`, `schedule: anew`, `sparsity: 0`, `initial_scale: null`; its own
tickets with `penalty: 0.01` and `criterion: fisher`. "Best" refers to the validation split here and
to the test split there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.unit_weights import scale_names
from prunebench.criteria.choice import ChosenCriterion
from prunebench.criteria.weights import BNScale
from prunebench.experiments.phases import Budget, Epochs, HookName, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import NonNegative, Positive
from prunebench.methods.base import Ratio, Run
from prunebench.methods.global_ranking import GlobalRanking, RankingOptions
from prunebench.methods.orthoreg import Orthonormality, OrthonormalityOptions, log_orthogonality


class EarlyBirdOptions(OrthonormalityOptions, RankingOptions):
    """Options of Early-Bird tickets; the defaults are You et al.'s for CIFAR."""

    draw: Literal["mask_distance", "fixed"] = Field(
        "mask_distance",
        description="Time at which the ticket is drawn. mask_distance (default): when the masks "
        "agree; fixed: after all epochs of the recipe 'search' (OrthoReg's code).",
    )
    masks: Annotated[int, Field(ge=2)] = Field(
        5,
        description="Number of masks, one per epoch, that must agree (default: You et al.'s code).",
    )
    distance: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1,
        description="Largest share of channels in which a mask may differ from the newest one "
        "(default: You et al.'s code).",
    )
    mask_ratio: Ratio | None = Field(
        None, description="Pruning ratio of the masks (default: the run's own ratio)."
    )
    sparsity: NonNegative = Field(
        1e-4,
        description="Strength of the L1 penalty on batch-norm scales: this times sign(gamma) is "
        "added to their gradients (default: You et al. for CIFAR; OrthoReg's code: 0).",
    )
    initial_scale: Positive | None = Field(
        0.5,
        description="Value that every gamma starts from (default: You et al. for CIFAR; null: as "
        "the network is initialized, OrthoReg's code).",
    )
    criterion: ChosenCriterion = Field(
        BNScale(), description="Criterion that ranks the units (default: You et al.)."
    )
    penalty: NonNegative = Field(
        0.0,
        description="Strength lambda of OrthoReg's orthonormality penalty during the search "
        "(default: none; OrthoReg's tickets: 0.01).",
    )
    ticket: Literal["last", "best"] = Field(
        "last",
        description="Epoch from which the ticket is drawn. last (default): the last of the search; "
        "best: the one with the best validation accuracy (OrthoReg's code, by test accuracy).",
    )
    schedule: Literal["continue", "anew"] = Field(
        "continue",
        description="Training of the ticket. continue (default): optimizer, clock and schedule of "
        "the search go on; anew: with the recipe 'fine_tune' (OrthoReg's code).",
    )

    @model_validator(mode="after")
    def _check_schedule(self) -> EarlyBirdOptions:
        if self.ticket == "best" and self.schedule == "continue":
            raise ValueError("ticket 'best' returns to an earlier epoch: it needs schedule 'anew'")
        if self.draw == "fixed" and self.schedule == "continue":
            raise ValueError("draw 'fixed' uses all epochs of 'search': it needs schedule 'anew'")
        return self


def scale_mask(scales: Tensor, ratio: float) -> Tensor:
    """Return the mask of the channels that a pruning by pooled |gamma| would keep.

    `scales` and the bool mask have the shape (channels,). A kept channel is strictly above the
    sorted value at place floor(ratio n) of n, so one channel more is off than the ratio says, as
    in the official code.

    >>> scale_mask(torch.tensor([0.9, 0.1, 0.4, 0.3]), 0.5).tolist()
    [True, False, False, False]
    """
    return scales > scales.sort().values[int(ratio * len(scales))]


def mask_distance(a: Tensor, b: Tensor) -> float:
    """Return the share of places at which two bool masks differ.

    >>> mask_distance(torch.tensor([True, True]), torch.tensor([True, False]))
    0.5
    """
    return float((a != b).double().mean())


def distances_to_newest(masks: Sequence[Tensor]) -> list[float]:
    """Return the distance of each mask to the newest, which is the last of the list."""
    return [mask_distance(masks[-1], older) for older in masks[:-1]]


class EarlyBird(GlobalRanking[EarlyBirdOptions]):
    """Search for the ticket from random weights, prune, train on.

    The state has `masks` of the last epochs, oldest first; `distance`, the largest distance to the
    newest; and `epochs`, the number of epochs before the newest.
    """

    summary = "Early-Bird tickets: prune once masks of batch-norm scales agree (You et al.)"
    Options = EarlyBirdOptions
    start = "fresh"
    recipe_roles = ("search", "fine_tune")
    optional_hooks = frozenset(
        {"decide", "finished", "loss_term", "before_optimizer_step", "after_epoch"}
    )
    interval = Epochs(1)

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return search and train, with select between them if the ticket is the best epoch's."""
        options = self.options
        self.check(budget)
        by_masks, best = options.draw == "mask_distance", options.ticket == "best"
        if by_masks and options.mask_ratio is None and budget.ratio is None:
            raise ValueError("layer_ratios give no ratio for the masks: mask_ratio is missing")
        hooks: set[HookName] = {"attach"}
        hooks |= {"before_optimizer_step"} if options.sparsity else set()
        searching: set[HookName] = {"decide"} if by_masks else set()
        searching |= {"loss_term", "after_epoch"} if options.penalty else set()
        search = training(
            "search",
            recipes["search"],
            until_finished=by_masks,
            hooks=frozenset(hooks | searching),
            keep_best=best,
            reportable_from=None,
            then=None if best else budget,
        )
        found = [search, Phase(name="select", start="best", then=budget)] if best else [search]
        if options.schedule == "anew":
            return [*found, training("train", recipes["fine_tune"], hooks=frozenset(hooks))]
        train = training(
            "train",
            recipes["search"],
            optimizer="carry",
            clock="continue",
            hooks=frozenset(hooks),
        )
        return [*found, train]

    def run_revision(self, budget: Budget) -> int:
        """Return `revision`, and one more for each revision of the chosen criterion."""
        return super().run_revision(budget) + self.options.criterion.revision - 1

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the scores of the chosen criterion."""
        return self.options.criterion.scores(run, groups)

    def before_phase(self, run: Run) -> None:
        """Set the initial scales and an empty list of masks."""
        if run.phase.name != "search":
            return
        self.state = {"masks": []}
        value = self.options.initial_scale
        if value is not None:
            with torch.no_grad():
                for name in scale_names(run.model):
                    run.params[name].fill_(value)

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Look up the scales and build the orthonormality penalty for the current structure."""
        names = scale_names(run.model)
        self.scales = [parameter for name, parameter in run.params.items() if name in names]
        if "loss_term" in run.phase.hooks:
            self.penalty = Orthonormality(run, self.options)
        return []

    def decide(self, run: Run) -> None:
        """Record the mask of the current scales before an epoch begins."""
        ratio = self.options.mask_ratio
        if ratio is None:
            ratio = self.budget(run).ratio
        assert ratio is not None  # checked by `phases`
        pooled = torch.cat([gamma.detach().abs() for gamma in self.scales])
        masks = [*self.state["masks"], scale_mask(pooled, ratio)][-self.options.masks :]
        self.state["masks"] = masks
        self.state["epochs"] = self.state.get("epochs", -1) + 1
        if len(masks) > 1:
            distance = max(distances_to_newest(masks))
            self.state["distance"] = distance
            run.log("all", "mask_distance", torch.tensor(distance, device=run.device))

    def finished(self, run: Run) -> bool:
        """Return whether there are enough masks and none is far from the newest."""
        is_full = len(self.state["masks"]) == self.options.masks
        return is_full and self.state["distance"] <= self.options.distance

    def loss_term(self, run: Run) -> Tensor:
        """Return OrthoReg's lambda R."""
        return self.penalty.term(run.params)

    def before_optimizer_step(self, run: Run) -> None:
        """Add the subgradient of the L1 norm to the scales' gradients."""
        for gamma in self.scales:
            assert gamma.grad is not None
            gamma.grad.add_(gamma.detach().sign(), alpha=self.options.sparsity)

    def after_epoch(self, run: Run) -> None:
        """Log the orthogonality of the layers."""
        log_orthogonality(run)

    def figures(self) -> dict[str, float]:
        """Return the number of epochs of the search and the distance of its last masks.

        A distance above the option's means that the search ended without finding a ticket.
        """
        names = {"ticket_epoch": "epochs", "mask_distance": "distance"}
        return {name: float(self.state[key]) for name, key in names.items() if key in self.state}
