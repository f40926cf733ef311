"""Compare the importance of groups of filters with the sum of their filters' importance.

Pruning methods score a group of filters as the sum of the scores of its filters. OrthoReg (Lubana
et al., arXiv 2009.05014) claims that this is wrong for correlated filters, and right for
orthonormal ones. Here importance is the true change of the loss, not an estimate: with the mean
cross-entropy L over some training images, in evaluation mode,

    I(S) = L(no layer reads the units S) - L.

For random sets S of half of the units of a layer:

    error = mean |sum over i in S of I({i}) - I(S)| / mean |I(S)|,
    correlation = Spearman's rank correlation of I(S) and the sum.

The sets depend on the seed alone, so that networks of one seed are compared on the same sets. Batch
norm keeps its running statistics. The paper's own measurement could not be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from scipy.stats import rankdata
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGraph
from prunebench.channels.removal import mask
from prunebench.channels.selections import select_groups
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import ResultError
from prunebench.core.files import write_csv
from prunebench.data.dataset import Dataset, load
from prunebench.data.images import evaluation_batches
from prunebench.data.preprocessing import Preprocessing
from prunebench.experiments.spec import RunSpec, data_path
from prunebench.measure.precision import evaluating
from prunebench.models.registry import is_detector
from prunebench.network import load_network, read_structure

FILE = "additivity.csv"
_RUN = ("dataset", "architecture", "method", "setting", "ratio", "ratio_kind", "seed")
COLUMNS = (*_RUN, "additivity_error", "additivity_correlation", "sets", "images", "spec_hash")
SETS, IMAGES = 4, 256  # sets per layer, training images
Units = Mapping[str, Tensor]  # group -> units


@dataclass(frozen=True)
class Additivity:
    """How well sums of single importances estimate those of sets."""

    error: float  # NaN if no set changes the loss
    correlation: float  # NaN if all sets, or all sums, are equal


def additivity(whole: Sequence[float], sums: Sequence[float]) -> Additivity:
    """Return error and correlation from the importance of each set and the sum of its units'.

    >>> additivity([1.0, 2.0, 5.0], [1.0, 3.0, 4.0])
    Additivity(error=0.25, correlation=1.0)
    """
    a, b = torch.tensor(whole, dtype=torch.float64), torch.tensor(sums, dtype=torch.float64)
    error = (b - a).abs().mean() / a.abs().mean()
    ranks = torch.tensor(rankdata([a, b], axis=1))  # equal values share their mean rank
    return Additivity(float(error), float(torch.corrcoef(ranks)[0, 1]))


def random_sets(graph: ChannelGraph, sets: int, seed: int) -> list[tuple[str, Tensor]]:
    """Return `sets` random halves of the units of each layer inside of a block, as (group, units).

    Layers with fewer than four units are left out: half of them is no set, or one unit.
    """
    generator = torch.Generator().manual_seed(seed)
    return [
        (name, torch.randperm(group.n_units, generator=generator)[: group.n_units // 2])
        for name, group in select_groups(graph, ["inside"]).items()
        if group.n_units >= 4
        for _ in range(sets)
    ]


def measure_additivity(
    model: nn.Module,
    graph: ChannelGraph,
    inputs: Tensor,
    labels: Tensor,
    *,
    seed: int,
    sets: int = SETS,
) -> Additivity:
    """Return how additive the importance of a network's filters is, on inputs (N, C, h, w)."""

    def loss_without(name: str, units: Tensor) -> float:
        return _loss(mask(model, graph, {name: units}), inputs, labels)

    chosen = random_sets(graph, sets, seed)
    if not chosen:
        raise ResultError("no layer inside of a block has four units or more")
    loss = _loss(model, inputs, labels)
    singles: dict[tuple[str, int], float] = {}
    for name, units in chosen:
        for unit in units.tolist():
            if (name, unit) not in singles:
                singles[name, unit] = loss_without(name, torch.tensor([unit])) - loss
    whole = [loss_without(name, units) - loss for name, units in chosen]
    sums = [sum(singles[name, unit] for unit in units.tolist()) for name, units in chosen]
    return additivity(whole, sums)


def _loss(model: nn.Module, inputs: Tensor, labels: Tensor) -> float:
    with evaluating(model), torch.inference_mode():
        return float(F.cross_entropy(model(inputs).double(), labels))


def measure_stored(
    specs: Sequence[RunSpec], results: Path, *, sets: int = SETS, images: int = IMAGES
) -> Iterator[dict[str, object]]:
    """Yield a row of `COLUMNS` for each run, measured on its first training images.

    Raises ResultError for a detector, or a run of a version that did not store the preprocessing.
    """
    for spec in specs:
        if is_detector(spec.architecture):
            raise ResultError(f"{spec.path}: additivity is measured for classifiers only")
        folder = results / spec.path
        structure = read_structure(folder)
        if structure.preprocessing is None:
            raise ResultError(f"{folder}: the preprocessing is not stored; train the run again")
        inputs, labels = _first(data_path(results, spec.dataset), structure.preprocessing, images)
        model = load_network(folder)
        graph = trace(model, torch.zeros(1, *structure.image))
        found = measure_additivity(model, graph, inputs, labels, seed=spec.seed, sets=sets)
        yield {
            **{name: getattr(spec, name) for name in _RUN},
            "additivity_error": found.error,
            "additivity_correlation": found.correlation,
            "sets": sets,
            "images": len(labels),
            "spec_hash": spec.hash,
        }


def _first(path: Path, own: Preprocessing, images: int) -> tuple[Tensor, Tensor]:
    """Return the inputs and labels of the first training images, in stored order."""
    batches = evaluation_batches(_data(path).train, mean=own.mean, std=own.std, batch_size=images)
    return next(batches)


def write_additivity(rows: Sequence[Mapping[str, object]], path: Path) -> None:
    """Write the rows of `measure_stored`."""
    write_csv(path, COLUMNS, rows)


@lru_cache(maxsize=1)
def _data(path: Path) -> Dataset:
    return load(path)
