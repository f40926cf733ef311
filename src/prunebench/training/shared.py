"""What the runs of one process share: loaded data sets, and scores that are the same for all.

Runs that differ only in their ratio score the same network on the same images. Scores from
gradients cost as much as the evaluations of a run without training, so they are computed once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from prunebench.data.dataset import Dataset

Scores = dict[str, Tensor]


class Computed(NamedTuple):
    """Scores by group, and the seconds that they took."""

    scores: Scores
    seconds: float


@dataclass
class Shared:
    """The data sets and scores of earlier runs of this process, by everything they depend on."""

    datasets: dict[Hashable, Dataset] = field(default_factory=dict)
    computed: dict[Hashable, Computed] = field(default_factory=dict)

    def dataset(self, key: Hashable, load: Callable[[], Dataset]) -> Dataset:
        """Return a data set, loaded at the first call; one is kept at a time."""
        if key not in self.datasets:
            self.datasets.clear()
            self.datasets[key] = load()
        return self.datasets[key]

    def scores(self, key: Hashable, compute: Callable[[], Scores]) -> Computed:
        """Return scores, computed at the first call, with the seconds that they took then."""
        if key not in self.computed:
            started = time.perf_counter()
            scores = compute()
            self.computed[key] = Computed(scores, time.perf_counter() - started)
        return self.computed[key]
