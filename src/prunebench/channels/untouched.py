"""Run a network and leave it as it was.

A `forward` may write to more than its output: running averages kept by hand, an initialization from
the first batch, weights merged and cached at first use, counters, lists, random states. The context
managers below restore all of these.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from enum import Enum
from functools import cache, partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from prunebench.channels.trace.operation import tensors_in

Restore = Callable[[], object]
# Objects of these types hold no state, or none of the network's own.
NOTHING: dict[Any, Any] = {}
STATELESS = (type, ModuleType, FunctionType, BuiltinFunctionType, MethodType, Enum)
ATOMS = frozenset({int, float, bool, str, bytes, complex, type(None), torch.dtype, torch.device})


@contextmanager
def untouched(model: nn.Module, training: bool = False, *, weights: bool = False) -> Iterator[None]:
    """Run in eval or train mode; restore modes, attributes, buffers and, in train mode, randomness.

    Parameters
    ----------
    weights
        Restore parameters, their gradients, and random states in both modes, too. This inspects
        each operation; a parameter is copied only if one writes to it.
    """
    restores, parameters = snapshot(model)
    keeping = weights_restored(parameters) if weights else nullcontext()
    try:
        with keeping, own_randomness(model) if training or weights else nullcontext():
            if any(module.training != training for module in model.modules()):
                model.train(training)
            yield
    finally:
        with torch.no_grad():
            for restore in restores:
                restore()


@contextmanager
def own_randomness(model: nn.Module) -> Iterator[None]:
    """Restore the random states of Python, NumPy and the model's devices afterwards."""
    devices = {parameter.device for parameter in model.parameters()}
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[d for d in devices if d.type == "cuda"]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@contextmanager
def weights_restored(parameters: list[nn.Parameter]) -> Iterator[None]:
    """Restore parameters and their gradients afterwards."""
    states = [(p, p.data, p.grad, p.requires_grad) for p in parameters]
    guard = WriteGuard([*parameters, *(p.grad for p in parameters if p.grad is not None)])
    try:
        with guard:
            yield
    finally:
        with torch.no_grad():
            for parameter, data, gradient, requires_grad in states:
                if layout_of(parameter) != layout_of(data):
                    parameter.data = data
                if parameter.requires_grad != requires_grad:
                    parameter.requires_grad_(requires_grad)
                if parameter.grad is not gradient:
                    parameter.grad = gradient
            for tensor, before in guard.copies:
                tensor.data.copy_(before)


class WriteGuard(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Copy each of some tensors before the first operation that writes to its memory."""

    def __init__(self, tensors: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.unwritten: dict[int, list[Tensor]] = {}  # by memory
        for tensor in tensors:
            self.unwritten.setdefault(memory_of(tensor), []).append(tensor)
        self.copies: list[tuple[Tensor, Tensor]] = []

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # see `TraceMode`

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        for place, name in written_arguments(func):
            value = args[place] if place < len(args) else kwargs.get(name)
            for tensor in tensors_in(value):
                for original in self.unwritten.pop(memory_of(tensor), ()):
                    self.copies.append((original, original.detach().clone()))
        return func(*args, **kwargs)


@cache
def written_arguments(func: Any) -> tuple[tuple[int, str], ...]:
    """Return position and name of the arguments that an operation writes to."""
    return tuple(
        (place, argument.name)
        for place, argument in enumerate(func._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    )


def memory_of(tensor: Tensor) -> int:
    """Return a number for the memory that a tensor and its views share."""
    return int(tensor.untyped_storage()._cdata)


def layout_of(tensor: Tensor) -> tuple[Any, ...]:
    """Return the memory of a tensor and its place in it."""
    return memory_of(tensor), tensor.storage_offset(), tensor.shape, tensor.stride()


def snapshot(model: nn.Module) -> tuple[list[Restore], list[nn.Parameter]]:
    """Return functions that restore all state reachable from a model, and its parameters.

    State is found in the attributes of modules and other objects, in containers, tensors, arrays
    and random generators. The values of parameters are not restored.
    """
    dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
    restores: list[Restore] = [partial(restore_dicts, dicts)]
    parameters: list[nn.Parameter] = []
    seen: dict[int, Any] = {}  # holds the objects, so that ids stay unique
    pending: list[Any] = [model]
    while pending:
        item = pending.pop()
        if type(item) in ATOMS or id(item) in seen:
            continue
        seen[id(item)] = item
        if isinstance(item, tuple):
            pending += item
            continue
        if isinstance(item, dict):
            dicts.append((item, dict(item)))
            pending += item.values()
        elif isinstance(item, nn.Module):
            pass  # its attributes are all its state
        elif isinstance(item, Tensor):
            if type(item) is nn.Parameter or isinstance(item, nn.Parameter):
                parameters.append(item)
            elif not nn.parameter.is_lazy(item):
                restores.append(restore_tensor(item))
        elif isinstance(item, (list, deque, set)):
            restores.append(restore_items(item))
            pending += item
        elif isinstance(item, np.ndarray):
            restores.append(restore_array(item))
        elif isinstance(item, torch.Generator):
            restores.append(partial(item.set_state, item.get_state()))
        elif isinstance(item, random.Random):
            restores.append(partial(item.setstate, item.getstate()))
        elif isinstance(item, np.random.Generator):
            pending.append(item.bit_generator)
        elif isinstance(item, np.random.BitGenerator):
            restores.append(partial(setattr, item, "state", item.state))
        elif isinstance(item, STATELESS):
            continue
        attributes = getattr(item, "__dict__", None)
        if attributes and type(attributes) is dict:
            dicts.append((attributes, dict(attributes)))
            for name, value in attributes.items():
                if type(value) in ATOMS:
                    continue
                if name.endswith("_hooks") and isinstance(value, dict):
                    # A hook itself may collect results for others.
                    dicts.append((value, dict(value) if value else NOTHING))
                else:
                    pending.append(value)
    return restores, [p for p in parameters if not nn.parameter.is_lazy(p)]


def restore_dicts(dicts: list[tuple[dict[Any, Any], dict[Any, Any]]]) -> None:
    """Restore the items of dictionaries, and their order, given pairs of current and earlier."""
    for current, before in dicts:
        if not before and not current:
            continue
        if list(current) != list(before):
            current.clear()
        for key, value in before.items():
            if key not in current or current[key] is not value:
                current[key] = value


def restore_items(current: list[Any] | deque[Any] | set[Any]) -> Restore:
    """Return a function that restores the items of a container."""
    before = list(current)

    def restore() -> None:
        if [*map(id, current)] != [*map(id, before)]:
            current.clear()
            current.update(before) if isinstance(current, set) else current.extend(before)

    return restore


def restore_array(current: NDArray[Any]) -> Restore:
    """Return a function that restores the values of an array."""
    before = current.copy()

    def restore() -> None:
        if current.flags.writeable:
            current[...] = before

    return restore


def restore_tensor(tensor: Tensor) -> Restore:
    """Return a function that restores the memory of a tensor and its values, if they changed."""
    data, version = tensor.data, tensor._version
    before = data.clone()

    def restore() -> None:
        if layout_of(tensor) != layout_of(data):
            tensor.data = data
        # Batch norm writes statistics without a new version; data on `meta` has no values.
        if tensor._version != version or not (data.is_meta or torch.equal(data, before)):
            data.copy_(before)

    return restore
