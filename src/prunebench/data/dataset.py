"""Convert a source to one file of tensors, and load that file onto a device.

The file has the keys train_images, train_labels, val_images ... (images uint8 (N, C, h, w), labels
int64 (N,)) and a single metadata entry, a JSON object: safetensors writes several entries in random
order, and equal data must give equal bytes. Data sets that read image files during training have
train_files and train_bytes (`listing.FileList`) instead of train_images, and the metadata of
`listing.FileSplits`. Data sets with boxes have the arrays of `boxed_source.BoxedSplits`. `stored`
lists all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor

from prunebench.core.errors import ConfigError, DataError, cannot
from prunebench.core.files import parsed_json, replacing
from prunebench.data.boxes import BoxedFiles, BoxedImages
from prunebench.data.image_files import FileSplit
from prunebench.data.images import LabeledImages, OnDevice, Order
from prunebench.data.info import DatasetInfo
from prunebench.data.registry import DATASETS, dataset_info, is_known
from prunebench.data.stored import kind_of
from prunebench.experiments.recipe import Augment

SPLITS = ("train", "val", "test")
METADATA_KEY = "prunebench"
METADATA = ("dataset", "sha256", "source", "split", "validation")
NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)  # but neither bfloat16 nor float8
SHOWN_CLASSES = 10  # names of classes in a summary


@dataclass(frozen=True)
class Split:
    """Images uint8 (N, C, h, w) and labels int64 (N,), on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return the channels, height and width of an image."""
        _, c, h, w = self.images.shape
        return c, h, w

    def reader(self, order: Order, augment: Augment | None) -> OnDevice:
        """Return a reader of an order; batches are augmented later."""
        return OnDevice(self.images, order.index.to(self.images.device), order)


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A loaded data set; `val` is empty if nothing was held out.

    The splits of a data set for detection are `boxes.BoxedImages`.
    """

    info: DatasetInfo
    train: LabeledImages
    val: LabeledImages
    test: LabeledImages
    sha256: str  # of the tensors; equal data have equal hashes


def prepare(name: str, data_dir: Path, out: Path, *, validation: float | None = None) -> None:
    """Read the source of a data set below `data_dir` and write it to `out`, atomically.

    `validation` is the fraction of the training images that is held out, stratified and the same on
    every call (None: the data set's default; 0: none, as in the papers). A source that has its own
    validation images holds out those. Raises DataError if the source is missing or damaged.
    """
    info = dataset_info(name)
    fraction = info.validation if validation is None else validation
    if not 0 <= fraction < 1:
        raise ConfigError(f"validation must be a fraction in [0, 1), not {fraction}")
    raw = info.read(data_dir)
    try:
        held = raw.hold_out(fraction)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    arrays = raw.arrays(held.kept, held.held_out)
    tensors = {key: torch.from_numpy(np.array(a, order="C")) for key, a in arrays.items()}
    more = raw.metadata()
    check_tensors(tensors, described(info, more), where=name)
    metadata = {
        "dataset": name,
        "sha256": content_hash(tensors),
        "source": info.source,
        "split": f"{info.split}; {held.words}",
        "validation": held.fraction,
        "held_out": held.held_out.tolist(),
        **more,
    }
    with replacing(out) as temporary:
        words = {METADATA_KEY: json.dumps(metadata, sort_keys=True)}
        temporary.write_bytes(safetensors.torch.save(tensors, metadata=words))


def load(
    path: Path,
    device: torch.device | str = "cpu",
    *,
    workers: int = 0,
    joined: bool = False,
    most: int | None = None,
) -> Dataset:
    """Load a file written by `prepare`; raise DataError that names the file, key and value.

    Parameters
    ----------
    workers
        Number of image-loading workers of data sets in files.
    joined
        Whether the validation split joins the training split: all training images, in the order
        that they have if none is held out.
    most
        Largest number of images of each split, spread evenly over it; None: all.
    """
    try:
        path.open("rb").close()  # safetensors gives no reason
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = parse_metadata(path, file.metadata() or {})
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; `prunebench data` writes it") from None
    except OSError as error:
        raise DataError(f"{path}: {cannot('be read', error)}") from None
    except safetensors.SafetensorError as error:
        raise DataError(f"{path}: not a complete safetensors file ({error})") from None
    info = described(dataset_info(metadata["dataset"]), metadata)
    check_tensors(tensors, info, where=str(path))
    if (found := content_hash(tensors)) != metadata["sha256"]:
        raise DataError(f"{path}: the tensors' SHA-256 is {found}, expected {metadata['sha256']}")
    if joined:
        join_splits(tensors, metadata, where=str(path))
    if most is not None:
        tensors = {key: tensor[spread(len(tensor), most)] for key, tensor in tensors.items()}
    train, val, test = (
        _loaded(_arrays(tensors, split), info, _root(path, metadata), torch.device(device), workers)
        for split in SPLITS
    )
    return Dataset(info=info, train=train, val=val, test=test, sha256=found)


