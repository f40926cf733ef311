"""NAME: the idea in one line.

Source: authors, title, arXiv id. The idea in at most three sentences. If the paper and its official
code disagree: which one is followed here, and why.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from prunebench.criteria.weights import FilterCriterion
from prunebench.experiments.settings import Positive


class TemplateCriterion(FilterCriterion):
    """The sum of |w|^power over a filter: replace it.

    A criterion of weights defines `of_rows`; any other defines `scores` (`criteria.base`), with
    images if it needs them (`criteria.gradients.DataCriterion`, `criteria.feature_maps`).
    """

    summary = "one-shot, one line for `prunebench list methods`"
    revision = 1  # raise it when scores change: its runs, and no others, run again

    # Options, with the paper's defaults; delete them if there are none
    power: Positive = Field(2.0, description="Symbol, unit and origin: the paper's p.")

    def of_rows(self, rows: Tensor) -> Tensor:
        """Return the score of each row of (units, weights), shape (units,); higher is kept."""
        return rows.abs().pow(self.power).sum(dim=1)
