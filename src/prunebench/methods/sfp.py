"""Soft filter pruning: SFP, ASFP, SRFP and ASRFP, one rule with four schedules.

Sources: He et al., Soft Filter Pruning, arXiv 1808.06866 (SFP); He et al., Asymptotic Soft Filter
Pruning, arXiv 1808.07471 (ASFP); Cai, An, Yang, Xu, Softer Pruning, Incremental Regularization,
arXiv 2010.09498 (SRFP, ASRFP). After each epoch t, the filters of a layer with the smallest L2
norms, a share P(t) of them, are multiplied by alpha(t). All filters train on, with their momenta,
and the next epoch chooses anew. At the end alpha is 0 and P the pruning ratio. (FPGM trains so
too, with another order of the filters: `soft_fpgm`.)

No code came with ASFP, SRFP and ASRFP. The schedules of alpha and P are those of the CIFAR script
of PGMPF (AAAI 2022), by SRFP's first author; the ranking, the rounding and the order of operations
are SFP's. PGMPF ranks widened convolutions weighted by batch norm: not followed here. Its choice
of the cubic P(t) as default is not followed either, since "asymptotic" names ASFP's curve.

FPGM as its authors train it: SFP's procedure, but filters near the geometric median leave.

Source: He et al., Filter Pruning via Geometric Median, arXiv 1811.00250, and its official code.
After each epoch the filters of a layer that are nearest to all others are set to zero, and unlike
in SFP they get no gradient until the next epoch chooses anew: with their momenta alone they seldom
come back, so that it prunes almost hard. FPGM-mix takes a share by norm first (`norm_rate`); the
paper says 30 % by distance and 10 % by norm, the scripts behind its tables the other way round.
The criterion by itself, once and with fine-tuning, is the method `fpgm`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.plan import Plan
from prunebench.channels.selections import select_layers
from prunebench.channels.single_layers import convolutions, entry_mask, norms_behind, with_norms
from prunebench.channels.unit_weights import unit_rows
from prunebench.criteria.base import Run
from prunebench.criteria.weights import FPGMScore, median_count
from prunebench.experiments.phases import Budget, HookName, Phase, is_past, training
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import Method, MethodOptions, Rule, Start

Share = Annotated[float, Field(ge=0, lt=1)]
Rate = Literal["constant", "exponential", "three_point", "cubic"]
Decay = Literal["exponential", "linear", "cosine"]


class SoftOptions(MethodOptions):
    """Options of the whole family; a method is a choice of `rate` and `decay`.

    Defaults are those of PGMPF's CIFAR script; its ImageNet scripts reach P at 0.9 and alpha = 0
    at 0.8, or earlier where convolutions' alpha is below 1e-4. `roles` count in scope "group"
    alone, `layers` elsewhere.
    """

    # layer: each convolution's filters on their own, zeroed at the end: the papers
    # group: coupled filters together, removed at the end; weight: single weights of convolutions
    scope: Literal["layer", "group", "weight"] = "layer"
    rate: Rate = "constant"  # how P(t) rises
    rate_goal_from: Share = 0.95  # share of the epochs from which P is the ratio itself
    D: Annotated[float, Field(gt=0, le=0.5)] = 1 / 8  # share at which P is 3/4 of the ratio; ASFP
    decay: Decay | None = None  # how alpha(t) falls; None: it is 0
    alpha_0: Annotated[float, Field(ge=0, le=1)] = 1.0  # alpha at t = 0
    sigma: Annotated[float, Field(gt=0, lt=1)] = 1e-5  # where the exponential would end
    alpha_zero_from: Share = 0.9  # share of the epochs from which alpha is 0
    alpha_floor: Annotated[float, Field(ge=0, lt=1)] = 0.0  # an alpha below it counts as 0
    # keep: batch norm's scale and shift of pruned filters stay: SFP
    # decay: they are multiplied by alpha too: PGMPF's ImageNet script; unknown for SRFP
    norms: Literal["keep", "decay"] = "keep"
    # Scopes "layer" and "weight": the convolutions that are pruned, as rules of
    # `channels.selections`. SFP: all on CIFAR, [except_shortcuts] on ImageNet
    layers: tuple[Rule, ...] = ("convolutions",)
    # From the trained base network instead of fresh weights; the recipe "base" says how. FPGM
    # prints both; SFP's ImageNet script always loads weights, although its README says scratch
    pretrained: bool = False
    # Whether what is pruned gets no gradient until the next epoch chooses anew. SFP: no; FPGM: yes
    mask_gradients: bool = False

    @model_validator(mode="after")
    def _norms_belong_to_filters(self) -> SoftOptions:
        if self.scope == "weight" and self.norms == "decay":
            raise ValueError("norms 'decay' needs whole filters, not scope 'weight'")
        return self


class ASFPOptions(SoftOptions):
    """Options with ASFP's defaults."""

    rate: Rate = "exponential"


