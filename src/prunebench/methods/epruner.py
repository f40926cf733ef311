"""EPruner: keep the exemplars of each layer's filters, found by affinity propagation.

Source: Lin et al., Network Pruning Using Adaptive Exemplar Filters, arXiv 2101.07985 (IEEE TNNLS
33(12)), and its official code, which is followed throughout. The filters of a layer exchange
messages about which of them represent the others; the filters that emerge as exemplars are kept.
Their number, the layer's new width, depends on `beta` alone: a larger one makes every filter less
willing to be an exemplar. The selection needs no data and no training.

For a target in MACs, parameters, activations or latency, ours, the smallest `beta` that meets it is
found by halving an interval. In one layer, the step from one exemplar count to the next may remove
more than the target asks for: a filter of almost no norm is the nearest to all others, and of 62
exemplars it alone may be left. That layer keeps some of the filters of the step before, those that
its exemplars represent worst, so that the target is met to one unit.

The code asks for scikit-learn 0.20 and passes it float32. Here similarities are float64 and the
seed of the library's tie-breaking noise is fixed, so that exemplars are reproducible. A layer that
has not converged after the library's 200 iterations keeps the exemplars found by then, as in 0.20.
"""

from __future__ import annotations

import importlib
import math
import warnings
from collections.abc import Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.channels.removal import kept_units, slice_tensor
from prunebench.channels.unit_weights import members_with, producers, unit_rows
from prunebench.experiments.phases import COST_KINDS, Budget, Phase, RatioKind
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import Positive
from prunebench.methods.allocation import crossing, shortest_prefix
from prunebench.methods.base import (
    Before,
    Method,
    Run,
    by_pattern,
    is_enough,
    is_met,
    out_of_reach,
)
from prunebench.methods.fine_tuning import FineTuneOptions

Floats = NDArray[np.float64]
LARGEST_BETA = 64.0  # of the search for a target; far above it, the messages do not converge


class EPrunerOptions(FineTuneOptions):
    """Options of EPruner; the README and the code use other values of `beta` per network."""

    beta: Positive = Field(
        0.73,
        description="Factor of the median similarity in a filter's preference; larger values prune "
        "more (default: README for VGG-16, ResNet-18 and ResNet-50). Where a ratio gives a target, "
        "only the first value that is tried.",
    )
    layer_betas: dict[str, Positive] = Field(
        {},
        description="Values of beta by pattern of layers; the first that matches counts. The code "
        "sets them in the deep layers of VGG-16 (0.92) and of the ResNets for ImageNet, in "
        "bottlenecks for the 3x3 convolution only. With a target, they keep their proportion to "
        "`beta`.",
    )
    negligible_norm: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Filters with an L2 norm below this share of their layer's median norm are "
        "removed before the others are clustered (default: none, as in the paper). Filters of "
        "almost no norm are nearer to all others than these to each other, and become exemplars.",
    )
    initialization: Literal["centroids", "random_project", "random"] = Field(
        "centroids",
        description="Start of the smaller network. centroids (default): exemplars and the matching "
        "input channels of the next layers keep their weights; random_project: the next layers' "
        "weights are randomly projected to the new width; random: fresh weights.",
    )
    reset_all: bool = Field(
        False,
        description="Whether all tensors except the clustered weights are initialized anew "
        "(default: no; the code's VGG-16: yes).",
    )


def similarities(rows: Floats) -> Floats:
    """Return s(i, k) = -|x_i - x_k|^2, shape (filters, filters), with a zero diagonal.

    `rows` has the shape (filters, weights per filter).
    """
    from sklearn.metrics.pairwise import euclidean_distances  # importing it takes a second

    found: Floats = -euclidean_distances(rows, squared=True)
    return found


def clearly_nonzero(rows: Floats, share: float) -> list[int]:
    """Return the filters whose L2 norm is at least `share` of the layer's median norm.

    `rows` has the shape (filters, weights per filter).

    >>> clearly_nonzero(np.array([[3.0, 4.0], [0.1, 0.0], [5.0, 0.0]]), 0.1)
    [0, 2]
    """
    norms = np.linalg.norm(rows, axis=1)
    found: list[int] = np.flatnonzero(norms >= share * np.median(norms)).tolist()
    return found


def preferences(s: Floats, beta: float) -> Floats:
    """Return p(k) = beta * median over i of s(i, k), shape (filters,).

    The median includes the zero s(k, k), as in the official code.

    >>> preferences(np.array([[0.0, -1.0, -25.0], [-1.0, 0.0, -16.0], [-25.0, -16.0, 0.0]]), 2.0)
    array([ -2.,  -2., -32.])
    """
    found: Floats = beta * np.median(s, axis=0)
    return found


class Exemplars(NamedTuple):
    """The ascending indices of a layer's exemplars, and whether the messages converged."""

    kept: list[int]
    converged: bool


def exemplars(rows: Floats, beta: float) -> Exemplars:
    """Return the exemplars of a layer; `rows` has the shape (filters, weights per filter)."""
    return clustered(similarities(rows), beta)


