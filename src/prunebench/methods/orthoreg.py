"""OrthoReg: train filters until they are nearly orthonormal, then prune by an ordinary score.

Source: Lubana, Trivedi, Hougen, Dick, Hero, OrthoReg: Robust Network Pruning Using Orthonormality
Regularization, arXiv 2009.05014, and its official code, which is followed throughout. Scores of
groups of filters are sums of single-filter scores, which is right only if filters do not interact;
so the network is trained with a penalty R that makes the filters of each layer orthonormal. Then
it is pruned and retrained without the penalty; if more rounds follow, a short phase with the
penalty comes before each. The score is `criterion` (default: fisher), the rounds are those of
`rounds`, and the counting rules those of `global_ranking`.

With the weights of a convolution as a matrix W (filters x weights per filter, the bias as one more
column), and its row Gram W W^T or column Gram W^T W,

    R = sum over layers of c_l sum_ij | (Gram_l - I)_ij |,    c_l = sqrt(n_l) / sum sqrt(n).

The inner sum is neither squared nor averaged and includes both triangles and the diagonal. Batch
norm and linear layers are not penalized. The Gram and n of a layer depend on its place; one table
covers the three networks of the code:

| layer | Gram | n |
|---|---|---|
| stem | column | filters |
| depthwise | column | filters |
| pointwise | column | inputs |
| shortcut | column | smaller side of W; its term has the factor of its block's first layer |
| other | row | smaller side of W |

The weight decay is 0 while the penalty is on: the recipe "penalized" sets it (24 epochs at learning
rate 0.1 and one at 0.01). The code's first release, of the day of the paper, penalizes the fully
trained network; the newest starts from random weights and is followed here. The first is the method
`orthoreg_from_base`. The README says that the paper used Adam; the code has SGD alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.roles import LayerRole, layer_roles
from prunebench.criteria.choice import ChosenCriterion
from prunebench.criteria.gradients import Fisher
from prunebench.experiments.phases import Budget, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import NonNegative, Settings
from prunebench.methods.base import Run, Start
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
    """Let a dictionary name only the entries that differ from the defaults."""
    return BeforeValidator(
        lambda value: {**defaults, **value} if isinstance(value, dict) else value
    )


class OrthonormalityOptions(Settings):
    """Options of the penalty."""

    penalty: NonNegative = Field(
        1e-2,
        description="Strength lambda of the orthonormality penalty R (default: official code; "
        "MobileNet-V1: 1e-3).",
    )
    gram: Annotated[dict[LayerKind, GramSide], _completed(GRAMS)] = Field(
        GRAMS,
        description="Gram matrix by kind of layer: row (W W^T, filters) or column (W^T W, weights "
        "of a filter). Kinds that are not named keep the official code's.",
    )
    size: Annotated[dict[LayerKind, LayerSize], _completed(SIZES)] = Field(
        SIZES,
        description="Size n by kind of layer, whose square root weights the layer: filters (rows "
        "of W), inputs (input channels) or smaller (the shorter side of W). Kinds that are not "
        "named keep the official code's.",
    )
    shortcut_factor: Literal["first", "own"] = Field(
        "first",
        description="Factor c of a shortcut's term. first (default, the official code's ResNets): "
        "that of its block's first layer, while its own size enters the normalizer; own: its own.",
    )


class OrthoRegOptions(OrthonormalityOptions, RoundOptions):
    """Options of OrthoReg."""

    criterion: ChosenCriterion = Field(
        Fisher(), description="Criterion that ranks the units (default: official code)."
    )


def gram(rows: Tensor, side: GramSide) -> Tensor:
    """Return W W^T (row) or W^T W (column) of W, shape (filters, weights per filter)."""
    return rows @ rows.T if side == "row" else rows.T @ rows


def gram_penalty(rows: Tensor, side: GramSide) -> Tensor:
    """Return sum_ij | (Gram - I)_ij | of W, shape (filters, weights per filter).

    The subgradient at 0 is 0.

    >>> W = torch.tensor([[0.5, 0.5, 0.0], [0.5, -1.0, 0.5]])
    >>> float(gram_penalty(W, "row")), float(gram_penalty(W, "column"))
    (1.5, 3.5)
    """
    found = gram(rows, side)
    return (found - torch.eye(len(found), dtype=rows.dtype, device=rows.device)).abs().sum()


def orthogonality(rows: Tensor) -> Tensor:
    """Return sum |diagonal| / sum |entries| of the smaller Gram of W, 1 if it is diagonal.

    This is the official code's diagnostic for ResNet. It is NaN for a layer of zeros.

    >>> round(float(orthogonality(torch.tensor([[0.5, 0.5, 0.0], [0.5, -1.0, 0.5]]))), 6)
    0.8
    """
    found = gram(rows, "row" if rows.shape[0] <= rows.shape[1] else "column")
    return found.diagonal().abs().sum() / found.abs().sum()


def layer_factors(sizes: Sequence[int]) -> list[float]:
    """Return c_l = sqrt(n_l) / sum sqrt(n) of each layer from its size n.

    >>> layer_factors([4, 9, 25])
    [0.2, 0.3, 0.5]
    """
    total = sum(math.sqrt(n) for n in sizes)
    return [math.sqrt(n) / total for n in sizes]


def layer_kind(role: LayerRole) -> LayerKind:
    """Return the row of the module's table that a convolution belongs to."""
    if role.place in ("stem", "shortcut"):
        return "stem" if role.place == "stem" else "shortcut"
    if role.kind in ("depthwise", "pointwise"):
        return "depthwise" if role.kind == "depthwise" else "pointwise"
    return "other"


