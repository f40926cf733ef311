"""The predicted latency of a network as a function of the number of units kept in each group."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from prunebench.channels.costs import Costs
from prunebench.core.errors import ModelError
from prunebench.experiments.latency_table import LatencyTable, LayerTimes


class PredictedLatency:
    """Predicts latencies from a table: remainder + factor x layers + residual sums.

    The time of a layer is interpolated linearly in its numbers of outputs and inputs, and kept in
    memory: the search for the widths that meet a target asks for most of them many times.
    """

    def __init__(self, table: LatencyTable) -> None:
        self.table = table
        self._times = [interpolated(times) for times in table.times]

    def ms(self, costs: Costs, kept: Mapping[str, int] | None = None) -> float:
        """Return the predicted milliseconds of one batch; groups not in `kept` keep all units.

        ModelError if the network has layers that the table does not have.
        """
        layers, sums = self.parts(costs, kept)
        return self.table.remainder_ms + self.table.factor * layers + sums

    def parts(self, costs: Costs, kept: Mapping[str, int] | None = None) -> tuple[float, float]:
        """Return the sum of the layers' times, not multiplied by the factor, and of the sums'."""
        sizes = costs.weight_sizes(kept)
        if sizes.keys() != self.table.layers.keys():
            (other, *_) = sizes.keys() ^ self.table.layers.keys()
            where = "the network" if other in sizes else "the latency table"
            raise ModelError(f"only {where} has the layer {other!r}; measure the table again")
        layers = sum(
            self._times[place](outputs, inputs)
            for weight, (outputs, inputs, *_) in sizes.items()
            for place in self.table.layers[weight]
        )
        return layers, sum(ms * sizes[weight][0] for weight, ms in self.table.sums.items())


def interpolated(times: LayerTimes) -> Callable[[int, int], float]:
    """Return the milliseconds of a layer as a function of its numbers of outputs and inputs.

    Between the measured widths, the time is bilinear; beyond them, that of the nearest one.

    >>> layer = LayerTimes(layer="conv", outputs=(2, 4), inputs=(3,), ms=((1.0,), (2.0,)))
    >>> interpolated(layer)(3, 3), interpolated(layer)(1, 3)
    (1.5, 1.0)
    """
    from scipy.interpolate import RegularGridInterpolator  # importing it takes a second

    grid = np.array(times.ms)
    # An axis of one width has no direction to interpolate in.
    axes = [np.array(widths, float) for widths in (times.outputs, times.inputs)]
    varied = [axis for axis, widths in enumerate(axes) if len(widths) > 1]
    if not varied:
        return lambda outputs, inputs: float(grid[0, 0])
    own = tuple(axes[axis] for axis in varied)
    find = RegularGridInterpolator(own, grid.reshape([len(widths) for widths in own]))

    @cache
    def at(outputs: int, inputs: int) -> float:
        place = [(outputs, inputs)[axis] for axis in varied]
        inside = [float(np.clip(x, w[0], w[-1])) for x, w in zip(place, own, strict=True)]
        return float(find(inside)[0])

    return at