def clustered(s: Floats, beta: float) -> Exemplars:
    """Return the exemplars of a layer from its similarities, shape (filters, filters).

    There is always an exemplar: if the library finds none, it is the filter most similar to all
    others. Of equal filters, it is the first.
    """
    from sklearn.cluster import AffinityPropagation
    from sklearn.exceptions import ConvergenceWarning

    model = AffinityPropagation(
        affinity="precomputed", preference=preferences(s, beta), random_state=0
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(s)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    found = [int(k) for k in model.cluster_centers_indices_]
    return Exemplars(found or [int(s.sum(axis=0).argmax())], converged)


class ExemplarsByBeta:
    """The exemplars of a layer at any beta, for a search.

    Between two values of beta with the same number of exemplars, those of the larger one count.
    """

    def __init__(self, s: Floats) -> None:
        self.s = s
        self.known = {0.0: Exemplars(list(range(len(s))), True)}

    def at(self, beta: float) -> Exemplars:
        """Return the exemplars; at beta 0 these are all filters."""
        below = self.known[max(b for b in self.known if b <= beta)]
        above = self.known.get(min((b for b in self.known if b >= beta), default=beta))
        if above is None or len(above.kept) != len(below.kept):
            above = self.known.setdefault(beta, clustered(self.s, beta))
        return above


def with_worst_represented(s: Floats, kept: list[int], others: list[int], count: int) -> list[int]:
    """Return `count` filters: `kept`, and those of `others` that are least similar to any of them.

    >>> line = np.array([[0.0], [1.0], [5.0], [7.0]])
    >>> with_worst_represented(similarities(line), [0], [0, 1, 2, 3], 3)
    [0, 2, 3]
    """
    spare = [i for i in others if i not in kept]
    order = np.argsort(s[np.ix_(spare, kept)].max(axis=1), kind="stable")
    return sorted([*kept, *(spare[k] for k in order[: count - len(kept)])])


def sparse_projection(n_in: int, n_out: int, generator: torch.Generator) -> Tensor:
    """Return a random (n_in, n_out) matrix for projecting rows.

    A projected row keeps its squared length on average. Entries are +-sqrt(1/q) / sqrt(n_out) with
    probability q/2 each, else 0; q = 1/sqrt(n_in). Official code, which does not seed it.
    """
    q = 1 / math.sqrt(n_in)
    draw = torch.rand(n_in, n_out, generator=generator)
    signs = (draw < q / 2).float() - (draw >= 1 - q / 2).float()
    return signs / math.sqrt(q * n_out)


def projected(columns: Tensor, n_out: int, generator: torch.Generator) -> Tensor:
    """Return a layer's weight (c_out, c_in, ...) projected to (c_out, n_out, ...)."""
    kernel = columns[0, 0].numel()
    matrix = sparse_projection(columns.shape[1] * kernel, n_out * kernel, generator)
    flat = columns.flatten(1) @ matrix.to(columns)
    return flat.reshape(columns.shape[0], n_out, *columns.shape[2:])


class EPruner(Method[EPrunerOptions]):
    """Cluster each layer's filters, keep the exemplars, fine-tune."""

    summary = "keep exemplar filters found by affinity propagation in each layer (Lin et al.)"
    Options = EPrunerOptions
    ratio_kinds = ("auto", *COST_KINDS)
    decides_ratio = True
    rounds_widths = False  # exemplars decide the widths

    def before_phase(self, run: Run) -> None:
        """Import scikit-learn before the selection, so that the import is not in its seconds."""
        importlib.import_module("sklearn.cluster")

    def needed_roles(self) -> tuple[str, ...]:
        """Return no role without fine-tuning."""
        return self.recipe_roles if self.options.fine_tune else ()

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return select, recalibrate, fine_tune."""
        return [Phase(name="select", then=budget), *self.options.after_removal(recipes)]

    def beta_of(self, layer: str) -> float:
        """Return the beta of a layer."""
        return by_pattern(self.options.layer_betas, layer, self.options.beta)

    def chooses_widths(self, kind: RatioKind) -> bool:
        """Return True: each layer keeps its exemplars."""
        return True

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the removal of all filters except the exemplars."""
        groups = self.candidates(run)
        clustered_units, s = {}, {}
        for name, group in groups.items():
            rows = unit_rows(run.params, group).double().cpu().numpy()
            clustered_units[name] = clearly_nonzero(rows, self.options.negligible_norm)
            s[name] = similarities(rows[clustered_units[name]])
        if self.options.negligible_norm:
            whole = sum(group.n_units for group in groups.values())
            self.state["filters_negligible"] = whole - sum(map(len, clustered_units.values()))
        if budget.ratio is None:
            self.state["beta"] = self.options.beta
            found = {name: clustered(own, self.beta_of(name)) for name, own in s.items()}
        else:
            found = self.searched(run, budget, s)
        removed = {}
        for name, (places, _) in found.items():
            n_units = groups[name].n_units
            kept = [clustered_units[name][place] for place in places]
            run.log(name, "mean_cluster_size", torch.tensor(n_units / len(kept)))
            if len(kept) < n_units:
                removed[name] = kept_units(n_units, torch.tensor(kept))
        self.state["layers_not_converged"] = sum(not own.converged for own in found.values())
        return Plan(removed=removed)

    def searched(self, run: Run, budget: Budget, s: Mapping[str, Floats]) -> dict[str, Exemplars]:
        """Return the exemplars at the smallest beta that meets the budget, to one unit.

        The state gets `beta` and `exemplars_added`, the filters that stay beside the exemplars.
        TrainingError if no beta meets it.
        """
        layers = {name: ExemplarsByBeta(own) for name, own in s.items()}
        factors = {name: self.beta_of(name) / self.options.beta for name in s}

        def at(beta: float) -> dict[str, Exemplars]:
            return {name: own.at(factors[name] * beta) for name, own in layers.items()}

        tried: dict[float, tuple[float, float]] = {}

        def met(beta: float) -> bool:
            left = {name: len(own.kept) for name, own in at(beta).items()}
            tried[beta] = self.counted(run, budget, left)
            return is_enough(budget, *tried[beta])

        self.state |= {"beta": 0.0, "exemplars_added": 0}
        if met(0.0):
            return at(0.0)
        try:
            found = crossing(met, min(self.options.beta, LARGEST_BETA), LARGEST_BETA)
        except ValueError:
            reached = {1 - now / whole: beta for beta, (whole, now) in tried.items()}
            limit = f"at beta {reached[max(reached)]:g}; use a smaller ratio or more roles"
            raise out_of_reach(run, budget, max(reached), limit) from None
        before, after = at(found.below), at(found.reached)
        # Layers whose number of exemplars changes there, in network order.
        order = [n for n in s for _ in before[n].kept[len(after[n].kept) :]]
        gone = shortest_prefix(
            order,
            lambda counts: is_met(
                run, budget, {n: len(own.kept) - counts.get(n, 0) for n, own in before.items()}
            ),
        )
        chosen = {}
        for name, (kept, converged) in before.items():
            count = len(kept) - gone.get(name, 0)
            chosen[name] = before[name] if name not in gone else after[name]
            if count > len(chosen[name].kept):
                both = with_worst_represented(s[name], after[name].kept, kept, count)
                chosen[name] = Exemplars(both, converged and after[name].converged)
                self.state["exemplars_added"] += count - len(after[name].kept)
        self.state["beta"] = found.reached
        return chosen

    def after_removal(self, run: Run, plan: Plan, before: Before) -> None:
        """Initialize anew the tensors that the code does, and restore all others.

        "centroids": exemplars keep their weights, and the layers that read them the matching
        columns. Biases and batch norms of clustered layers are initialized anew, even if the layer
        lost no filter. "random_project": the same, but all old columns of a layer that reads
        exemplars are projected to as many columns as there are exemplars. "random": everything is
        initialized anew; only the widths are used.
        """
        groups = self.candidates(run)
        tensors = _tensors(run.model)
        fresh = self.reset_names(groups, tensors)
        old = {name: t.detach().clone() for name, t in tensors.items() if name not in fresh}
        run.initialize()
        with torch.no_grad():
            for name, tensor in _tensors(run.model).items():
                if name in old:
                    tensor.copy_(old[name])
            if self.options.initialization == "random_project":
                for group in plan.removed:
                    self.project(run, group, before, fresh)
        for path in {name.rpartition(".")[0] for name in fresh}:
            module = run.model.get_submodule(path)
            if isinstance(module, nn.modules.batchnorm._NormBase):
                module.reset_running_stats()

    def reset_names(
        self, groups: Mapping[str, ChannelGroup], tensors: Mapping[str, Tensor]
    ) -> set[str]:
        """Return the names of the parameters and buffers that are initialized anew."""
        if self.options.initialization == "random":
            return set(tensors)
        if self.options.reset_all:
            return set(tensors) - {m.parameters[0] for g in groups.values() for m in producers(g)}
        vectors = (m for g in groups.values() for m in g.members if m.role == "vector")
        return {name for member in vectors for name in member.parameters}

    def project(self, run: Run, group: str, before: Before, fresh: set[str]) -> None:
        """Set the weights that read the exemplars to the projected old weights."""
        now = {m.parameters[0]: m for m in members_with(run.graph.groups[group], "in")}
        for member in members_with(before.graph.groups[group], "in"):
            name, dim = member.parameters[0], member.dim
            if name in fresh:
                continue
            rows = [cut for cut in before.cuts[name] if cut[0] != dim]
            old = slice_tensor(before.tensors[name], rows).movedim(dim, 1)
            columns = old[:, member.index.flatten().to(old.device)]
            new, places = run.params[name].movedim(dim, 1), now[name].index.flatten()
            generator = run.generator("project", group, name)
            new[:, places.to(new.device)] = projected(columns, len(places), generator)

    def figures(self) -> dict[str, float]:
        """Return beta, and the number of layers in which affinity propagation did not converge.

        With a target, `beta` is the one found, and there is the number of filters that stay beside
        the exemplars; with `negligible_norm`, the number of filters removed before the clustering.
        """
        return dict(self.state)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict([*model.named_parameters(), *model.named_buffers()])