class SRFPOptions(SoftOptions):
    """Options with SRFP's defaults."""

    decay: Decay | None = "exponential"


class ASRFPOptions(SRFPOptions):
    """Options with ASRFP's defaults."""

    rate: Rate = "exponential"


def exponential_alpha(t: float, epochs: float, alpha_0: float, sigma: float) -> float:
    """Return alpha_0 exp(-kappa t), which is alpha_0 at t = 0 and about sigma at t = epochs.

    kappa = -ln(sigma / (alpha_0 + 0.01 sigma)) / epochs; PGMPF's code.
    """
    kappa = -math.log(sigma / (alpha_0 + 0.01 * sigma)) / epochs
    return alpha_0 * math.exp(-kappa * t)


def linear_alpha(t: float, epochs: float, alpha_0: float) -> float:
    """Return alpha_0 (1 - t / epochs); PGMPF mentions a linear decay without a formula."""
    return alpha_0 * (1 - t / epochs)


def cosine_alpha(t: float, epochs: float, alpha_0: float) -> float:
    """Return alpha_0 (1 + cos(pi t / epochs)) / 2; PGMPF mentions a cosine without a formula."""
    return alpha_0 * (1 + math.cos(math.pi * t / epochs)) / 2


def exponential_keep(t: float, epochs: float, keep: float, D: float) -> float:
    """Return the fraction kept on ASFP's curve towards `keep`, as PGMPF's code has it.

    P(t) = (1 - keep) (1 - 4^(-t / (D epochs))): 0 at t = 0, 3/4 of its limit at t = D epochs; at
    t = epochs it is short of the limit by a relative 4^(-1/D).
    """
    k = math.log(4) / (D * epochs)
    return keep + (1 - keep) * math.exp(-k * t)


def three_point_exponent(D: float) -> float:
    """Return k D epochs of the curve b (1 - e^(-kt)) that meets all three of ASFP's points.

    With x = e^(-k D epochs): (1 - x) / (1 - x^(1/D)) = 3/4, solved by iterating
    x = 1/4 + 3/4 x^(1/D) from 1/4. Up to D = 1/2, errors at least halve each time.
    """
    x = 0.25
    for _ in range(60):
        x = 0.25 + 0.75 * x ** (1 / D)
    return -math.log(x)


def three_point_keep(t: float, epochs: float, keep: float, D: float) -> float:
    """Return the fraction kept on the curve that reaches `keep` exactly at t = epochs.

    P is 0, 3/4 (1 - keep), 1 - keep at t = 0, D epochs, epochs: ASFP's definition.
    """
    exponent = three_point_exponent(D)
    share = -math.expm1(-exponent * t / (D * epochs)) / -math.expm1(-exponent / D)
    return 1 - (1 - keep) * share


def cubic_keep(t: float, epochs: float, keep: float) -> float:
    """Return keep + (1 - keep) (1 - (t + 1) / epochs)^3; PGMPF's code adds 1e-7 to `epochs`."""
    return keep + (1 - keep) * (1 - (t + 1) / epochs) ** 3


