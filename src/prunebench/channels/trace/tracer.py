"""Find the groups of coupled channels of a network by running it once.

The network runs eagerly, in eval mode and without gradients. It is observed below autograd, where
composite operations are already decomposed into a few primitive ones. Its layers compute nothing
unless the network looks at values; then it runs again and computes them. Symbolic tracing was tried
and rejected: it fails on networks whose `forward` looks at data, and needs a rule per operation as
well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from prunebench.channels.examples import Example, arguments, batch_of, tensors_within
from prunebench.channels.flow import NETWORK_INPUT, Sources
from prunebench.channels.groups import ChannelGraph, Grouping
from prunebench.channels.trace.attributes import hand_out
from prunebench.channels.trace.ids import Value
from prunebench.channels.trace.operation import Operation, tensors_in
from prunebench.channels.trace.passes import INPUT, Pass, origin_of
from prunebench.channels.trace.rules.pointwise import pointwise
from prunebench.channels.trace.rules.registry import rule_of
from prunebench.channels.trace.shape_only import ValuesNeeded, run_by_shape
from prunebench.channels.trace.sizes import SizeMode
from prunebench.channels.trace.units import graph_of
from prunebench.channels.untouched import untouched
from prunebench.core.errors import ModelError, in_one_line, shown

# Errors that a network raises on an input that does not fit.
FAILURES = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)
SCRIPTS: tuple[Any, ...] = (torch._C.ScriptFunction, torch._C.ScriptMethod)
NO_SCRIPT = (
    "{} is in TorchScript, whose operations cannot be followed; use the Python {} that it was "
    "made from"
)


def trace(
    model: nn.Module,
    example: Example,
    *,
    grouped: Grouping = "auto",
    modes: Sequence[Literal["eval", "train"]] = ("eval",),
) -> ChannelGraph:
    """Find which slices of which parameters must be removed together.

    Channels whose number the code uses are frozen, with one exception: Python does not tell of
    `1.0 / c`, `range(c)`, `math.log(c)` and the like. Run `verify` on a network for the first time.

    Parameters
    ----------
    model
        Left as it was, whatever its `forward` writes to: attributes, buffers, parameters.
    example
        An input, or a tuple of arguments; a small one is enough. The first argument with a tensor
        tells the number of examples: the first size of its tensors, the length of a list of images,
        or one if the input has no batch dimension.
    grouped
        Units of grouped convolutions: "whole" groups, or the same "local" position in all groups;
        "auto" takes whole groups if there are at least as many groups as positions in one. A
        convolution that has lost units keeps the kind of its units.
    modes
        The modes to run it in; costs are those of the first. Layers that run in training only,
        such as auxiliary heads, are cut together with the layers that they read if "train" is
        among them; `ChannelGraph.unused` lists parameters that no mode has used.

    Raises
    ------
    ModelError
        If the network does not run on the example, has or calls TorchScript, or if the number of
        examples is ambiguous.
    """
    refuse_scripts(model)
    inputs = arguments(example)
    try:
        state = passed(model, inputs, grouped, modes, computing=False)
    except (ValuesNeeded, ModelError):  # zeros may stop a network that runs on real values
        state = passed(model, inputs, grouped, modes, computing=True)
    batch = batch_of(inputs, state.first_layer)
    return graph_of(state, batch.size, batch.arrangement)


def refuse_scripts(model: nn.Module) -> None:
    """Raise ModelError if a module is in TorchScript, which hides the sizes that it reads."""
    for path, module in model.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            name = f"module {path!r}" if path else "the network"
            raise ModelError(NO_SCRIPT.format(name, "module"))


@contextmanager
def script_calls_refused() -> Iterator[None]:
    """Raise ModelError if the network calls a function or method in TorchScript."""

    def refuse(script: Any, *args: Any, **kwargs: Any) -> Any:
        raise ModelError(NO_SCRIPT.format(f"function {script.name!r}", "function"))

    # `getattr` would bind the method.
    calls = {kind: kind.__dict__["__call__"] for kind in SCRIPTS}
    for kind in SCRIPTS:
        kind.__call__ = refuse
    try:
        yield
    finally:
        for kind, call in calls.items():
            kind.__call__ = call


def passed(
    model: nn.Module,
    inputs: tuple[Any, ...],
    grouped: Grouping,
    modes: Sequence[Literal["eval", "train"]],
    *,
    computing: bool,
) -> Pass:
    """Run the network under the tracer, once in each mode, and return the state of the pass."""
    # A network may write to its input.
    inputs = tree_map(lambda x: x.detach().clone() if isinstance(x, Tensor) else x, inputs)
    tensors, names = named_tensors(model)
    state = Pass(names, tensors, grouped, computing)
    for leaf in tree_leaves(inputs):
        if isinstance(leaf, Tensor):
            state.values[leaf] = Value((), INPUT, sources=frozenset((NETWORK_INPUT,)))
    for mode in modes:
        out = run(model, inputs, state, training=mode == "train")
        if not (tensors := tensors_within(out)):
            raise ModelError(
                f"no tensor is found in what the network returns, a {type(out).__name__}; return "
                "tensors, or lists, dictionaries or data classes of them"
            )
        for tensor in tensors:
            value = state.value(tensor)
            state.ids.freeze_value(value, "is an output of the network")
            state.flow.outputs |= value.sources
        state.is_counting = False
    for place, operation in state.used_attributes.items():
        if place in state.widths:
            state.ids.use(state.widths[place], operation)
    return state


def run(model: nn.Module, inputs: tuple[Any, ...], state: Pass, *, training: bool) -> Any:
    """Run the network once under the tracer and return its output."""
    with untouched(model, training, weights=True), torch.no_grad(), module_paths(model, state):
        hand_out(model, state)
        try:
            with (
                decomposed_lstm(model),
                script_calls_refused(),
                SizeMode(state),
                TraceMode(state),
            ):
                return model(*inputs)
        except FAILURES as error:
            shapes = [tuple(tensor.shape) for tensor in tensors_within(inputs)]
            what = f"an input of {shapes}" if shapes else f"{shown(inputs)}, without any tensor"
            raise ModelError(f"the network does not run on {what}: {in_one_line(error)}") from error


@contextmanager
def decomposed_lstm(model: nn.Module) -> Iterator[None]:
    """Switch oneDNN off for a network with an LSTM, which it runs as one operation in float32."""
    # `torch.backends.mkldnn.flags` would set TF32 as well, and warn.
    before = torch._C._get_mkldnn_enabled()
    has_lstm = any(isinstance(module, nn.LSTM) for module in model.modules())
    torch._C._set_mkldnn_enabled(before and not has_lstm)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def named_tensors(model: nn.Module) -> tuple[list[Tensor], list[tuple[str, ...]]]:
    """Return every parameter and buffer once, and all names of each."""
    tensors: dict[int, Tensor] = {}
    names: dict[int, list[str]] = {}
    modules = list(model.named_modules(remove_duplicate=False))
    for kind in ("_parameters", "_buffers"):
        for path, module in modules:
            for key, tensor in getattr(module, kind).items():
                if tensor is None:
                    continue
                name = f"{path}.{key}" if path else key
                if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
                    raise ModelError(
                        f"{name!r} has no shape yet; run the network once before tracing"
                    )
                tensors[id(tensor)] = tensor
                names.setdefault(id(tensor), []).append(name)
    return list(tensors.values()), [tuple(many) for many in names.values()]


class TraceMode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Apply the rule of every primitive operation."""

    def __init__(self, state: Pass) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.state = state

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # PyTorch asks this; otherwise it would import its compiler at the first operation only to
        # switch it off, which takes more than a second in each process.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        p, kwargs = self.state, kwargs or {}
        strides = args[0].stride() if args and isinstance(args[0], Tensor) else ()
        out = func(*args, **kwargs) if p.computing else run_by_shape(func, args, kwargs)
        operands = tuple(tensors_in(*args, *kwargs.values()))
        op = Operation(func, args, kwargs, out, strides, operands)
        values = [p.value(operand) for operand in operands]
        n_calls = len(p.calls)
        rule = rule_of(func)
        result: Value | Sequence[Value]
        if not any(value.axes for value in values):
            result = Value((), origin_of(values))
        elif rule is not None and (rule is not pointwise or isinstance(out, Tensor)):
            result = rule(p, op)
        else:
            p.unknown[op.name] = None
            result = p.refuse(operands, f"{op.name}, an operation unknown to the tracer")
        first = result if isinstance(result, Value) else [*result, Value()][0]
        sources = self.record(op, values, first, is_layer=len(p.calls) > n_calls)
        self.note(out, result, sources)
        if func._schema.is_mutable and isinstance(args[0], Tensor):
            self.written(args[0], sources)
        return out

    def record(
        self, op: Operation, operands: list[Value], result: Value, is_layer: bool
    ) -> Sources:
        """Record a layer or a join; return the sources of the results."""
        if not self.state.is_counting:
            return frozenset()
        if is_layer:
            was_grouped = getattr(self.state.module()[1], "passes_channels", False)
            sources = self.state.flow.layer(op, operands, was_grouped)
            if self.state.first_layer is None and NETWORK_INPUT in self.state.flow.reads[-1]:
                self.state.first_layer = tuple(op.first_out.shape)
            return sources
        return self.state.flow.other(op, operands, result)

    def note(self, out: Any, result: Value | Sequence[Value], sources: Sources) -> None:
        """Store the facts about the results; a single value holds for all of the first's shape."""
        results = tensors_in(out)
        if isinstance(result, Value):
            shape = results[0].shape if results else ()
            is_like = [tensor.shape == shape or not result.axes for tensor in results]
            values: Sequence[Value] = [result if like else Value() for like in is_like]
        else:
            values = result
        for tensor, value in zip(results, values, strict=True):
            self.state.values[tensor] = value._replace(sources=sources)

    def written(self, view: Tensor, sources: Sources) -> None:
        """Add sources to the tensor behind a view that was written to."""
        base = view._base
        if base is not None:
            old = self.state.value(base)
            self.state.values[base] = old._replace(sources=old.sources | sources)


@contextmanager
def module_paths(model: nn.Module, state: Pass) -> Iterator[None]:
    """Track the paths of the modules whose `forward` is under way."""
    paths = {id(module): path for path, module in model.named_modules()}

    def enter(module: nn.Module, inputs: Any) -> None:
        if id(module) in paths:
            state.running.append((paths[id(module)], module))

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        if id(module) in paths and state.running:
            state.running.pop()

    handles = [
        register_module_forward_pre_hook(enter),
        register_module_forward_hook(leave, always_call=True),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
