"""A pruned network of the user on disk, in the files of a run: `network` says what they hold.

A network that `prunebench.build` has built is stored like that of a run. Of any other,
`structure.json` names the class and the inputs instead of an architecture, and the user passes an
unpruned network of that class when it is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.channels.examples import Example, arguments
from prunebench.channels.groups import Grouping
from prunebench.channels.removal import remove
from prunebench.channels.untouched import untouched
from prunebench.core.errors import ConfigError, ModelError, PrunebenchError, ResultError, shown
from prunebench.core.files import read_json
from prunebench.data.normalization import Normalization
from prunebench.data.preprocessing import Preprocessing
from prunebench.experiments.results import STRUCTURE_FILE
from prunebench.experiments.settings import Settings
from prunebench.export import check_suffix, export, export_network
from prunebench.models.registry import built_as
from prunebench.network import (
    GroupStructure,
    NormalizationStructure,
    Structure,
    build_pruned,
    fill,
    load_network,
    parsed_structure,
    removed_units,
    structure_of,
)
from prunebench.own_network.own_trace import trace_own


class InputStructure(Settings):
    """One argument of the network."""

    shape: tuple[int, ...]  # of the example that it was traced with
    dtype: str  # as in torch, such as float32


class OwnStructure(Settings):
    """The content of `structure.json` for a network of the user's class."""

    network: str  # module and name of the class
    inputs: tuple[InputStructure, ...] | None  # None: not a plain tuple of tensors
    normalization: NormalizationStructure | None = None
    classes: tuple[str, ...] | None = None  # names by output; None: unknown
    grouped: Grouping = "auto"  # what units of grouped convolutions are
    groups: dict[str, GroupStructure]

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Return the preprocessing of an image; None if the file does not say it."""
        shapes = [one.shape[1:] for one in self.inputs or ()]
        if self.normalization is None or len(shapes) != 1 or len(shapes[0]) != 3:
            return None
        channels, height, width = shapes[0]
        own = self.normalization
        return Preprocessing(image=(channels, height, width), mean=own.mean, std=own.std)


def structure_for(
    model: nn.Module,
    example: Example,
    groups: dict[str, GroupStructure],
    *,
    grouped: Grouping,
    normalization: Normalization | None,
    classes: Sequence[str],
) -> Structure | OwnStructure:
    """Describe a pruned network by its groups, with units numbered as before any pruning.

    ConfigError if normalization or classes do not fit the network.
    """
    inputs = arguments(example)
    known = of_registered(model, inputs, groups, grouped, normalization, classes)
    if known is not None:
        return known
    tensors = [x for x in inputs if isinstance(x, Tensor)]
    described = tuple(
        InputStructure(shape=tuple(x.shape), dtype=str(x.dtype).removeprefix("torch."))
        for x in tensors
    )
    return OwnStructure(
        network=class_path(model),
        inputs=described if len(tensors) == len(inputs) else None,
        normalization=None
        if normalization is None
        else NormalizationStructure(mean=normalization.mean, std=normalization.std),
        classes=tuple(classes) or None,
        grouped=grouped,
        groups=groups,
    )


def of_registered(
    model: nn.Module,
    inputs: tuple[Any, ...],
    groups: dict[str, GroupStructure],
    grouped: Grouping,
    normalization: Normalization | None,
    classes: Sequence[str],
) -> Structure | None:
    """Return the structure of a network that `prunebench.build` has built; None of any other.

    The user may have changed it since: then what is built from the structure has other weights.
    """
    built = built_as(model)
    if built is None or len(inputs) != 1 or not isinstance(inputs[0], Tensor):
        return None
    try:
        structure = structure_of(
            model,
            architecture=built.name,
            dataset="",
            num_classes=built.num_classes,
            image=tuple(inputs[0].shape[1:]),  # type: ignore[arg-type]
            sizes={name: group.units for name, group in groups.items()},
            kept={name: torch.tensor(group.kept) for name, group in groups.items()},
            grouped=grouped,
            normalization=normalization,
            classes=classes,
        )
        again = build_pruned(structure)
    except (PrunebenchError, KeyError):  # other layers, or other groups
        return None
    return structure if shapes_of(again) == shapes_of(model) else None


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shape of each parameter and buffer."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def normalization_of(
    given: tuple[Sequence[float], Sequence[float]] | None, example: Example
) -> Normalization | None:
    """Return mean and deviation as a normalization; ConfigError if they do not fit the input."""
    if given is None:
        return None
    first = arguments(example)[0]
    channels = first.shape[1] if isinstance(first, Tensor) and first.ndim > 1 else None
    try:
        mean, std = (tuple(float(number) for number in part) for part in given)
    except (TypeError, ValueError):
        raise ConfigError(f"normalization: {shown(given)} is not (mean, std)") from None
    if not len(mean) == len(std) == channels or any(number <= 0 for number in std):
        raise ConfigError(
            f"normalization: {shown(given)}; expected a mean and a deviation above 0 for each of "
            f"the {channels} channels"
        )
    return Normalization(mean, std)


def check_classes(model: nn.Module, example: Example, classes: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the outputs; ConfigError unless there is one for each of them.

    Only outputs (n, outputs) or (n, outputs, h, w) are counted.
    """
    if isinstance(classes, str):
        raise ConfigError(f"classes: {shown(classes)} is one text; give a list of names")
    if not classes:
        return ()
    with untouched(model, weights=True), torch.no_grad():
        out = model(*arguments(example))
    if isinstance(out, Tensor) and out.ndim in (2, 4) and out.shape[1] != len(classes):
        raise ConfigError(
            f"classes: {len(classes)} names, but the network has {out.shape[1]} outputs"
        )
    return tuple(str(name) for name in classes)


