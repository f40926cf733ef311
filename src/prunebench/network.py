"""A pruned network on disk: the architecture's name, its structure and its weights.

`structure.json` lists the kept units of each channel group, numbered as in the original network,
the preprocessing of the input, and the classes of the outputs. `model.safetensors` holds the
parameters and buffers of the smaller network, `masks.safetensors` the masks of weights that are
zero but not removed (True is kept; no entries: none are).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import safetensors
import safetensors.torch
import torch
from pydantic import Field, ValidationError, model_validator
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGraph, Grouping
from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import ModelError, PrunebenchError, ResultError, cannot
from prunebench.core.files import file_hash, read_json, replacing, write_json
from prunebench.data.normalization import Normalization
from prunebench.data.preprocessing import Preprocessing
from prunebench.experiments.results import MASKS_FILE, MODEL_FILE, STRUCTURE_FILE
from prunebench.experiments.settings import Positive, Settings
from prunebench.models.base import not_finite
from prunebench.models.registry import build

Count = Annotated[int, Field(ge=1)]
S = TypeVar("S", bound=Settings)


class GroupStructure(Settings):
    """The units of one channel group that were kept."""

    units: Count  # in the original network
    kept: Annotated[tuple[int, ...], Field(min_length=1)]  # rising

    @model_validator(mode="after")
    def _kept_are_units(self) -> GroupStructure:
        if list(self.kept) != sorted(set(self.kept)):
            raise ValueError("kept must rise, without a unit listed twice")
        if self.kept[0] < 0 or self.kept[-1] >= self.units:
            raise ValueError(f"kept must lie between 0 and {self.units - 1}")
        return self


class LayerStructure(Settings):
    """The width of one convolution, and its stage and block if the architecture labels them."""

    full: Count  # output channels in the original network
    kept: Count
    stage: int | None = None
    block: int | None = None


class NormalizationStructure(Settings):
    """The normalization of the input: (pixel / 255 - mean) / std, per channel."""

    mean: tuple[float, ...]
    std: tuple[Positive, ...]


class Structure(Settings):
    """The content of `structure.json`: everything about a network except its weights.

    Files of earlier versions have no `normalization`, `resize` and `classes`.
    """

    architecture: str
    dataset: str
    num_classes: Count
    in_channels: Count
    image: tuple[Count, Count, Count]  # channels, height, width
    normalization: NormalizationStructure | None = None
    # Shorter side before the center crop; longest and shorter side without a crop; None: no resize
    resize: Count | tuple[Count, Count] | None = None
    classes: tuple[str, ...] | None = None  # names by output; None: unknown
    grouped: Grouping = "auto"  # what units of grouped convolutions are
    groups: dict[str, GroupStructure]
    layers: dict[str, LayerStructure]  # by path of the convolution, in network order

    @model_validator(mode="after")
    def _image_fits(self) -> Structure:
        if self.image[0] != self.in_channels:
            raise ValueError(f"image has {self.image[0]} channels, in_channels {self.in_channels}")
        if self.classes is not None and len(self.classes) != self.num_classes:
            raise ValueError(f"{len(self.classes)} classes, num_classes {self.num_classes}")
        own = self.normalization
        if own is not None and not len(own.mean) == len(own.std) == self.in_channels:
            raise ValueError(
                f"normalization has {len(own.mean)} means and {len(own.std)} deviations, "
                f"in_channels {self.in_channels}"
            )
        return self

    @property
    def widths(self) -> dict[str, int]:
        """Return the number of kept units per group."""
        return {name: len(group.kept) for name, group in self.groups.items()}

    @property
    def preprocessing(self) -> Preprocessing | None:
        """Return the preprocessing of the input; None if the file does not say it."""
        if self.normalization is None:
            return None
        own = self.normalization
        return Preprocessing(image=self.image, mean=own.mean, std=own.std, resize=self.resize)

    @property
    def is_smaller(self) -> bool:
        """Whether any unit was removed."""
        return any(len(group.kept) < group.units for group in self.groups.values())


def structure_of(
    model: nn.Module,
    *,
    architecture: str,
    dataset: str,
    num_classes: int,
    image: tuple[int, int, int],
    sizes: Mapping[str, int],
    kept: Mapping[str, Tensor],
    grouped: Grouping = "auto",
    normalization: Normalization | None = None,
    resize: int | tuple[int, int] | None = None,
    classes: Sequence[str] = (),
) -> Structure:
    """Describe `model`, which is `architecture` after the removal of all units except `kept`.

    `sizes` holds the number of units of each prunable group in the original network, `kept` the
    remaining units, numbered as in the original. A group missing from `kept` is whole.
    """
    whole = _whole(architecture, num_classes, image[0])
    full, now = conv_widths(whole), conv_widths(model)
    labels_of = getattr(whole, "labels", None)
    labels = labels_of() if callable(labels_of) else {}
    units = {name: kept[name].tolist() if name in kept else range(sizes[name]) for name in sizes}
    return Structure(
        architecture=architecture,
        dataset=dataset,
        num_classes=num_classes,
        in_channels=image[0],
        image=image,
        normalization=None
        if normalization is None
        else NormalizationStructure(mean=normalization.mean, std=normalization.std),
        resize=resize,
        classes=tuple(classes) or None,
        grouped=grouped,
        groups={
            name: GroupStructure(units=sizes[name], kept=tuple(sorted(units[name])))
            for name in sizes
        },
        layers={
            name: LayerStructure(
                full=full[name],
                kept=now[name],
                stage=labels[name].stage if name in labels else None,
                block=labels[name].block if name in labels else None,
            )
            for name in full
        },
    )


def conv_widths(model: nn.Module) -> dict[str, int]:
    """Return the output channels of every convolution by path, in order of definition."""
    return {
        name: module.out_channels
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.conv._ConvNd)
    }


def save_network(
    folder: Path, model: nn.Module, structure: Settings, masks: Mapping[str, Tensor]
) -> str:
    """Write the network into `folder`; return the SHA-256 of `model.safetensors`.

    Masks that keep everything are omitted.
    """
    write_json(folder / STRUCTURE_FILE, structure.model_dump(mode="json"))
    _save_tensors(folder / MASKS_FILE, {n: m for n, m in masks.items() if not bool(m.all())})
    _save_tensors(folder / MODEL_FILE, model.state_dict())
    return file_hash(folder / MODEL_FILE)


def load_network(folder: Path | str) -> nn.Module:
    """Rebuild the network in `folder` with its weights, on the CPU, in evaluation mode.

    The network has plain attributes: `preprocess` turns an image into its input as in training
    (`data.preprocessing.Preprocessing`), and `classes` names its outputs. Both are None for a run
    of an earlier version, which does not store them. `first_groups` lists the kept units.

    Raises ResultError or ModelError, with file, key, value and expected value, if a file is missing
    or damaged or if two files do not belong together.
    """
    folder = Path(folder)
    structure = read_structure(folder)
    try:
        model = build_pruned(structure)
    except PrunebenchError as error:
        raise ModelError(f"{folder / STRUCTURE_FILE}: {error}") from None
    fill(model, folder)
    vars(model).update(
        preprocess=structure.preprocessing, classes=structure.classes, first_groups=structure.groups
    )
    return model.eval()


def fill(model: nn.Module, folder: Path) -> None:
    """Give a network the weights in `folder`; ResultError if names or shapes differ."""
    path = folder / MODEL_FILE
    state, expected = check_weights(folder), model.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        if name not in state:
            raise ResultError(f"{path}: {name!r} is missing, expected by {STRUCTURE_FILE}")
        if name not in expected:
            raise ResultError(f"{path}: {name!r} is not part of the network in {STRUCTURE_FILE}")
        if state[name].shape != expected[name].shape:
            raise ResultError(
                f"{path}: {name!r} has shape {tuple(state[name].shape)}, "
                f"expected {tuple(expected[name].shape)}"
            )
    model.load_state_dict(state)


def first_groups(model: nn.Module) -> dict[str, GroupStructure]:
    """Return the units that a pruned network keeps, numbered as in the network it was made from.

    Networks that were loaded, or pruned before, have them; empty: nothing was pruned.
    """
    return dict(vars(model).get("first_groups") or {})


def check_weights(folder: Path | str) -> dict[str, Tensor]:
    """Read the weights in `folder`; ResultError if one of them is a NaN or an infinity."""
    path = Path(folder) / MODEL_FILE
    state = _load_tensors(path)
    if (name := not_finite(state)) is not None:
        raise ResultError(f"{path}: {name!r} holds a value that is not finite; train it again")
    return state


def load_masks(folder: Path | str) -> dict[str, Tensor]:
    """Read what is zero but still there, by parameter name; no file means nothing is."""
    path = Path(folder) / MASKS_FILE
    masks = _load_tensors(path) if path.exists() else {}
    for name, mask in masks.items():
        if mask.dtype != torch.bool:
            raise ResultError(f"{path}: {name!r} has dtype {mask.dtype}, expected torch.bool")
    return masks


def read_structure(folder: Path | str) -> Structure:
    """Read and check `structure.json`."""
    path = Path(folder) / STRUCTURE_FILE
    return parsed_structure(Structure, read_json(path), path)


def parsed_structure(kind: type[S], content: Any, path: Path) -> S:
    """Return the content of a structure file as `kind`; ResultError names file and key."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "content"
        value = "" if first["type"] == "missing" else f", got {first['input']!r:.80}"
        raise ResultError(f"{path}: {key}: {first['msg']}{value}") from None


