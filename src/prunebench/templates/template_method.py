"""NAME: the idea in one line.

Source: authors, title, arXiv id. The idea in at most three sentences. If the paper and its official
code disagree: which one is followed here, and why.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.unit_weights import producers, unit_rows
from prunebench.experiments.phases import Budget, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import NonNegative
from prunebench.methods.base import Method, MethodOptions, Run


class TemplateOptions(MethodOptions):
    """Options, with the paper's defaults.

    Lengths in steps are marked `Shrinks`, and increments `Grows`, for runs with fewer epochs
    (`experiments.settings`).
    """

    strength: NonNegative = Field(
        1e-3, description="Symbol, unit and origin: the paper's lambda, Table 2."
    )


def importance(rows: Tensor) -> Tensor:
    """Return the norm of each row of (units, weights), shape (units,): replace it (Eq. 1)."""
    return rows.square().sum(dim=1).sqrt()


def shrinkage(weights: Tensor, strength: float) -> Tensor:
    """Return the gradient of strength * |weights|, of the weights' shape: replace it (Eq. 2)."""
    return strength * weights / weights.square().sum().sqrt().clamp_min(1e-12)


class TemplateMethod(Method[TemplateOptions]):
    """Shrink the weights while training, remove the smallest units, fine-tune: replace it."""

    summary = "one line for `prunebench list methods`"
    Options = TemplateOptions
    revision = 1  # raise it when results change: the method's runs, and no others, run again
    recipe_roles = ("regularize", "fine_tune")  # an experiment names a recipe for each

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return regularize, at whose end units are removed, and fine_tune."""
        hooks = frozenset({"attach", "before_optimizer_step"})  # no other hook is called
        regularize = recipes["regularize"]
        return [
            training("regularize", regularize, hooks=hooks, reportable_from=None, then=budget),
            training("fine_tune", recipes["fine_tune"]),
        ]

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the importance of each unit; the lowest are removed."""
        return {name: importance(unit_rows(run.params, group)) for name, group in groups.items()}

    def attach(self, run: Run) -> list[RemovableHandle]:
        """Look up what does not change within a phase; what changes belongs in `state`."""
        groups = self.candidates(run).values()
        self.weights = [member.parameters[0] for group in groups for member in producers(group)]
        return []

    def before_optimizer_step(self, run: Run) -> None:
        """Change gradients, with tensor operations only; see `methods.base` for other hooks."""
        for name in self.weights:
            weights = run.params[name]
            assert weights.grad is not None
            weights.grad.add_(shrinkage(weights.detach(), self.options.strength))
