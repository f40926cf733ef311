"""Soft filter pruning: SFP, ASFP, SRFP, ASRFP, and FPGM as its authors train it.

Sources: He et al., Soft Filter Pruning, arXiv 1808.06866 (SFP); He et al., Asymptotic Soft Filter
Pruning, arXiv 1808.07471 (ASFP); Cai, An, Yang, Xu, Softer Pruning, Incremental Regularization,
arXiv 2010.09498 (SRFP, ASRFP); He et al., Filter Pruning via Geometric Median, arXiv 1811.00250,
and its official code (FPGM).

After each epoch t, the share P(t) of a layer's filters with the smallest L2 norms is multiplied by
alpha(t). All filters go on training, with their momenta, and the next epoch chooses anew. At the
end alpha is 0 and P is the pruning ratio. The four methods of the family differ only in the
schedules of P and alpha. For a target in MACs, parameters, activations or latency, which is ours,
each layer has the ratio at which all layers together meet the target to one filter. Zeroed filters
save no activations and no time: these two need the scope "group".

No code came with ASFP, SRFP and ASRFP. The schedules of alpha and P are those of the CIFAR script
of PGMPF (AAAI 2022), by SRFP's first author; the ranking, the rounding and the order of operations
are SFP's. Two choices of PGMPF are not followed: it ranks widened convolutions weighted by batch
norm, and its default P(t) is the cubic curve, while "asymptotic" names ASFP's curve.

FPGM follows SFP's procedure, but prunes the filters nearest to all others. Unlike in SFP, pruned
filters get no gradient until the next epoch chooses anew: with their momenta alone they seldom
come back, so FPGM acts almost as hard pruning. FPGM-mix first prunes a share by norm
(`norm_rate`); the paper says 30 % by distance and 10 % by norm, the scripts behind its tables the
other way round. The method `fpgm` uses the criterion for pruning once, followed by fine-tuning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.channels.selections import select_layers
from prunebench.channels.single_layers import convolutions, entry_mask, norms_behind, with_norms
from prunebench.channels.unit_weights import unit_rows
from prunebench.criteria.weights import FPGM, difference, median_count
from prunebench.experiments.phases import (
    COST_KINDS,
    Budget,
    HookName,
    Phase,
    RatioKind,
    is_cost,
    is_past,
    training,
)
from prunebench.experiments.recipe import Recipe
from prunebench.methods.allocation import crossing
from prunebench.methods.base import Method, MethodOptions, Rule, Run, Start

EpochShare = Annotated[float, Field(ge=0, lt=1)]
Rate = Annotated[
    Literal["constant", "exponential", "three_point", "cubic"],
    Field(
        description="Curve on which the pruned share P(t) rises to the ratio. constant: P is the "
        "ratio from the start (SFP); exponential: ASFP's curve as in PGMPF's code; three_point: "
        "the exact curve through ASFP's three points; cubic: PGMPF's default."
    ),
]
Decay = Annotated[
    Literal["exponential", "linear", "cosine"] | None,
    Field(
        description="Curve on which the factor alpha(t) of pruned filters falls to 0. null: alpha "
        "is 0 throughout (SFP, ASFP); exponential: SRFP, as in PGMPF's code."
    ),
]


class SoftOptions(MethodOptions):
    """Options of the whole family, with SFP's schedules.

    Other defaults are those of PGMPF's CIFAR script. `roles` matters in scope "group" only,
    `layers` in the other scopes.
    """

    scope: Literal["layer", "group", "weight"] = Field(
        "layer",
        description="Units that are pruned. layer (default, the papers): each convolution's "
        "filters on their own, zeroed at the end; group: coupled filters together, removed at the "
        "end; weight: single weights of convolutions, zeroed at the end.",
    )
    rate: Rate = "constant"
    rate_goal_from: EpochShare = Field(
        0.95,
        description="Share of the epochs from which P(t) is the ratio itself (default: PGMPF's "
        "CIFAR script; its ImageNet scripts: 0.9).",
    )
    D: Annotated[float, Field(gt=0, le=0.5)] = Field(
        1 / 8,
        description="Share of the epochs at which P(t) is 3/4 of the ratio, for the rates "
        "exponential and three_point (default: ASFP).",
    )
    decay: Decay = None
    alpha_0: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="Factor alpha at t = 0 (default: the soft runs of PGMPF's CIFAR script)."
    )
    sigma: Annotated[float, Field(gt=0, lt=1)] = Field(
        1e-5,
        description="Factor alpha at which the exponential decay would end (default: PGMPF's CIFAR "
        "script).",
    )
    alpha_zero_from: EpochShare = Field(
        0.9,
        description="Share of the epochs from which alpha(t) is 0 (default: PGMPF's CIFAR script; "
        "its ImageNet scripts: 0.8).",
    )
    alpha_floor: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.0,
        description="Value of alpha(t) below which it counts as 0 for convolutions; batch norm "
        "keeps the true alpha (default: never; PGMPF's ImageNet scripts: 1e-4).",
    )
    norms: Literal["keep", "decay"] = Field(
        "keep",
        description="Batch-norm scales and shifts of pruned filters. keep (default, SFP): they "
        "stay; decay (PGMPF's ImageNet scripts): they are multiplied by alpha too. Which one SRFP "
        "used is unknown.",
    )
    layers: tuple[Rule, ...] = Field(
        ("convolutions",),
        description="Rules that select the pruned convolutions in the scopes layer and weight "
        "(default: all, SFP on CIFAR; SFP on ImageNet: [except_shortcuts]).",
    )
    pretrained: bool = Field(
        False,
        description="Whether to start from the trained base network instead of fresh weights; the "
        "recipe 'base' should fit. FPGM's paper prints both; SFP's ImageNet script always loads "
        "weights, although its README says that it trains from scratch.",
    )
    mask_gradients: bool = Field(
        False,
        description="Whether pruned weights get no gradient until the next epoch chooses anew "
        "(default: no, SFP; FPGM: yes).",
    )

    @model_validator(mode="after")
    def _check_scope(self) -> SoftOptions:
        if self.scope != "group" and self.round_to > 1:
            raise ValueError(
                f"round_to needs scope 'group', not {self.scope!r}, which keeps all widths"
            )
        if self.scope == "weight" and self.norms == "decay":
            raise ValueError("norms 'decay' needs whole filters, not scope 'weight'")
        return self


class ASFPOptions(SoftOptions):
    """Options with ASFP's defaults."""

    rate: Rate = "exponential"


