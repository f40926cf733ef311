"""What follows a removal: new statistics of batch norm, fine-tuning, both, or nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field

from prunebench.experiments.phases import Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.methods.base import MethodOptions


class FineTuneOptions(MethodOptions):
    """Options of methods that remove units at once and train only afterwards, if at all."""

    recalibrate: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Training images on which the statistics of batch norm are estimated again "
        "after each removal; 0: none.",
    )
    fine_tune: bool = Field(
        True, description="Fine-tune after each removal; false: no recipe is needed."
    )

    def after_removal(
        self,
        recipes: Mapping[str, Recipe],
        number: str = "",
        *,
        reportable_from: float | None = 0.0,
    ) -> Iterator[Phase]:
        """Yield the phases recalibrate and fine_tune as far as they are wanted.

        `number` ends their names, and `reportable_from` is that of the fine-tuning.
        """
        if self.recalibrate:
            yield Phase(name=f"recalibrate{number}", recalibrate=self.recalibrate)
        if self.fine_tune:
            recipe = recipes["fine_tune"]
            yield training(f"fine_tune{number}", recipe, reportable_from=reportable_from)
