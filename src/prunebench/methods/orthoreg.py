"""The orthonormality penalty of OrthoReg, and how orthogonal filters are.

Lubana, Trivedi, Hougen, Dick, Hero, OrthoReg, arXiv 2009.05014, as its official code computes it:
with a convolution's weights as W (filters x weights per filter, its bias as one more column), the
row Gram W W^T or the column Gram W^T W, and

    R = sum over layers of c_l sum_ij | (Gram_l - I)_ij |,    c_l = sqrt(n_l) / sum sqrt(n).

Neither squared nor averaged; both triangles and the diagonal count. Batch norm and linear layers
have no part in it. Which Gram and which n belong to a layer goes by its place, and one table holds
for the code's three networks:

| layer | Gram | n |
|---|---|---|
| stem | column | filters |
| depthwise | column | filters |
| pointwise | column | inputs |
| shortcut | column | smaller side of W; but its term has the factor of its block's first layer |
| other | row | smaller side of W |

OrthoReg: train filters until they are nearly orthonormal, then prune by an ordinary score.

Source: Lubana, Trivedi, Hougen, Dick, Hero, OrthoReg: Robust Network Pruning Using Orthonormality
Regularization, arXiv 2009.05014, and its official code; the penalty stands in `orthonormality`,
the score in `gradient_scores` (fisher), the rounds in `rounds`, what is counted in
`global_ranking`. The network is trained with the penalty, pruned, retrained without; where more
rounds follow, a short phase with the penalty comes before each. The weight decay is 0 while the
penalty is on: that stands in the recipe "penalized" (24 epochs at 0.1 and one at 0.01).

The code's first release, of the day of the paper, penalizes the fully trained network; the newest
starts from random weights. The newest is followed here, and the first is the method
`orthoreg_from_base`. The README says that the paper used Adam; the code has SGD alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.roles import LayerRole, layer_roles
from prunebench.criteria.base import Run
from prunebench.criteria.gradients import FisherScore
from prunebench.criteria.registry import ChosenCriterion
from prunebench.experiments.phases import Budget, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import NonNegative, Settings
from prunebench.methods.base import Start
from prunebench.methods.rounds import InRounds, RoundOptions

LayerKind = Literal["stem", "depthwise", "pointwise", "shortcut", "other"]
GramSide = Literal["row", "column"]
LayerSize = Literal["filters", "inputs", "smaller"]

GRAMS: dict[LayerKind, GramSide] = {
    "stem": "column",
    "depthwise": "column",
    "pointwise": "column",
    "shortcut": "column",
    "other": "row",
}
SIZES: dict[LayerKind, LayerSize] = {
    "stem": "filters",
    "depthwise": "filters",
    "pointwise": "inputs",
    "shortcut": "smaller",
    "other": "smaller",
}


def _completed(defaults: Mapping[Any, Any]) -> BeforeValidator:
    """Take a dictionary for what differs from the defaults."""
    return BeforeValidator(
        lambda value: {**defaults, **value} if isinstance(value, dict) else value
    )


class OrthonormalityOptions(Settings):
    """Options of the penalty, by kind of layer; kinds that are not named keep the table's."""

    penalty: NonNegative = 1e-2  # lambda; MobileNet-V1: 1e-3
    gram: Annotated[dict[LayerKind, GramSide], _completed(GRAMS)] = GRAMS
    # n: filters are rows of W, inputs the input channels, smaller the shorter side of W
    size: Annotated[dict[LayerKind, LayerSize], _completed(SIZES)] = SIZES
    # first: a shortcut's term has the factor of its block's first layer, while its own enters the
    # normalizer, as in the code's ResNets; own: its own
    shortcut_factor: Literal["first", "own"] = "first"


def gram(rows: Tensor, side: GramSide) -> Tensor:
    """Return W W^T or W^T W of W, (filters, weights)."""
    return rows @ rows.T if side == "row" else rows.T @ rows


