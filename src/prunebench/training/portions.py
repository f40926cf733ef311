"""How the batch of a step is divided: over processes, and over the passes of gradient accumulation.

The batch of the recipe is that of all processes together. Its loss is the mean over all its images,
so each part's loss is weighted by its share of them. Batch norm sees one part at a time: n
processes give the same gradients as one process that accumulates over n parts.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass


@dataclass(frozen=True)
class Portion:
    """What one process does of a batch.

    Attributes
    ----------
    rows
        Its images within the batch.
    parts
        Each pass: its images within those rows, and the weight of its mean loss.
    images
        Of the whole batch.
    processes
        Among which the batch is divided: all, or one where it is too small to be divided. Then
        every process trains the whole batch.
    counts
        Whether these images are counted here; of a batch that is not divided, by the first.
    """

    rows: slice
    parts: tuple[tuple[slice, float], ...]
    images: int
    processes: int = 1
    counts: bool = True

    @property
    def divisor(self) -> float:
        """Return what an image's own loss is divided by in the loss that is differentiated here.

        >>> portion(10, world=2).divisor, portion(3, world=2).divisor
        (5.0, 3.0)
        """
        return self.images / self.processes


def portion(images: int, *, accumulation: int = 1, rank: int = 0, world: int = 1) -> Portion:
    """Return the portion of process `rank` of `world`.

    Processes average their gradients, hence the factor `world` in the weights, whose mean over
    processes sums to one. No part has fewer than two images: batch norm cannot normalize over one.

    >>> portion(10, accumulation=2).parts
    ((slice(0, 5, None), 0.5), (slice(5, 10, None), 0.5))
    >>> second = portion(7, rank=1, world=2)
    >>> second.rows, second.parts
    (slice(3, 7, None), ((slice(0, 4, None), 1.1428571428571428),))
    """
    count = accumulation * world
    if images < 2 * count:
        return Portion(slice(0, images), ((slice(0, images), 1.0),), images, counts=rank == 0)
    bounds = [i * images // count for i in range(count + 1)]
    own = bounds[rank * accumulation : (rank + 1) * accumulation + 1]
    parts = tuple(
        (slice(start - own[0], end - own[0]), (end - start) * world / images)
        for start, end in itertools.pairwise(own)
    )
    return Portion(slice(own[0], own[-1]), parts, images, world)