def count_pruned(n: int, keep: float) -> int:
    """Return how many of n filters or weights are pruned; one always survives.

    int(n (1 - keep)) in floating point from the fraction *kept*, as in SFP's code: 1 of 20 at 0.9.

    >>> count_pruned(64, 0.7), count_pruned(20, 0.9), count_pruned(1, 0.0)
    (19, 1, 0)
    """
    return min(int(n * (1 - keep)), n - 1)


def kept_filters(norms: Tensor, count: int) -> Tensor:
    """Return a bool mask, False for the `count` smallest of (filters,); ties: the lower index."""
    kept = torch.ones_like(norms, dtype=torch.bool)
    kept[torch.argsort(norms, stable=True)[:count]] = False
    return kept


def kept_weights(weight: Tensor, count: int) -> Tensor:
    """Return a bool mask of the weights not smaller than the one at place `count` by magnitude.

    Equal magnitudes stay together, so fewer than `count` may be pruned: SFP's code.
    """
    magnitude = weight.detach().abs()
    return magnitude >= magnitude.flatten().sort().values[count]


def softened(tensor: Tensor, kept: Tensor, alpha: float) -> Tensor:
    """Return the tensor with the entries that are not kept times alpha."""
    return torch.where(kept, tensor, tensor * alpha)


