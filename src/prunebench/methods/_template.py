"""NAME: what leaves, in one line.

Source: authors, title, arXiv id. The idea in at most three sentences. Where the paper and its
official code disagree: which one is followed here, and why. To add a method, copy this file to
methods/<name>.py and fill its gaps; CONTRIBUTING.md walks through it.
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
    """Options with the paper's defaults; delete the class where there are none."""

    strength: Positive = 1.0  # unit, symbol and origin: the paper's gamma, Table 2
    # lengths in steps and what adds up over them say how they follow a shortened run
    settle_steps: Annotated[int, Field(ge=0), Shrinks()] = 100


def importance(rows: Tensor, strength: float) -> Tensor:
    """Say what is computed and where it stands in the paper (Eq. 1); higher is kept.

    `rows` are the weights of each unit, shape (units, weights); the result has shape (units,).
    """
    raise NotImplementedError


class Template(Method[TemplateOptions]):
    """What leaves, and what happens over time, in one sentence."""

    summary = "one line for `prunebench list methods`"
    Options = TemplateOptions
    revision = 1  # raised when results change: exactly the method's runs are then run again
    recipe_roles = ("fine_tune",)  # the experiment names a recipe for each

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return select, fine_tune."""
        return [Phase(name="select", then=budget), training("fine_tune", recipes["fine_tune"])]

    def score(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the importance of each unit."""
        strength = self.options.strength
        return {name: importance(unit_rows(run.params, g), strength) for name, g in groups.items()}