def spread(images: int, most: int) -> Tensor:
    """Return the places of at most `most` of a number of images, spread evenly, int64.

    Lists of images are often sorted by class: the first ones would have one class only.

    >>> spread(10, 4).tolist(), spread(3, 4).tolist()
    ([0, 2, 5, 7], [0, 1, 2])
    """
    return torch.arange(min(images, most)) * images // max(1, min(images, most))


def summary(path: Path) -> dict[str, str]:
    """Describe a file written by `prepare`: counts, classes, and how images become inputs.

    Reads only the file's header.
    """
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = parse_metadata(path, file.metadata() or {})
        counts = [file.get_slice(f"{split}_labels").get_shape()[0] for split in SPLITS]
    info = described(dataset_info(metadata["dataset"]), metadata)
    shown = [*info.classes[:SHOWN_CLASSES], *(["..."] if len(info.classes) > SHOWN_CLASSES else [])]
    names = f" ({', '.join(shown)})" if shown else ""
    return {
        "images": ", ".join(f"{n} {split}" for n, split in zip(counts, SPLITS, strict=True)),
        "classes": f"{info.num_classes}{names}",
        **_sizes_in_words(info),
        **_odd_boxes_in_words(metadata),
    }


def _sizes_in_words(info: DatasetInfo) -> dict[str, str]:
    channels, h, w = info.shape
    size = f"{h}x{w}, {channels} channel{'s' if channels > 1 else ''}"
    if isinstance(info.resize, tuple):
        longest, shorter = info.resize
        return {
            "size": f"{size}" + (", for counting costs" if info.in_files else ""),
            "resize": f"sides to at most {longest} and {shorter}",
            "crop": "none",
        }
    is_resized = info.resize is not None
    return {
        "size": size,
        "resize": f"shorter side to {info.resize}" if is_resized else "none",
        "crop": f"center {h}x{w} (in training, the recipe's)" if is_resized else "none",
    }


def _odd_boxes_in_words(metadata: Mapping[str, Any]) -> dict[str, str]:
    if "odd_boxes" not in metadata:
        return {}
    odd = metadata["odd_boxes"]
    return {"boxes": f"{odd['clipped']} clipped to their image, {odd['skipped']} skipped"}


def join_splits(tensors: dict[str, Tensor], metadata: Mapping[str, Any], where: str) -> None:
    """Move the validation split into the training split, in the order of the source.

    Raises DataError if the file does not say where the held-out images belong.
    """
    held_out = torch.tensor(metadata.get("held_out", []), dtype=torch.int64)
    if len(held_out) != len(tensors["val_labels"]):
        raise DataError(
            f"{where}: written by an earlier version, without the places of the validation "
            "images; run `prunebench data` again"
        )
    is_val = torch.zeros(len(held_out) + len(tensors["train_labels"]), dtype=torch.bool)
    is_val[held_out] = True
    for key in [key for key in tensors if key.startswith("train_")]:
        train, val = tensors[key], tensors.pop(key.replace("train_", "val_"))
        whole = train.new_empty((len(is_val), *train.shape[1:]))
        whole[~is_val], whole[is_val] = train, val
        tensors[key], tensors[key.replace("train_", "val_")] = whole, val[:0]


def _arrays(tensors: Mapping[str, Tensor], split: str) -> dict[str, Tensor]:
    """Return the arrays of a split by name."""
    start = f"{split}_"
    return {key.removeprefix(start): t for key, t in tensors.items() if key.startswith(start)}


def _root(path: Path, metadata: Mapping[str, Any]) -> Path:
    """Return the folder of a data set in files; raise DataError if it is missing."""
    root = Path(metadata.get("folder", "."))
    if not root.is_dir():
        raise DataError(f"{path}: its folder {root} is missing; run `prunebench data` again")
    return root