def class_path(model: nn.Module) -> str:
    """Return the module and the name of a network's class.

    >>> class_path(nn.Linear(1, 1))
    'torch.nn.modules.linear.Linear'
    """
    return f"{type(model).__module__}.{type(model).__qualname__}"


def load(
    folder: Path | str, *, model: nn.Module | None = None, example: Example | None = None
) -> nn.Module:
    """Load a pruned network: that of a finished run, or one stored by `Pruned.save`.

    It is returned in evaluation mode, with the attributes `preprocess` and `classes` if the file
    says them (see `network.load_network`).

    Parameters
    ----------
    model
        An unpruned network of the user's class, which stays as it is; its weights do not matter.
        Needed unless `prunebench.build` has built the network.
    example
        An input to trace `model` with; needed if it was pruned with other arguments than tensors.

    Raises
    ------
    ResultError
        If a file is missing or damaged, or if names or shapes of weights differ.
    ModelError
        If `model` is needed, or if its groups are not those in the file.
    """
    folder = Path(folder)
    path = folder / STRUCTURE_FILE
    structure = own_structure(folder)
    if structure is None:
        return load_network(folder)
    if model is None:
        raise ModelError(
            f"{path}: prunebench cannot build a {structure.network}; pass model=, an unpruned "
            "network of that class"
        )
    given = stored_example(structure, path) if example is None else example
    try:
        graph = trace_own(model, given, grouped=structure.grouped).graph
        removed = removed_units(class_path(model), structure.groups, graph)
        smaller = remove(model, graph, removed)
    except PrunebenchError as error:
        raise ModelError(f"{path}: {error}") from None
    fill(smaller, folder)
    vars(smaller).update(
        preprocess=structure.preprocessing,
        classes=structure.classes,
        first_groups=structure.groups,
    )
    return smaller.eval()


def own_structure(folder: Path) -> OwnStructure | None:
    """Return the structure of a network of the user's class; None for a folder of another."""
    path = folder / STRUCTURE_FILE
    content = read_json(path)
    if not isinstance(content, dict) or "network" not in content:
        return None
    return parsed_structure(OwnStructure, content, path)


def export_folder(folder: Path, out: Path, *, model: nn.Module | None = None) -> float:
    """Export the network in a folder; return the largest relative difference of its outputs.

    `model` is an unpruned network of the user's class, as for `load`.
    """
    check_suffix(out)
    structure = own_structure(folder)
    if structure is None:
        return export(folder, out)
    example = stored_example(structure, folder / STRUCTURE_FILE)
    return export_network(load(folder, model=model), out, example, structure)


def stored_example(structure: OwnStructure, path: Path) -> Example:
    """Return zeros of the stored shapes; ResultError if the file does not know them."""
    if structure.inputs is None:
        raise ResultError(f"{path}: the inputs are not plain tensors; pass example= to load it")
    return tuple(
        torch.zeros(one.shape, dtype=getattr(torch, one.dtype)) for one in structure.inputs
    )
