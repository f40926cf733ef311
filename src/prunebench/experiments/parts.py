"""Parts of the runs of a network, each of which one job of the workflow handles.

Starting a job costs seconds, so one job measures many runs. With `runs_per_job` it trains several.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

from prunebench.experiments.resolved import Resolved

MEASURED_TOGETHER = 200  # runs, so that a job of the workflow ends within an hour


class Part(NamedTuple):
    """The number of a part among those of its network, "experiment/data set/architecture"."""

    network: str
    number: int


class Parts:
    """The runs of all networks in parts of at most `size`, in a fixed order.

    For training, runs that take the widths of others follow them in later parts, so that no two
    parts need each other.

    Attributes
    ----------
    of_network
        Parts by network, each the paths of its runs.
    of_run
        The part of each run, by the run's path.
    """

    def __init__(self, resolved: Resolved, size: int, *, for_training: bool) -> None:
        self.size = size
        self.of_network = {
            network: [
                tuple(level[start : start + size])
                for level in (_levels(resolved, paths) if for_training else [paths])
                for start in range(0, len(level), size)
            ]
            for network, paths in resolved.by_network.items()
        }
        self.of_run = {
            path: Part(network, number)
            for network, parts in self.of_network.items()
            for number, part in enumerate(parts)
            for path in part
        }


def _levels(resolved: Resolved, paths: Iterable[str]) -> list[list[str]]:
    """Return the runs that take no widths, those that take widths of the first ones, and so on."""

    def depth(path: str) -> int:
        source = resolved.runs[path]["widths_from"]
        return 0 if source is None else 1 + depth(source)

    return [list(level) for _, level in groupby(sorted(paths, key=depth), key=depth)]
