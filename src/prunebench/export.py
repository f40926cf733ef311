"""Export a pruned network for other programs: ONNX, torch.export and safetensors.

Each file holds `structure.json` (normalization, class names, kept units) in its metadata. A written
network is run again, on another batch size than it was exported with, and its outputs are compared
with those of the network in memory.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from prunebench.channels.examples import (
    Batch,
    Example,
    arguments,
    larger,
    noise_like,
    on_device,
    tensors_within,
)
from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import relative_difference
from prunebench.core.errors import ConfigError, ModelError, in_one_line
from prunebench.core.files import write_bytes
from prunebench.experiments.results import STRUCTURE_FILE
from prunebench.experiments.settings import Settings
from prunebench.measure.precision import evaluating
from prunebench.network import load_network, plain, read_structure

TOLERANCE = 1e-5  # float32, relative to the largest output
ONNX_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def export(folder: Path | str, path: Path | str) -> float:
    """Write the network of a finished run in the format that the suffix of `path` names.

    Return the largest relative difference of its outputs; see `export_network`.
    """
    check_suffix(Path(path))
    structure = read_structure(folder)
    example = torch.zeros(1, *structure.image)
    return export_network(load_network(folder), path, example, structure)


def export_network(
    model: nn.Module, path: Path | str, example: Example, structure: Settings
) -> float:
    """Write a network in the format that the suffix of `path` names, for any batch size.

    .onnx needs the extra `onnx`. Return the largest difference of the outputs of the written
    network from those of `model`, relative to the largest output, on three or more images.

    Raises
    ------
    ConfigError
        For a suffix without a format, or a package that is missing.
    ModelError
        If the network cannot be exported for any batch size, or computes something else.
    """
    path = Path(path)
    check_suffix(path)
    if any(parameter.device.type != "cpu" for parameter in model.parameters()):
        model = copy.deepcopy(model).cpu()
    inputs = on_device(arguments(example), torch.device("cpu"))
    graph = trace(model, inputs)
    batch = Batch(graph.batch, graph.arrangement)
    while batch.arrangement == "rows" and batch.size < 2:  # a batch of one is taken for a constant
        inputs = larger(inputs, batch)
        batch = Batch(batch.size + 1, "rows")
    with evaluating(model), torch.no_grad():
        with flat_outputs(model, model(*inputs)):
            content, run = EXPORTS[path.suffix](model, inputs, batch, structure.model_dump_json())
        probe = noise_like(larger(inputs, batch))
        expected, found = tensors_within(model(*probe)), run(probe)
    difference = relative_difference(expected, found)
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{path}: the exported network differs by {difference:.1e} of its largest output"
        )
    write_bytes(path, content)
    return difference


Run = Callable[[tuple[Any, ...]], list[Tensor]]


@contextlib.contextmanager
def flat_outputs(model: nn.Module, out: Any) -> Iterator[None]:
    """Let a network that returns objects, such as data classes, return their tensors instead.

    Programs return no objects. `out` is what the network returns; other networks stay as they are.
    """
    if len(tensors_within(out)) == sum(isinstance(leaf, Tensor) for leaf in tree_leaves(out)):
        yield
        return
    hook = model.register_forward_hook(lambda module, args, out: tuple(tensors_within(out)))
    try:
        yield
    finally:
        hook.remove()


def check_suffix(path: Path) -> None:
    """Raise ConfigError for a suffix without a format, or if the format's packages are missing."""
    if path.suffix not in EXPORTS:
        raise ConfigError(f"{path}: the file must end in {', '.join(EXPORTS)}")
    if path.suffix != ".onnx":
        return
    for package in ONNX_PACKAGES:
        if find_spec(package) is None:
            raise ConfigError(
                f"{path}: the package {package} is missing: pip install 'prunebench[onnx]'"
            ) from None


def program_of(
    model: nn.Module, inputs: tuple[Any, ...], batch: Batch
) -> torch.export.ExportedProgram:
    """Return the network as a `torch.export` program for any batch size."""
    try:
        return torch.export.export(model, inputs, dynamic_shapes=any_batch(inputs, batch))
    except Exception as error:  # PyTorch's compiler raises errors of many kinds
        raise ModelError(
            f"{type(model).__name__} cannot be exported for any batch size: {in_one_line(error)}"
        ) from error


def any_batch(inputs: tuple[Any, ...], batch: Batch) -> tuple[Any, ...] | None:
    """Return the dynamic dimensions of the inputs: the first of tensors with an image per row."""
    if batch.arrangement != "rows":
        return None
    dimension = torch.export.Dim("batch")

    def of(x: Any) -> Any:
        is_batch = isinstance(x, Tensor) and x.ndim and len(x) == batch.size
        return {0: dimension} if is_batch else None

    return tree_map(of, inputs)  # type: ignore[no-any-return]


def torch_program(
    model: nn.Module, inputs: tuple[Any, ...], batch: Batch, structure: str
) -> tuple[bytes, Run]:
    """Return the content of a .pt2 file, with the structure as an extra file."""
    program = program_of(model, inputs, batch)
    # In memory: PyTorch's writer ends the process if the disk is full.
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={STRUCTURE_FILE: structure})

    def run(probe: tuple[Any, ...]) -> list[Tensor]:
        again = torch.export.load(io.BytesIO(content.getvalue())).module()
        return tensors_within(again(*probe))

    return content.getvalue(), run


def onnx_model(
    model: nn.Module, inputs: tuple[Any, ...], batch: Batch, structure: str
) -> tuple[bytes, Run]:
    """Return the content of an .onnx file, with the structure in its metadata."""
    import onnxruntime

    program = program_of(model, inputs, batch)
    with quiet():
        written = torch.onnx.export(
            program,
            inputs,
            dynamo=True,
            dynamic_shapes=any_batch(inputs, batch),
            verbose=False,
        )
    assert written is not None
    written.model.metadata_props[STRUCTURE_FILE] = structure
    content: bytes = written.model_proto.SerializeToString()

    def run(probe: tuple[Any, ...]) -> list[Tensor]:
        tensors = tensors_within(probe)
        try:
            session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
            names = [one.name for one in session.get_inputs()]
            fed = {name: x.numpy() for name, x in zip(names, tensors, strict=True)}
            outputs = session.run(None, fed)
        except Exception as error:  # onnxruntime's errors have no class in common
            raise ModelError(
                f"{type(model).__name__}: onnxruntime cannot run the exported network: "
                f"{in_one_line(error)}"
            ) from error
        return [torch.from_numpy(out) for out in outputs]

    return content, run


def weights(
    model: nn.Module, inputs: tuple[Any, ...], batch: Batch, structure: str
) -> tuple[bytes, Run]:
    """Return the content of a .safetensors file, with the structure in its metadata."""
    content = safetensors.torch.save(plain(model.state_dict()), {STRUCTURE_FILE: structure})

    def run(probe: tuple[Any, ...]) -> list[Tensor]:
        state = safetensors.torch.load(content)
        return tensors_within(torch.func.functional_call(model, state, probe))

    return content, run


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporter from warning about its own packages."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


EXPORTS: dict[str, Callable[[nn.Module, tuple[Any, ...], Batch, str], tuple[bytes, Run]]] = {
    ".onnx": onnx_model,
    ".pt2": torch_program,
    ".safetensors": weights,
}