def penalized_layers(run: Run) -> dict[str, LayerRole]:
    """Return the penalized convolutions by weight: all except one that is the classifier."""
    return {
        weight: role
        for weight, role in layer_roles(run.graph).items()
        if role.kind != "linear" and role.place != "head"
    }


def filter_matrix(params: Mapping[str, Tensor], weight: str) -> Tensor:
    """Return W, (filters, weights per filter), with the layer's bias, if any, as last column.

    The columns are in channels-last memory order, which avoids a copy; R does not depend on it.
    """
    rows = params[weight].movedim(1, -1).flatten(1)
    bias = params.get(weight.rpartition(".")[0] + ".bias")
    return rows if bias is None else torch.cat([rows, bias[:, None]], dim=1)


def term_factors(
    shapes: Mapping[str, tuple[int, ...]],
    roles: Mapping[str, LayerRole],
    options: OrthonormalityOptions,
) -> dict[str, float]:
    """Return the factor c of each layer's term.

    `shapes` has (filters, weights per filter, input channels) of each layer.
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
    """The term lambda R of a network, with one batched product for all layers of one shape.

    Built anew for each structure of the network.

    Attributes
    ----------
    batches
        For the layers that share shape and Gram: names of their weights, whether the Gram is the
        column Gram, -I, and the vector of lambda c_l.
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
    """Log the orthogonality of each layer; return the values in network order."""
    found = []
    with torch.no_grad():
        for weight in penalized_layers(run):
            found.append(orthogonality(filter_matrix(run.params, weight)))
            run.log(weight.rpartition(".")[0], "orthogonality", found[-1])
    return found


class OrthoReg(InRounds[OrthoRegOptions]):
    """Train with the penalty from random weights, then prune and retrain in rounds.

    The state has `orthogonality`, the mean over layers after the last penalized epoch.
    """

    summary = "orthonormality penalty in training, then pruning in rounds (Lubana et al.)"
    Options = OrthoRegOptions
    start: ClassVar[Start] = "fresh"
    recipe_roles = ("penalized", "retrain", "fine_tune")

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return penalize and retrain for each round; after the last, fine_tune replaces retrain.

        The network is pruned at the end of each penalized phase.
        """
        found = []
        for number, part, is_last in self.numbered_rounds(budget):
            found.append(
                training(
                    f"penalize{number}",
                    recipes["penalized"],
                    hooks=frozenset({"attach", "loss_term", "after_epoch"}),
                    reportable_from=None,
                    then=part,
                )
            )
            if not is_last:
                found.append(training(f"retrain{number}", recipes["retrain"], reportable_from=None))
        return [*found, training("fine_tune", recipes["fine_tune"])]

    def run_revision(self, budget: Budget) -> int:
        """Return `revision`, and one more for each revision of the chosen criterion."""
        return super().run_revision(budget) + self.options.criterion.revision - 1

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the scores of the chosen criterion."""
        return self.options.criterion.scores(run, groups)

    def before_phase(self, run: Run) -> None:
        """Log the orthogonality of the layers before the penalty acts."""
        if "loss_term" in run.phase.hooks:
            log_orthogonality(run)

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Build the penalty for the current structure."""
        self.penalty = Orthonormality(run, self.options)
        return []

    def loss_term(self, run: Run) -> Tensor:
        """Return lambda R."""
        return self.penalty.term(run.params)

    def after_epoch(self, run: Run) -> None:
        """Log lambda R and the orthogonality of the layers; keep their mean."""
        with torch.no_grad():
            run.log("all", "penalty", self.loss_term(run))
        self.state["orthogonality"] = float(torch.stack(log_orthogonality(run)).mean())

    def figures(self) -> dict[str, float]:
        """Return the mean orthogonality of the layers before the last removal."""
        return dict(self.state)


class OrthoRegFromBase(OrthoReg):
    """OrthoReg that starts from the trained base network, as in the code's first release."""

    summary = "OrthoReg from the trained base network (the code's first release)"
    start = "base"