class SRFPOptions(SoftOptions):
    """Options with SRFP's defaults."""

    decay: Decay = "exponential"


class ASRFPOptions(SRFPOptions):
    """Options with ASRFP's defaults."""

    rate: Rate = "exponential"


class SoftFPGMOptions(FPGM, SoftOptions):
    """Options with FPGM's defaults; `norm_rate` is the pruning rate by norm of the scripts."""

    scope: Literal["layer", "group"] = Field(
        "layer",
        description="Units that are pruned. layer (default, the paper): each convolution's filters "
        "on their own, zeroed at the end; group: coupled filters together, removed at the end.",
    )
    mask_gradients: bool = Field(
        True,
        description="Whether pruned filters get no gradient until the next epoch chooses anew "
        "(default: yes, FPGM's official code).",
    )


def exponential_alpha(t: float, epochs: float, alpha_0: float, sigma: float) -> float:
    """Return alpha_0 exp(-kappa t) with kappa = -ln(sigma / (alpha_0 + 0.01 sigma)) / epochs.

    It is alpha_0 at t = 0 and about sigma at t = epochs; PGMPF's code.
    """
    kappa = -math.log(sigma / (alpha_0 + 0.01 * sigma)) / epochs
    return alpha_0 * math.exp(-kappa * t)


def linear_alpha(t: float, epochs: float, alpha_0: float) -> float:
    """Return alpha_0 (1 - t / epochs); PGMPF mentions a linear decay without its formula."""
    return alpha_0 * (1 - t / epochs)


def cosine_alpha(t: float, epochs: float, alpha_0: float) -> float:
    """Return alpha_0 (1 + cos(pi t / epochs)) / 2; PGMPF mentions a cosine without its formula."""
    return alpha_0 * (1 + math.cos(math.pi * t / epochs)) / 2


