"""Check that a network with removed units computes the same as one with masked units."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from prunebench.channels.examples import Batch, Example, arguments, larger, tensors_within
from prunebench.channels.groups import ChannelGraph, Grouping
from prunebench.channels.removal import mask, remove
from prunebench.channels.trace.tracer import FAILURES, trace
from prunebench.channels.untouched import own_randomness
from prunebench.core.errors import ModelError

TOLERANCE = 1e-9  # float64, relative to the largest output; another order of sums gives 1e-15
N_PLANS = 3


@dataclass(frozen=True)
class VerifyReport:
    """The result of `verify`.

    Attributes
    ----------
    largest
        Largest relative difference over the groups that can be pruned.
    broken
        Group name to failure, for groups that must not be pruned:
        `graph.with_frozen(report.broken)` freezes them.
    """

    largest: float
    broken: dict[str, str]


@dataclass(frozen=True)
class Check:
    """Inputs, mode and outputs of a comparison of two networks.

    Attributes
    ----------
    watch
        Paths of modules whose outputs are compared; if empty, the network's output is compared.
    """

    inputs: Any
    training: bool
    watch: tuple[str, ...]


def verify(
    model: nn.Module,
    example: Example,
    *,
    seed: int = 0,
    grouped: Grouping = "auto",
    modes: Sequence[Literal["eval", "train"]] = ("eval",),
    watch: Sequence[str] = (),
) -> VerifyReport:
    """Compare removal with masking, for several plans over all groups, and find groups at fault.

    Uses a float64 copy with random normalization statistics and affine parameters and without
    dropout, on the example and on a batch of another size. Runs in eval mode, and in train mode too
    if two runs there agree; a detector, for instance, does not train without targets.

    Parameters
    ----------
    grouped, modes
        As in `trace`.
    watch
        Paths of modules whose outputs are compared instead of the network's: the heads of a
        detector, since the selection of the best boxes and the suppression of overlaps after them
        are not continuous.

    Raises
    ------
    ModelError
        If the network does not run as it is, in float64, or on a batch of another size, or if
        groups fail together, each of which passes alone.
    """
    graph = trace(model, example, grouped=grouped, modes=modes)
    probe = without_dropout(randomized(model, seed))
    paths = tuple(watch)
    inputs = arguments(example)
    other = as_float64(larger(inputs, Batch(graph.batch, graph.arrangement)))
    checks = [Check(as_float64(example), False, paths), Check(other, False, paths)]
    check_runs(probe, checks[0], "in float64, in which networks are compared")
    if graph.arrangement != "single":
        n = graph.batch + 1
        check_runs(probe, checks[1], f"on {n} examples; its batch size must not be fixed")
    if repeats_in_training(probe, checks[1]):
        checks.append(Check(other, True, paths))
    largest = 0.0
    broken: dict[str, str] = {}
    for plan, compared in plans_and_checks(graph, checks, seed):
        found, most = at_fault(probe, graph.with_frozen(broken), plan, compared)
        largest = max(largest, most)
        broken |= found
    return VerifyReport(largest, broken)


def unused(graph: ChannelGraph) -> str:
    """Return a hint at parameters that no traced mode uses, if there are any."""
    names = ", ".join(graph.unused)
    return f"; no traced mode uses {names}" if names else ""


def check_runs(model: nn.Module, check: Check, where: str) -> None:
    """Raise ModelError if the network does not run."""
    try:
        outputs(copy.deepcopy(model), check)
    except FAILURES as error:
        line = (str(error) or repr(error)).splitlines()[0]
        raise ModelError(f"the network does not run {where}: {line}") from error


def compare(
    model: nn.Module, graph: ChannelGraph, removed: Mapping[str, Tensor], checks: Sequence[Check]
) -> tuple[float, str]:
    """Return the largest relative difference, and the failure if removal breaks something."""
    masked, smaller = mask(model, graph, removed), remove(model, graph, removed)
    largest = 0.0
    for check in checks:
        mode = "in training" if check.training else "in evaluation"
        expected = outputs(masked, check)
        try:
            found = outputs(smaller, check)
        except FAILURES as error:
            line = (str(error) or repr(error)).splitlines()[0]
            return largest, f"stops the network {mode}: {line}"
        if [a.shape for a in expected] != [b.shape for b in found]:
            return largest, f"changes the shape of the output {mode}"
        largest = max(largest, difference(masked, smaller, check, expected, found))
    return largest, f"changes the output by {largest:.1e}" if not largest <= TOLERANCE else ""


def repeats_in_training(model: nn.Module, check: Check) -> bool:
    """Whether the network runs in train mode and gives the same outputs twice."""
    training = replace(check, training=True)
    try:
        runs = [outputs(copy.deepcopy(model), training, seed) for seed in (0, 1)]
    except FAILURES:
        return False
    shapes = [[a.shape for a in run] for run in runs]
    return shapes[0] == shapes[1] and relative_difference(*runs) == 0


def without_dropout(model: nn.Module) -> nn.Module:
    """Switch dropout off and return the model: noise of another shape cannot be compared."""
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.p = 0.0
    return model


def plans_and_checks(
    graph: ChannelGraph, checks: list[Check], seed: int
) -> Iterator[tuple[dict[str, Tensor], list[Check]]]:
    """Yield plans over all groups that can be pruned, each with what to compare.

    At first the first unit of each group, the last one, and some; then any number of units, which
    are compared on batches of both sizes, and in training.
    """
    several = {name: group.n_units for name, group in graph.groups.items() if group.n_units > 1}
    draw = random.Random(seed)
    some = {name: draw.sample(range(n), draw.randint(1, n - 1)) for name, n in several.items()}
    for units in ({n: [0] for n in several}, {n: [several[n] - 1] for n in several}, some):
        yield {name: torch.tensor(own) for name, own in units.items()}, checks[:1]
    draw = random.Random(seed + 1)
    for _ in range(N_PLANS):
        yield (
            {
                name: torch.tensor(
                    draw.sample(range(group.n_units), draw.randrange(group.n_units)),
                    dtype=torch.int64,
                )
                for name, group in graph.groups.items()
            },
            checks,
        )


def at_fault(
    model: nn.Module, graph: ChannelGraph, plan: Mapping[str, Tensor], checks: Sequence[Check]
) -> tuple[dict[str, str], float]:
    """Return the groups whose removal alone fails, with reasons, and the others' difference.

    All groups are removed together; only if that fails, each half of them is, and so on.

    Raises
    ------
    ModelError
        If groups fail together, each of which passes alone, or if nothing is removed and the
        outputs differ.
    """
    own = {name: units for name, units in plan.items() if name in graph.groups}
    largest, failure = compare(model, graph, own, checks)
    if not failure:
        return {}, largest
    if len(own) == 1:
        [(name, units)] = own.items()
        return {name: f"removing {units.tolist()} {failure}{unused(graph)}"}, 0.0
    if not own:
        raise ModelError(f"removing nothing {failure}; the network must give the same output twice")
    names, found = list(own), dict[str, str]()
    largest, middle = 0.0, len(names) // 2
    for half in (names[:middle], names[middle:]):
        part, most = at_fault(model, graph, {name: own[name] for name in half}, checks)
        found |= part
        largest = max(largest, most)
    if not found:
        raise ModelError(
            f"removing units of {', '.join(names)} at once {failure}, but each alone passes"
            f"{unused(graph)}"
        )
    return found, largest


def randomized(model: nn.Module, seed: int) -> nn.Module:
    """Return a float64 copy in which statistics, affine parameters and scales differ by channel.

    Their defaults (zeros, ones, layer scales of 1e-6) would hide values in the wrong channel, as
    would the weights of a new head that are all zero.
    """
    probe = in_float64(model)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in probe.modules():
            is_norm = "Norm" in type(module).__name__
            buffers = list(module.named_buffers(recurse=False)) if is_norm else []
            for name, tensor in [*module.named_parameters(recurse=False), *buffers]:
                is_vector = max(tensor.shape, default=1) == tensor.numel()
                if tensor.is_floating_point() and (is_vector or not tensor.any()):
                    noise = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
                    # in [0.5, 1.5): variances stay positive; biases in [-0.5, 0.5)
                    tensor.copy_(noise - 0.5 if name.endswith(("bias", "mean")) else noise + 0.5)
    return probe


def as_float64(example: Any) -> Any:
    """Return the inputs in double precision."""
    return tree_map(
        lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, example
    )


def outputs(model: nn.Module, check: Check, seed: int = 0) -> list[Tensor]:
    """Return the tensors that the network or its watched modules compute."""
    watched: list[Any] = []
    handles = [
        model.get_submodule(path).register_forward_hook(lambda m, args, out: watched.append(out))
        for path in check.watch
    ]
    # A network may write to its input.
    inputs = tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, check.inputs)
    try:
        with torch.no_grad(), own_randomness(model):
            torch.manual_seed(seed)
            out = model.train(check.training)(*arguments(inputs))
    finally:
        for handle in handles:
            handle.remove()
    return tensors_within(watched if check.watch else out)


def relative_difference(expected: list[Tensor], found: list[Tensor]) -> float:
    """Return the largest difference over the largest expected value; NaN counts as infinite."""
    expected, found = numbers(expected), numbers(found)
    scale = max([float(a.abs().max()) for a in expected if a.numel()], default=0.0)
    differences = [
        float((a - b).abs().max()) for a, b in zip(expected, found, strict=True) if a.numel()
    ]
    largest = max(differences, default=0.0)
    return float("inf") if largest != largest else largest / (scale or 1.0)


def numbers(tensors: list[Tensor]) -> list[Tensor]:
    """Return tensors whose differences are numbers: truth values and bytes have none."""
    return [t if t.is_floating_point() or t.is_complex() else t.double() for t in tensors]


def largest_difference(model_a: nn.Module, model_b: nn.Module, example: Example) -> float:
    """Return the largest difference of two networks' outputs, relative to the first's largest.

    Compares copies in float64 and eval mode.
    """
    check = Check(as_float64(example), False, ())
    first, second = in_float64(model_a), in_float64(model_b)
    return difference(first, second, check, outputs(first, check), outputs(second, check))


def difference(
    model_a: nn.Module, model_b: nn.Module, check: Check, a: list[Tensor], b: list[Tensor]
) -> float:
    """Return the largest relative difference of two networks, whose outputs are `a` and `b`.

    Outputs that are equal to the last bit may not depend on what was removed: a new head is all
    zero, the last scale of a new residual block is zero, a detector may find nothing. Then layers
    are compared, too.
    """
    found = relative_difference(a, b)
    return found or difference_inside(model_a, model_b, check)


def difference_inside(model_a: nn.Module, model_b: nn.Module, check: Check) -> float:
    """Return the largest relative difference of the outputs of modules, where both have one shape.

    A module that keeps its units must compute the same in a masked and in a smaller network.
    """
    paths = [path for path, module in model_a.named_modules() if not any(module.children())]
    inside = replace(check, watch=tuple(paths))
    pairs = zip(outputs(model_a, inside), outputs(model_b, inside), strict=True)
    equal = [(a, b) for a, b in pairs if a.shape == b.shape]
    return relative_difference([a for a, _ in equal], [b for _, b in equal])


def in_float64(model: nn.Module) -> nn.Module:
    """Return a copy in double precision; each tensor is copied once, not copied and converted.

    >>> copied = in_float64(nn.Linear(2, 2))
    >>> copied.weight.dtype, type(copied.weight).__name__
    (torch.float64, 'Parameter')
    """
    converted: dict[int, Any] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            own = tensor.detach().to(torch.float64, copy=True)
            is_weight = isinstance(tensor, nn.Parameter)
            converted[id(tensor)] = nn.Parameter(own, tensor.requires_grad) if is_weight else own
    return copy.deepcopy(model, converted)