def gram_penalty(rows: Tensor, side: GramSide) -> Tensor:
    """Return sum_ij | (Gram - I)_ij | of W, (filters, weights); its gradient at 0 is 0.

    >>> W = torch.tensor([[0.5, 0.5, 0.0], [0.5, -1.0, 0.5]])
    >>> float(gram_penalty(W, "row")), float(gram_penalty(W, "column"))
    (1.5, 3.5)
    """
    found = gram(rows, side)
    return (found - torch.eye(len(found), dtype=rows.dtype, device=rows.device)).abs().sum()


def orthogonality(rows: Tensor) -> Tensor:
    """Return sum |diagonal| / sum |entries| of the smaller Gram of W: 1 if it is diagonal.

    The official code's diagnostic for ResNet. NaN for a layer that is zero.

    >>> round(float(orthogonality(torch.tensor([[0.5, 0.5, 0.0], [0.5, -1.0, 0.5]]))), 6)
    0.8
    """
    found = gram(rows, "row" if rows.shape[0] <= rows.shape[1] else "column")
    return found.diagonal().abs().sum() / found.abs().sum()


def layer_factors(sizes: Sequence[int]) -> list[float]:
    """Return c_l = sqrt(n_l) / sum sqrt(n).

    >>> layer_factors([4, 9, 25])
    [0.2, 0.3, 0.5]
    """
    total = sum(math.sqrt(n) for n in sizes)
    return [math.sqrt(n) / total for n in sizes]


def layer_kind(role: LayerRole) -> LayerKind:
    """Return which row of the table a convolution belongs to."""
    if role.place in ("stem", "shortcut"):
        return "stem" if role.place == "stem" else "shortcut"
    if role.kind in ("depthwise", "pointwise"):
        return "depthwise" if role.kind == "depthwise" else "pointwise"
    return "other"


def penalized_layers(run: Run) -> dict[str, LayerRole]:
    """Return the convolutions that the penalty is about, by weight: all but one as a classifier."""
    return {
        weight: role
        for weight, role in layer_roles(run.graph).items()
        if role.kind != "linear" and role.place != "head"
    }


def filter_matrix(params: Mapping[str, Tensor], weight: str) -> Tensor:
    """Return W, (filters, weights per filter), with the layer's bias as its last column.

    Weights come in the order in which they lie in memory with channels last, so that nothing is
    copied; R does not depend on it.
    """
    rows = params[weight].movedim(1, -1).flatten(1)
    bias = params.get(weight.rpartition(".")[0] + ".bias")
    return rows if bias is None else torch.cat([rows, bias[:, None]], dim=1)


def term_factors(
    shapes: Mapping[str, tuple[int, ...]],
    roles: Mapping[str, LayerRole],
    options: OrthonormalityOptions,
) -> dict[str, float]:
    """Return the factor of each layer's term, without lambda.

    `shapes` holds (filters, weights per filter, input channels) of each layer.
    """
    sizes = []
    for weight, role in roles.items():
        filters, entries, inputs = shapes[weight]
        choices = {"filters": filters, "inputs": inputs, "smaller": min(filters, entries)}
        sizes.append(choices[options.size[layer_kind(role)]])
    own = dict(zip(roles, layer_factors(sizes), strict=True))
    if options.shortcut_factor == "own":
        return own
    first = {role.block: weight for weight, role in roles.items() if role.place == "first"}
    return {
        weight: own[first.get(role.block, weight)] if role.place == "shortcut" else own[weight]
        for weight, role in roles.items()
    }