def exponential_keep(t: float, epochs: float, keep: float, D: float) -> float:
    """Return the kept fraction on ASFP's curve toward `keep`, as in PGMPF's code.

    The pruned share P(t) = (1 - keep) (1 - 4^(-t / (D epochs))) is 0 at t = 0 and 3/4 of its limit
    at t = D epochs. At t = epochs it is below the limit by a relative 4^(-1/D).
    """
    k = math.log(4) / (D * epochs)
    return keep + (1 - keep) * math.exp(-k * t)


def three_point_exponent(D: float) -> float:
    """Return k D epochs of the curve b (1 - e^(-kt)) through all three of ASFP's points.

    With x = e^(-k D epochs), (1 - x) / (1 - x^(1/D)) = 3/4. This is solved by iterating
    x = 1/4 + 3/4 x^(1/D) from 1/4; for D up to 1/2, each iteration at least halves the error.
    """
    x = 0.25
    for _ in range(60):
        x = 0.25 + 0.75 * x ** (1 / D)
    return -math.log(x)


def three_point_keep(t: float, epochs: float, keep: float, D: float) -> float:
    """Return the kept fraction on the curve that reaches `keep` exactly at t = epochs.

    The pruned share is 0, 3/4 (1 - keep) and 1 - keep at t = 0, D epochs and epochs, ASFP's
    definition.
    """
    exponent = three_point_exponent(D)
    share = -math.expm1(-exponent * t / (D * epochs)) / -math.expm1(-exponent / D)
    return 1 - (1 - keep) * share


def cubic_keep(t: float, epochs: float, keep: float) -> float:
    """Return the kept fraction keep + (1 - keep) (1 - (t + 1) / epochs)^3.

    PGMPF's code adds 1e-7 to `epochs`.
    """
    return keep + (1 - keep) * (1 - (t + 1) / epochs) ** 3


def kept_fraction(ratio: float) -> float:
    """Return 1 - ratio as a number of two digits is written: the rate that SFP's code is given.

    >>> kept_fraction(0.07), 1 - 0.07
    (0.93, 0.9299999999999999)
    """
    return difference(1, ratio)


def count_pruned(n: int, keep: float) -> int:
    """Return how many of n filters or weights are pruned; one always survives.

    int(n (1 - keep)) in floating point from the *kept* fraction, as in SFP's code, so that 1 of 20
    is pruned at keep = 0.9.

    >>> count_pruned(64, 0.7), count_pruned(20, 0.9), count_pruned(1, 0.0)
    (19, 1, 0)
    """
    return min(int(n * (1 - keep)), n - 1)


def kept_filters(norms: Tensor, count: int) -> Tensor:
    """Return a bool mask of shape (filters,), False for the `count` smallest norms.

    Of equal norms, the filter with the lower index is pruned first.
    """
    kept = torch.ones_like(norms, dtype=torch.bool)
    kept[torch.argsort(norms, stable=True)[:count]] = False
    return kept


def kept_weights(weight: Tensor, count: int) -> Tensor:
    """Return a bool mask of the weight's shape, False for the `count` smallest magnitudes.

    Weights as large as the one at place `count` are kept, so fewer than `count` may be pruned:
    SFP's code.
    """
    magnitude = weight.detach().abs()
    return magnitude >= magnitude.flatten().sort().values[count]


def softened(tensor: Tensor, kept: Tensor, alpha: float) -> Tensor:
    """Return the tensor with the entries that are not kept multiplied by alpha."""
    return torch.where(kept, tensor, tensor * alpha)


def batch_norm_parameters(model: nn.Module) -> set[str]:
    """Return the names of all scales and shifts of batch norm."""
    return {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
        for name, _ in module.named_parameters(recurse=False)
    }