class SoftPruning(Method[SoftOptions]):
    """Train; shrink the smallest filters after each epoch; remove or zero them at the end.

    State: `kept`, the bool mask of each pruned parameter, where gradients are masked.
    """

    Options = SoftOptions
    start = "fresh"
    recipe_roles = ("base",)
    ratio_kinds: ClassVar[tuple[str, ...]] = ("units_per_group", "weights")

    def starts_from(self) -> Start:
        """Return "base" for a pretrained start."""
        return "base" if self.options.pretrained else "fresh"

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return train; its epochs count only once alpha is 0 and P the ratio."""
        options = self.options
        if (budget.kind == "weights") != (options.scope == "weight"):
            raise ValueError(f"scope {options.scope!r} does not go with ratio_kind {budget.kind!r}")
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
        """Return alpha after epoch t; 0 from `alpha_zero_from` on, and below `alpha_floor`."""
        if is_past(self.options.alpha_zero_from, t, epochs):
            return 0.0
        alpha = self.decayed(t, epochs)
        return alpha if alpha >= self.options.alpha_floor else 0.0

    def decayed(self, t: int, epochs: float) -> float:
        """Return alpha as it decays; 0 without a decay."""
        options = self.options
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
        """Return the fraction kept after epoch t, 1 - P(t)."""
        options, keep = self.options, 1 - ratio
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
        """Return the count of SFP's rounding."""
        return count_pruned(n_units, 1 - ratio)

    def layers(self, run: Run) -> dict[str, ChannelGroup]:
        """Return what is ranked together: groups, or convolutions as groups of their own."""
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

    def kept(self, run: Run, layer: ChannelGroup, keep: float) -> Tensor:
        """Return which filters (filters,), or in scope "weight" which weights, are not pruned."""
        if self.options.scope == "weight":
            weight = run.params[layer.producers[0]]
            return kept_weights(weight, count_pruned(weight.numel(), keep))
        norms = torch.linalg.vector_norm(unit_rows(run.params, layer), dim=1)
        return kept_filters(norms, count_pruned(layer.n_units, keep))

    def masks(self, run: Run, layer: ChannelGroup, kept: Tensor) -> dict[str, Tensor]:
        """Return the bool mask of every parameter that shrinks with the layer's filters.

        With norms "decay" in scope "group" also biases of the producers, and norms behind a
        depthwise convolution: at alpha = 0 the channel is zero wherever it goes, so that taking it
        out changes nothing.
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
        """Multiply what is pruned by alpha(t); return what is kept, by layer."""
        assert run.phase.then is not None
        assert run.phase.then.ratio is not None
        alpha = self.alpha_at(t, run.epochs)
        keep = self.keep_at(t, run.epochs, run.phase.then.ratio)
        kept = {}
        for name, layer in self.layers(run).items():
            kept[name] = self.kept(run, layer, keep)
            for parameter, mask in self.masks(run, layer, kept[name]).items():
                run.params[parameter].copy_(softened(run.params[parameter], mask, alpha))
                if self.options.mask_gradients:
                    self._hold(parameter, mask)
        return kept

    def _hold(self, parameter: str, mask: Tensor) -> None:
        """Note what is kept, in place: a captured step reads the same tensor."""
        held = self.state.setdefault("kept", {})
        if parameter in held:
            held[parameter].copy_(mask)
        else:
            held[parameter] = mask.clone()

    def before_optimizer_step(self, run: Run) -> None:
        """Take the gradient of what is pruned away; momenta and weight decay still act."""
        for parameter, kept in self.state["kept"].items():
            gradient = run.params[parameter].grad
            assert gradient is not None
            gradient.mul_(kept)

    def before_phase(self, run: Run) -> None:
        """Shrink once with t = 0 before the first epoch, as SFP's and PGMPF's codes do."""
        self.shrink(run, 0)

    def after_epoch(self, run: Run) -> None:
        """Choose anew and shrink."""
        kept = self.shrink(run, run.epoch)
        alpha = self.alpha_at(run.epoch, run.epochs)
        run.log("all", "alpha", torch.tensor(alpha, device=run.device))
        for name, units in kept.items():
            run.log(name, "pruned_share", 1 - units.float().mean())

    def select(self, run: Run, budget: Budget) -> Plan:
        """Return what the last epoch has made zero: the smallest of now, at the ratio itself."""
        assert budget.ratio is not None
        removed, zeroed = {}, {}
        for name, layer in self.layers(run).items():
            kept = self.kept(run, layer, 1 - budget.ratio)
            if kept.all():
                continue
            if self.options.scope == "group":
                removed[name] = (~kept).nonzero()[:, 0].cpu()
            else:
                zeroed.update(self.masks(run, layer, kept))
        return Plan(removed=removed, zeroed=zeroed)


class SFP(SoftPruning):
    """The smallest filters are set to zero after each epoch."""

    summary = "soft filter pruning: smallest L2 norms set to zero after each epoch, trained on"


class ASFP(SoftPruning):
    """SFP with a share that rises to the ratio."""

    summary = "asymptotic SFP: the share of zeroed filters rises to the ratio"
    Options = ASFPOptions


class SRFP(SoftPruning):
    """SFP with filters multiplied by a falling factor."""

    summary = "softer SFP: the smallest filters times a factor that falls to zero"
    Options = SRFPOptions


class ASRFP(SoftPruning):
    """Both: the share rises while the factor falls."""

    summary = "asymptotic softer SFP: the share rises while the factor falls"
    Options = ASRFPOptions


class SoftFPGMOptions(FPGMScore, SoftOptions):
    """FPGM's defaults; `norm_rate` is what the scripts call the norm's pruning rate."""

    scope: Literal["layer", "group"] = "layer"
    mask_gradients: bool = True


class SoftFPGM(SoftPruning):
    """Filters nearest to all others are set to zero after each epoch."""

    summary = "FPGM as trained by its authors: filters nearest to all others zeroed each epoch"
    Options = SoftFPGMOptions
    options: SoftFPGMOptions
    ratio_kinds = ("units_per_group",)

    def pruned_count(self, n_units: int, ratio: float) -> int:
        """Return the count of FPGM's rounding."""
        return median_count(n_units, ratio, self.options.norm_rate)

    def kept(self, run: Run, layer: ChannelGroup, keep: float) -> Tensor:
        """Return which filters are not pruned, bool (filters,)."""
        with torch.no_grad():
            scores = self.options.scores(run, {layer.name: layer})[layer.name]
        return kept_filters(scores, self.pruned_count(layer.n_units, 1 - keep))