class Orthonormality:
    """lambda R of a network, laid out once per structure: one product for layers of one shape.

    Attributes
    ----------
    batches
        (weights of layers with one shape and Gram, whether the column Gram, -I, lambda c_l).
    """

    def __init__(self, run: Run, options: OrthonormalityOptions) -> None:
        roles = penalized_layers(run)
        matrices = {weight: filter_matrix(run.params, weight) for weight in roles}
        shapes = {w: (*m.shape, run.params[w].shape[1]) for w, m in matrices.items()}
        alike: dict[tuple[tuple[int, ...], GramSide], list[str]] = {}
        for weight, role in roles.items():
            alike.setdefault((shapes[weight][:2], options.gram[layer_kind(role)]), []).append(
                weight
            )
        c = term_factors(shapes, roles, options)
        self.batches: list[tuple[list[str], bool, Tensor, Tensor]] = []
        for ((filters, entries), which), weights in alike.items():
            like = matrices[weights[0]].detach()
            identity = torch.eye(entries if which == "column" else filters).to(like)
            strengths = like.new_tensor([options.penalty * c[weight] for weight in weights])
            self.batches.append((weights, which == "column", -identity, strengths))

    def term(self, params: Mapping[str, Tensor]) -> Tensor:
        """Return lambda R, a tensor of one element."""
        terms = []
        for weights, is_column, minus_identity, strengths in self.batches:
            rows = torch.stack([filter_matrix(params, weight) for weight in weights])
            left, right = (rows.mT, rows) if is_column else (rows, rows.mT)
            differences = torch.baddbmm(minus_identity, left, right)
            terms.append(differences.abs().sum(dim=(1, 2)) @ strengths)
        return torch.stack(terms).sum()


def log_orthogonality(run: Run) -> list[Tensor]:
    """Log how orthogonal each layer is; return the numbers in network order."""
    found = []
    with torch.no_grad():
        for weight in penalized_layers(run):
            found.append(orthogonality(filter_matrix(run.params, weight)))
            run.log(weight.rpartition(".")[0], "orthogonality", found[-1])
    return found


PENALIZED = frozenset({"attach", "loss_term", "after_epoch"})


class OrthoRegOptions(OrthonormalityOptions, RoundOptions):
    """Options of OrthoReg."""

    criterion: ChosenCriterion = FisherScore()


class OrthoReg(InRounds[OrthoRegOptions]):
    """From random weights: the penalty, then rounds of pruning and retraining.

    State: `orthogonality`, the mean over layers at the end of the last penalized epoch.
    """

    summary = "filters trained to be orthonormal, then pruned in rounds (Lubana et al.)"
    Options = OrthoRegOptions
    start: ClassVar[Start] = "fresh"
    recipe_roles = ("penalized", "retrain", "fine_tune")

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return (penalize, retrain) for each round; the last trains with `fine_tune` instead.

        At the end of each penalized phase filters leave.
        """
        found, rounds = [], self.options.rounds
        for k, part in enumerate(self.budgets(budget), start=1):
            number = "" if rounds == 1 else f"_{k}"
            found.append(
                training(
                    f"penalize{number}",
                    recipes["penalized"],
                    hooks=PENALIZED,
                    reportable_from=None,
                    then=part,
                )
            )
            if k < rounds:
                found.append(training(f"retrain{number}", recipes["retrain"], reportable_from=None))
        return [*found, training("fine_tune", recipes["fine_tune"])]

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the scores of the chosen criterion."""
        return self.options.criterion.scores(run, groups)

    def before_phase(self, run: Run) -> None:
        """Log how orthogonal the layers are before the penalty works on them."""
        if "loss_term" in run.phase.hooks:
            log_orthogonality(run)

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Lay the penalty out for the present structure."""
        self.penalty = Orthonormality(run, self.options)
        return []

    def loss_term(self, run: Run) -> Tensor:
        """Return lambda R."""
        return self.penalty.term(run.params)

    def after_epoch(self, run: Run) -> None:
        """Log lambda R and how orthogonal the layers are."""
        with torch.no_grad():
            run.log("all", "penalty", self.loss_term(run))
        self.state["orthogonality"] = float(torch.stack(log_orthogonality(run)).mean())

    def figures(self) -> dict[str, float]:
        """Return how orthogonal the layers were when the last filters left, on average."""
        return dict(self.state)


class OrthoRegFromBase(OrthoReg):
    """From the trained base network, as the code's first release."""

    summary = "OrthoReg that starts from the base network (the code's first release)"
    start = "base"