class SoftPruning(Method[SoftOptions]):
    """Train, shrink the smallest filters after each epoch, remove or zero them at the end.

    The state has, if gradients are masked, the bool mask of each pruned parameter as `kept`; and
    for a target in a cost or rounded widths the ratio of each layer as `ratios`.
    """

    Options = SoftOptions
    start = "fresh"
    recipe_roles = ("base",)
    optional_hooks = frozenset({"before_optimizer_step"})
    ratio_kinds: ClassVar[tuple[str, ...]] = ("units_per_group", *COST_KINDS, "weights")

    def starts_from(self) -> Start:
        """Return "base" for a pretrained start, else "fresh"."""
        return "base" if self.options.pretrained else "fresh"

    def run_revision(self, budget: Budget) -> int:
        """Return `revision`, and one more for each change that concerns the run.

        The kept fraction of some ratios has changed, and so has alpha for batch norm below the
        floor.
        """
        options, ratio = self.options, budget.ratio
        is_own = budget.kind in ("units_per_group", "weights")
        is_other_keep = is_own and ratio is not None and kept_fraction(ratio) != 1 - ratio
        is_other_alpha = options.norms == "decay" and options.alpha_floor > 0
        return self.revision + is_other_keep + is_other_alpha

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return train; its epochs are reportable once alpha is 0 and P is the ratio."""
        options = self.options
        if (budget.kind == "weights") != (options.scope == "weight"):
            raise ValueError(f"scope {options.scope!r} does not go with ratio_kind {budget.kind!r}")
        if budget.kind in ("activations", "latency") and options.scope != "group":
            raise ValueError(
                f"ratio_kind {budget.kind!r} needs scope 'group', which removes filters; scope "
                f"{options.scope!r} zeroes them, and allows units_per_group, macs, params"
            )
        shares = [0.0]
        if options.decay is not None:
            shares.append(options.alpha_zero_from)
        if options.rate != "constant":
            shares.append(options.rate_goal_from)
        hooks: set[HookName] = {"after_epoch"}
        hooks |= {"before_optimizer_step"} if options.mask_gradients else set()
        return [
            training(
                "train",
                recipes["base"],
                hooks=frozenset(hooks),
                reportable_from=max(shares),
                then=budget,
            )
        ]

    def alpha_at(self, t: int, epochs: float) -> float:
        """Return alpha of convolutions after epoch t: 0 below `alpha_floor`."""
        alpha = self.norm_alpha_at(t, epochs)
        return alpha if alpha >= self.options.alpha_floor else 0.0

    def norm_alpha_at(self, t: int, epochs: float) -> float:
        """Return alpha of batch norm after epoch t: 0 without a decay and from its end on."""
        options = self.options
        if is_past(options.alpha_zero_from, t, epochs):
            return 0.0
        match options.decay:
            case "exponential":
                return exponential_alpha(t, epochs, options.alpha_0, options.sigma)
            case "linear":
                return linear_alpha(t, epochs, options.alpha_0)
            case "cosine":
                return cosine_alpha(t, epochs, options.alpha_0)
            case _:
                return 0.0

    def keep_at(self, t: int, epochs: float, ratio: float) -> float:
        """Return the kept fraction after epoch t, 1 - P(t)."""
        options, keep = self.options, kept_fraction(ratio)
        if is_past(options.rate_goal_from, t, epochs):
            return keep
        match options.rate:
            case "exponential":
                return exponential_keep(t, epochs, keep, options.D)
            case "three_point":
                return three_point_keep(t, epochs, keep, options.D)
            case "cubic":
                return cubic_keep(t, epochs, keep)
            case _:
                return keep

    def pruned_count(self, n_units: int, ratio: float) -> int:
        """Return the number of pruned units by SFP's rounding."""
        return count_pruned(n_units, kept_fraction(ratio))

    def layers(self, run: Run) -> dict[str, ChannelGroup]:
        """Return the sets of filters that are ranked together: groups, or single convolutions."""
        if self.options.scope == "group":
            return self.candidates(run)
        chosen = select_layers(run.graph, self.options.layers)
        found = {
            path: layer
            for path, layer in convolutions(run.graph).items()
            if layer.producers[0] in chosen
        }
        if self.options.norms == "decay":
            return with_norms(found, norms_behind(run.model, run.example))
        return found

    def chooses_widths(self, kind: RatioKind) -> bool:
        """Return as for any method in scope "group"; otherwise False."""
        return self.options.scope == "group" and super().chooses_widths(kind)

    def zeroed_weights(self, run: Run) -> list[str] | None:
        """Return the weights of the pruned convolutions, except in scope "group"."""
        if self.options.scope == "group":
            return None
        return [layer.producers[0] for layer in self.layers(run).values()]

    def final_ratios(self, run: Run, budget: Budget) -> dict[str, float]:
        """Return the pruning ratio of each layer; found once per run for a cost or `round_to`."""
        layers = self.layers(run)
        if not is_cost(budget.kind) and self.options.round_to == 1:
            assert budget.ratio is not None
            return dict.fromkeys(layers, budget.ratio)
        if "ratios" not in self.state:
            counts = self.allocate(run, self.score(run, layers), budget)
            self.state["ratios"] = {
                name: self.ratio_of(layers[name].n_units, count) for name, count in counts.items()
            }
        found: dict[str, float] = self.state["ratios"]
        return found

    def ratio_of(self, n_units: int, count: int) -> float:
        """Return a ratio at which `count` of a layer's `n_units` are pruned."""
        if not count:
            return 0.0
        return crossing(lambda r: self.pruned_count(n_units, r) >= count, 0.5, 1.0).reached

    def counted(self, run: Run, budget: Budget, left: Mapping[str, int]) -> tuple[float, float]:
        """Return the MACs or parameters that are not zero, at the start and later.

        Later is when the layers keep `left` filters. Those of scope "group" are removed, which
        saves input channels of the next layers too.
        """
        if self.options.scope == "group":
            return super().counted(run, budget, left)
        gone = {
            name: (layer, layer.n_units - left[name]) for name, layer in self.layers(run).items()
        }
        if budget.kind == "macs":
            macs = run.costs.layer_macs()
            saved = sum(macs[la.producers[0]] // la.n_units * n for la, n in gone.values())
            return run.base_macs, run.base_macs - saved
        saved = 0
        for layer, n in gone.values():
            pruned = torch.arange(layer.n_units) >= n
            masks = self.masks(run, layer, pruned).values()
            saved += sum(int((~mask).sum()) for mask in masks)
        return run.base_params, run.base_params - saved

    def least(self, run: Run) -> tuple[dict[str, int], str]:
        """Return one filter per layer."""
        if self.options.scope == "group":
            return super().least(run)
        layers = self.layers(run)
        words = f"with one filter left in each of {len(layers)} layers"
        return dict.fromkeys(layers, 1), f"{words}; use a smaller ratio or more `layers`"

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the L2 norm of each filter, (filters,), over all producers of a group."""
        return {
            name: torch.linalg.vector_norm(unit_rows(run.params, group), dim=1)
            for name, group in groups.items()
        }

    def kept(self, run: Run, layer: ChannelGroup, keep: float) -> Tensor:
        """Return the mask of kept filters, (filters,), or of kept weights in scope "weight"."""
        if self.options.scope == "weight":
            weight = run.params[layer.producers[0]]
            return kept_weights(weight, count_pruned(weight.numel(), keep))
        norms = self.score(run, {layer.name: layer})[layer.name]
        return kept_filters(norms, count_pruned(layer.n_units, keep))

    def masks(self, run: Run, layer: ChannelGroup, kept: Tensor) -> dict[str, Tensor]:
        """Return the bool mask of every parameter that shrinks with the layer's filters.

        With norms "decay" in scope "group", these include the biases of the producers and the
        norms behind a depthwise convolution: at alpha = 0 the channel is zero everywhere, so its
        removal changes no output.
        """
        if self.options.scope == "weight":
            return {layer.producers[0]: kept}
        roles = {"out", "vector"} if self.options.norms == "decay" else {"out"}
        return {
            member.parameters[0]: entry_mask(run.params[member.parameters[0]], member, kept)
            for member in layer.members
            if member.role in roles and member.parameters[0] in run.params  # not running statistics
        }

    @torch.no_grad()
    def shrink(self, run: Run, t: int) -> dict[str, Tensor]:
        """Multiply the pruned entries by alpha(t); return the mask of kept units by layer."""
        ratios = self.final_ratios(run, self.budget(run))
        alpha, norm_alpha = self.alpha_at(t, run.epochs), self.norm_alpha_at(t, run.epochs)
        norms = batch_norm_parameters(run.model)
        kept = {}
        for name, layer in self.layers(run).items():
            kept[name] = self.kept(run, layer, self.keep_at(t, run.epochs, ratios[name]))
            for parameter, mask in self.masks(run, layer, kept[name]).items():
                own = norm_alpha if parameter in norms else alpha
                run.params[parameter].copy_(softened(run.params[parameter], mask, own))
                if self.options.mask_gradients:
                    self._hold(parameter, mask)
        return kept

    def _hold(self, parameter: str, mask: Tensor) -> None:
        """Store the mask of kept entries in place: a captured step reads the same tensor."""
        held = self.state.setdefault("kept", {})
        if parameter in held:
            held[parameter].copy_(mask)
        else:
            held[parameter] = mask.clone()

    def before_optimizer_step(self, run: Run) -> None:
        """Zero the gradients of pruned entries; momenta and weight decay still act on them."""
        for parameter, kept in self.state["kept"].items():
            gradient = run.params[parameter].grad
            assert gradient is not None
            gradient.mul_(kept)

    def before_phase(self, run: Run) -> None:
        """Shrink once with t = 0 before the first epoch, as the codes of SFP and PGMPF do."""
        self.shrink(run, 0)

    def after_epoch(self, run: Run) -> None:
        """Choose the filters anew and shrink them; log alpha and the pruned share."""
        kept = self.shrink(run, run.epoch)
        alpha = self.alpha_at(run.epoch, run.epochs)
        run.log("all", "alpha", torch.tensor(alpha, device=run.device))
        for name, units in kept.items():
            run.log(name, "pruned_share", 1 - units.float().mean())

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return the plan for the smallest filters at the ratio, zeroed after the last epoch."""
        removed, zeroed, ratios = {}, {}, self.final_ratios(run, budget)
        for name, layer in self.layers(run).items():
            kept = self.kept(run, layer, kept_fraction(ratios[name]))
            if kept.all():
                continue
            if self.options.scope == "group":
                removed[name] = (~kept).nonzero()[:, 0].cpu()
            else:
                zeroed.update(self.masks(run, layer, kept))
        return Plan(removed=removed, zeroed=zeroed)


class SFP(SoftPruning):
    """The smallest filters are set to zero after each epoch."""

    summary = "soft filter pruning: filters with the smallest L2 norms zeroed after each epoch"


class ASFP(SoftPruning):
    """SFP with a pruned share that rises to the ratio."""

    summary = "asymptotic SFP: the share of zeroed filters rises to the ratio"
    Options = ASFPOptions


class SRFP(SoftPruning):
    """SFP with pruned filters multiplied by a factor that falls to zero."""

    summary = "softer SFP: the smallest filters multiplied by a factor that falls to zero"
    Options = SRFPOptions


class ASRFP(SoftPruning):
    """SRFP with a pruned share that rises to the ratio."""

    summary = "asymptotic softer SFP: the share rises while the factor falls"
    Options = ASRFPOptions


class SoftFPGM(SoftPruning):
    """FPGM: the filters nearest to all others are set to zero after each epoch."""

    summary = "FPGM as its authors train it: filters nearest to all others zeroed each epoch"
    Options = SoftFPGMOptions
    options: SoftFPGMOptions
    revision = 2
    ratio_kinds = ("units_per_group", *COST_KINDS)

    def pruned_count(self, n_units: int, ratio: float) -> int:
        """Return the number of pruned filters by FPGM's rounding."""
        return median_count(n_units, ratio, self.options.norm_rate)

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return FPGM's scores."""
        with torch.no_grad():
            return self.options.scores(run, groups)

    def kept(self, run: Run, layer: ChannelGroup, keep: float) -> Tensor:
        """Return the bool mask of kept filters, (filters,)."""
        scores = self.score(run, {layer.name: layer})[layer.name]
        return kept_filters(scores, self.pruned_count(layer.n_units, difference(1, keep)))
