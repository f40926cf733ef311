"""NAME: the idea in one line.

Source: authors, title, arXiv id. The idea in at most three sentences. If the paper and its official
code disagree: which one is followed here, and why. To add a method, copy this file to
methods/<name>.py and fill its gaps; CONTRIBUTING.md walks through an example.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.unit_weights import unit_rows
from prunebench.experiments.phases import Budget, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import Positive, Shrinks
from prunebench.methods.base import Method, MethodOptions, Run


class TemplateOptions(MethodOptions):
    """Options with the paper's defaults; delete the class if there are none."""

    strength: Positive = Field(1.0, description="Symbol, unit and origin: the paper's gamma.")
    # Lengths in steps are marked Shrinks, and increments Grows, for runs with fewer epochs
    settle_steps: Annotated[int, Field(ge=0), Shrinks()] = Field(
        100, description="Number of steps without penalty (default: the paper, Table 2)."
    )


def importance(rows: Tensor, strength: float) -> Tensor:
    """Return the score, with its place in the paper (Eq. 1); higher is kept.

    `rows` are the weights of each unit, shape (units, weights); the result has shape (units,).
    """
    raise NotImplementedError


class Template(Method[TemplateOptions]):
    """<Name the phases of the method and their purpose in one sentence>."""

    summary = "one line for `prunebench list methods`"
    Options = TemplateOptions
    revision = 1  # raise it when results change: the method's runs, and no others, run again
    recipe_roles = ("regularize", "fine_tune")  # an experiment names a recipe for each

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return regularize, at whose end units are removed, and fine_tune."""
        hooks = frozenset({"before_optimizer_step"})  # no other hook is called
        return [
            training(
                "regularize", recipes["regularize"], hooks=hooks, reportable_from=None, then=budget
            ),
            training("fine_tune", recipes["fine_tune"]),
        ]

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the importance of each unit."""
        strength = self.options.strength
        return {name: importance(unit_rows(run.params, g), strength) for name, g in groups.items()}

    def before_optimizer_step(self, run: Run) -> None:
        """Change gradients, with tensor operations only; see `methods.base` for other hooks."""
