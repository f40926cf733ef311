"""The base network: how it is trained, and as a run of its own, so that tables have its row."""

from __future__ import annotations

from collections.abc import Mapping

from prunebench.core.phases import Budget, Phase, training
from prunebench.core.recipe import Recipe
from prunebench.methods.base import Method, MethodOptions


class Unpruned(Method[MethodOptions]):
    """No phases: the base network is evaluated as it is."""

    summary = "the base network, for its row in the tables"
    recipe_roles = ()
    ratios = (0.0,)

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return no phases."""
        return []


class Base(Method[MethodOptions]):
    """Plain training from fresh weights: what the base stage does; no method of the registry."""

    summary = "plain training"
    start = "fresh"
    recipe_roles = ("base",)

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return train."""
        return [training("train", recipes["base"])]
