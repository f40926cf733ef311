"""Check that a network without units computes what the network with silenced units computes."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from prunebench.channels.groups import ChannelGraph
from prunebench.channels.removal import mask, remove
from prunebench.channels.trace import trace
from prunebench.core.errors import ModelError

TOLERANCE = 1e-9  # float64, relative to the largest output; sums in another order give 1e-15
N_PLANS = 3


@dataclass(frozen=True)
class VerifyReport:
    """What `verify` found.

    Attributes
    ----------
    largest
        Largest relative difference among the groups that hold.
    broken
        Group name to what happened, for groups that must not be pruned:
        `graph.with_frozen(report.broken)` freezes them.
    """

    largest: float
    broken: dict[str, str]


def verify(model: nn.Module, example: Tensor | tuple[Any, ...], *, seed: int = 0) -> VerifyReport:
    """Compare removal with masking, group by group and for several whole plans.

    Works on a float64 copy with random normalization statistics and affine parameters, in eval and
    (without dropout) train mode, on the example and on a batch of another size.

    Raises
    ------
    ModelError
        If a plan over all groups that hold alone breaks, or the network does not run.
    """
    graph = trace(model, example)
    probe = randomized(model, seed)
    checks = [(False, as_float64(example)), (False, as_float64(larger_batch(example)))]
    if not any(isinstance(module, nn.modules.dropout._DropoutNd) for module in probe.modules()):
        checks.append((True, checks[1][1]))
    largest, broken = 0.0, {}
    for name, units in single_plans(graph, seed):
        if name in broken:
            continue
        difference, failure = compare(probe, graph, {name: units}, checks[:1])
        if failure:
            broken[name] = f"removing {units.tolist()} {failure}"
        else:
            largest = max(largest, difference)
    for plan in whole_plans(graph.with_frozen(broken), seed):
        difference, failure = compare(probe, graph, plan, checks)
        if failure:
            raise ModelError(f"removing units of all groups at once {failure}")
        largest = max(largest, difference)
    return VerifyReport(largest, broken)


def compare(
    model: nn.Module,
    graph: ChannelGraph,
    removed: Mapping[str, Tensor],
    checks: list[tuple[bool, Any]],
) -> tuple[float, str]:
    """Return the largest relative difference, and what is wrong if removal breaks something."""
    masked, smaller = mask(model, graph, removed), remove(model, graph, removed)
    largest = 0.0
    for training, inputs in checks:
        expected = outputs(masked.train(training), inputs)
        try:
            found = outputs(smaller.train(training), inputs)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            return largest, f"stops the network: {str(error).splitlines()[0]}"
        if [a.shape for a in expected] != [b.shape for b in found]:
            return largest, "changes the shape of the output"
        largest = max(largest, relative_difference(expected, found))
    return largest, f"changes the output by {largest:.1e}" if not largest <= TOLERANCE else ""


def single_plans(graph: ChannelGraph, seed: int) -> Iterator[tuple[str, Tensor]]:
    """Yield the first, the last and some random units of each group that can lose one."""
    draw = random.Random(seed)
    for name, group in graph.groups.items():
        n = group.n_units
        if n > 1:
            some = draw.sample(range(n), draw.randint(1, n - 1))
            for units in ([0], [n - 1], some):
                yield name, torch.tensor(units)


def whole_plans(graph: ChannelGraph, seed: int) -> Iterator[dict[str, Tensor]]:
    """Yield random plans over all groups; one unit at least stays in each."""
    draw = random.Random(seed + 1)
    for _ in range(N_PLANS):
        yield {
            name: torch.tensor(
                draw.sample(range(group.n_units), draw.randrange(group.n_units)), dtype=torch.int64
            )
            for name, group in graph.groups.items()
        }


def randomized(model: nn.Module, seed: int) -> nn.Module:
    """Return a float64 copy whose normalization layers differ in every channel."""
    probe = copy.deepcopy(model).double()
    generator = torch.Generator().manual_seed(seed)
    norms = (nn.modules.batchnorm._NormBase, nn.GroupNorm)
    with torch.no_grad():
        for module in probe.modules():
            if isinstance(module, norms):
                for tensor in [*module.parameters(recurse=False), *module.buffers(recurse=False)]:
                    if tensor.is_floating_point():  # in [0.5, 1.5): variances stay positive
                        noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                        tensor.copy_(noise + 0.5)
    return probe


def as_float64(example: Any) -> Any:
    """Return the inputs in double precision."""
    return tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, example
    )


def larger_batch(example: Any) -> Any:
    """Return the inputs with one more example, a mirror image of the first."""
    return tree_map(
        lambda x: torch.cat([x, x[:1].flip(-1)]) if isinstance(x, Tensor) else x, example
    )


def outputs(model: nn.Module, inputs: Any) -> list[Tensor]:
    """Return the tensors the network computes."""
    with torch.no_grad():
        out = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    return [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]


def relative_difference(expected: list[Tensor], found: list[Tensor]) -> float:
    """Return the largest difference over the largest expected value; nan counts as infinite."""
    scale = max([float(a.abs().max()) for a in expected if a.numel()], default=0.0)
    differences = [
        float((a - b).abs().max()) for a, b in zip(expected, found, strict=True) if a.numel()
    ]
    largest = max(differences, default=0.0)
    return float("inf") if largest != largest else largest / (scale or 1.0)


def largest_difference(
    model_a: nn.Module, model_b: nn.Module, example: Tensor | tuple[Any, ...]
) -> float:
    """Return by how much two networks' outputs differ, relative to the largest output of the first.

    In float64 and eval mode, on copies.
    """
    inputs = as_float64(example)
    a, b = (outputs(copy.deepcopy(m).double().eval(), inputs) for m in (model_a, model_b))
    return relative_difference(a, b)