def _loaded(
    arrays: Mapping[str, Tensor],
    info: DatasetInfo,
    root: Path,
    device: torch.device,
    workers: int,
) -> LabeledImages:
    """Return a split of its stored arrays."""
    if info.task == "detection":
        return _boxed(arrays, info, root, device, workers)
    labels = arrays["labels"].to(device)
    if not info.in_files:
        return Split(arrays["images"].to(device), labels)
    assert isinstance(info.resize, int)
    files, sizes = arrays["files"], arrays["bytes"]
    return FileSplit(root, files, sizes, labels, info.shape, info.resize, workers)


def _boxed(
    arrays: Mapping[str, Tensor],
    info: DatasetInfo,
    root: Path,
    device: torch.device,
    workers: int,
) -> BoxedImages:
    resize, pixels = info.resize, arrays.get("images")
    assert isinstance(resize, tuple)
    images: Tensor | BoxedFiles
    if pixels is not None:
        images = pixels.to(device)
    else:
        files, sizes = arrays["files"], arrays["bytes"]
        images = BoxedFiles(root, files, sizes, arrays["sizes"], resize, device, workers)
    boxes = {key: arrays[key].to(device) for key in ("sizes", "boxes", "labels", "areas", "crowd")}
    return BoxedImages(pixels=images, shape=info.shape, resize=resize, **boxes)


def described(info: DatasetInfo, metadata: Mapping[str, Any]) -> DatasetInfo:
    """Return a description with the fields that the source itself provides."""
    changes: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in metadata.get("described", {}).items()
    }
    if "classes" in metadata:
        classes = tuple(metadata["classes"])
        changes |= {"classes": classes, "num_classes": len(classes)}
    if "resize" in metadata:
        changes["resize"] = metadata["resize"]
    return replace(info, **changes)


def parse_metadata(path: Path, entries: Mapping[str, str]) -> dict[str, Any]:
    """Read and check the metadata of a file."""
    try:
        metadata = parsed_json(entries[METADATA_KEY])
    except (KeyError, ValueError):
        raise DataError(
            f"{path}: the metadata {METADATA_KEY!r} is missing; "
            "`prunebench data` did not write this file"
        ) from None
    for key in METADATA:
        if key not in metadata:
            raise DataError(f"{path}: the metadata has no {key!r}")
    if not is_known(metadata["dataset"]):
        raise DataError(
            f"{path}: the metadata's dataset is {metadata['dataset']!r}, "
            f"expected one of {', '.join(sorted(DATASETS))}"
        )
    for key in kind_of(described(dataset_info(metadata["dataset"]), metadata)).metadata:
        if key not in metadata:
            raise DataError(f"{path}: the metadata has no {key!r}")
    return dict(metadata)


def check_tensors(tensors: Mapping[str, Tensor], info: DatasetInfo, where: str) -> None:
    """Raise DataError unless the tensors are valid splits of this data set."""
    kind = kind_of(info)
    splits = {split: _arrays(tensors, split) for split in SPLITS}
    without_labels = {"labels": torch.zeros(0, 0, dtype=torch.int64)}
    names = kind.forms(without_labels, info)
    expected = {f"{split}_{name}" for split in SPLITS for name in names}
    if odd := sorted(expected ^ tensors.keys()):
        problem = "is missing" if odd[0] in expected else "is unexpected"
        raise DataError(f"{where}: {odd[0]!r} {problem}")
    for split, arrays in splits.items():
        for name, (dtype, shape) in kind.forms(arrays, info).items():
            if arrays[name].dtype != dtype or arrays[name].shape != shape:
                raise DataError(
                    f"{where}: {split}_{name} is {arrays[name].dtype} of shape "
                    f"{tuple(arrays[name].shape)}, expected {dtype} of shape {shape}"
                )
        kind.check(arrays, info, f"{where}: {split}", split == "val")


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and values of all tensors."""
    digest = hashlib.sha256()
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.flatten()
        if values.dtype.is_floating_point and values.dtype not in NUMPY_FLOATS:
            values = values.view({1: torch.uint8, 2: torch.int16}[values.dtype.itemsize])
        digest.update(values.numpy().data)
    return digest.hexdigest()
