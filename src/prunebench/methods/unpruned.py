"""The base network itself as a run, so that it has a row, a cost and a latency of its own."""

from __future__ import annotations

from collections.abc import Mapping

from prunebench.core.phases import Budget, Phase
from prunebench.core.recipe import Recipe
from prunebench.methods.base import Method, MethodOptions


class Unpruned(Method[MethodOptions]):
    """No phases: the base network is evaluated as it is."""

    summary = "the base network, for its row in the tables"
    recipe_roles = ()

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return no phases."""
        return []