def build_pruned(structure: Structure) -> nn.Module:
    """Build the architecture without the units that the structure lacks, with arbitrary weights.

    The global random state does not change. Raises ModelError if the structure does not fit the
    architecture.
    """
    model = remove(*whole_and_removed(structure))
    for name, width in conv_widths(model).items():
        if name not in structure.layers or structure.layers[name].kept != width:
            found = structure.layers[name].kept if name in structure.layers else "nothing"
            raise ModelError(f"layer {name!r} has {found} kept, expected {width} by the groups")
    return model


def whole_and_removed(structure: Structure) -> tuple[nn.Module, ChannelGraph, dict[str, Tensor]]:
    """Build the whole architecture with arbitrary weights; return it, its groups and removed units.

    Raises ModelError if the structure does not fit the architecture.
    """
    model = _whole(structure.architecture, structure.num_classes, structure.in_channels)
    graph = trace(model, torch.zeros(1, *structure.image), grouped=structure.grouped)
    return model, graph, removed_units(structure.architecture, structure.groups, graph)


def removed_units(
    network: str, groups: Mapping[str, GroupStructure], graph: ChannelGraph
) -> dict[str, Tensor]:
    """Return the units that a whole network has to lose; ModelError if its groups differ."""
    removed: dict[str, Tensor] = {}
    for name, group in groups.items():
        if name not in graph.groups:
            raise ModelError(f"{network} has no prunable group {name!r}")
        if (units := graph.groups[name].n_units) != group.units:
            raise ModelError(f"group {name!r} has {group.units} units, expected {units}")
        if lacking := sorted(set(range(units)) - set(group.kept)):
            removed[name] = torch.tensor(lacking)
    return removed


def _whole(architecture: str, num_classes: int, in_channels: int) -> nn.Module:
    """Build an architecture with arbitrary weights; the global random state does not change.

    It is not built on the meta device, where drawing weights loads PyTorch's compiler.
    """
    with torch.random.fork_rng(devices=[]):
        return build(architecture, num_classes=num_classes, in_channels=in_channels)


def plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return copies on the CPU as safetensors stores them: contiguous, without shared memory."""
    return {
        n: t.detach().cpu().clone(memory_format=torch.contiguous_format) for n, t in tensors.items()
    }


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    with replacing(path) as temporary:
        # `save_file` lets nobody else read the file, and hides the reason if the disk is full.
        temporary.write_bytes(safetensors.torch.save(plain(tensors)))


def _load_tensors(path: Path) -> dict[str, Tensor]:
    try:
        path.open("rb").close()  # safetensors gives no reason
        return dict(safetensors.torch.load_file(path))
    except FileNotFoundError:
        raise ResultError(f"{path}: no such file") from None
    except OSError as error:
        raise ResultError(f"{path}: {cannot('be read', error)}") from None
    except safetensors.SafetensorError as error:
        raise ResultError(f"{path}: not a valid safetensors file ({error})") from None
