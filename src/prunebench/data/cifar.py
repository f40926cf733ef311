"""CIFAR-10 and CIFAR-100: 60 000 small photographs each, 32x32 pixels, 10 or 100 classes.

A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. The data folder may hold
any of these copies, searched in this order (shown for CIFAR-10):

- `cifar-10-batches-py/`, the official "python version". Its files are pickles, which can execute
  code, so they are opened only after their MD5 matched torchvision's table.
- `cifar10/train/<class>/` and `cifar10/test/<class>/` with images in any format that Pillow reads.
- `cifar10.zip`, an archive of these folders, with or without a top folder.
- Parquet files of the Hugging Face hub (uoft-cs/cifar10) anywhere below `cifar10/`, with "train" or
  "test" in their names; needs pyarrow.
- `cifar-10-python.tar.gz`, which torchvision otherwise downloads.

All copies become the same tensors in the same order, so results do not depend on the copy: images
are sorted by their digest SHA-256(label byte + pixels), and each split must have the fingerprint of
the original, SHA-256 over the sorted digests. The data set `cifar10_other` reads the same places
and accepts other pixels, for example of a JPEG copy, under its own name.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.core.errors import DataError, in_one_line
from prunebench.data import normalization
from prunebench.data.conversion_progress import counted
from prunebench.data.info import DatasetInfo, RawSplits

SIDE = 32  # pixels
SPLITS = ("train", "test")
# Number of images and fingerprint of the original splits.
ORIGINALS = {
    "cifar10": {
        "train": (50_000, "d59acf989e068e709ce686cda292672c7b212c08d29d3d3e6d8c3aa99eba6a85"),
        "test": (10_000, "899683d46c3a8c66fd56e1af12202e69fe5a4517be10b0f68e04c78fe585c57c"),
    },
    "cifar100": {
        "train": (50_000, "36ce7a701fbea47796e570c34382aad50f2539687cfcbc6ae96e2f56530d29b6"),
        "test": (10_000, "d3cd5d87a1b9317a0982c8ef5535fe3b86da8da90b13ce5e9b23ea06400dd5eb"),
    },
}
CIFAR10_CLASSES = "airplane automobile bird cat deer dog frog horse ship truck"
CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile
cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp
lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CLASSES = {"cifar10": CIFAR10_CLASSES.split(), "cifar100": CIFAR100_CLASSES.split()}  # by label
TORCHVISION_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
LABEL_COLUMNS = {"cifar10": "label", "cifar100": "fine_label"}  # of the Parquet files

# One split: images uint8 (N, 32, 32, 3) and labels int64 (N,).
Split = tuple[NDArray[np.uint8], NDArray[np.int64]]
# File names with the functions that read them.
Files = dict[str, Callable[[], bytes]]


def read(data_dir: Path, name: str, *, original: bool = True) -> RawSplits:
    """Read "cifar10" or "cifar100" from the first copy in `data_dir`, or download it.

    Raises DataError that names a missing or damaged file, and unless `original` is false, a split
    whose fingerprint is not the original's.
    """
    place, splits = find_copy(data_dir, name)
    ordered = {}
    for split, (images, labels) in splits.items():
        digests = image_digests(images, labels)
        if original:
            check_fingerprint(f"{place}: {split}", name, split, digests)
        order = sorted(range(len(digests)), key=digests.__getitem__)
        ordered[split] = images[order].transpose(0, 3, 1, 2), labels[order]
    return RawSplits(
        train_images=ordered["train"][0],
        train_labels=ordered["train"][1],
        test_images=ordered["test"][0],
        test_labels=ordered["test"][1],
    )


def image_digests(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> list[bytes]:
    """Return SHA-256(label byte + RGB pixels, row by row) of each image (N, 32, 32, 3)."""
    pixels = np.ascontiguousarray(images)
    return [
        hashlib.sha256(bytes([label]) + image.tobytes()).digest()
        for image, label in zip(pixels, labels.tolist(), strict=True)
    ]


def fingerprint(digests: list[bytes]) -> str:
    """Return the order-free fingerprint of a split: SHA-256 over the sorted digests."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def check_fingerprint(place: str, name: str, split: str, digests: list[bytes]) -> None:
    """Raise DataError unless the images of a split are exactly the original ones."""
    count, expected = ORIGINALS[name][split]
    found = fingerprint(digests)
    if found != expected:
        title = INFOS[name].title
        raise DataError(
            f"{place}: found {len(digests)} of {count} images with the fingerprint {found[:8]}…, "
            f"expected {expected[:8]}…: these are not {title}'s pixels and labels (a JPEG copy?); "
            f"the data set {name}_other accepts them"
        )


def find_copy(data_dir: Path, name: str) -> tuple[Path, dict[str, Split]]:
    """Return the place of the first copy in `data_dir` and its two splits."""
    folder, archive = data_dir / name, data_dir / f"{name}.zip"
    if (data_dir / TORCHVISION_FOLDERS[name]).is_dir():
        return read_torchvision(data_dir, name)
    if (folder / "train").is_dir() or (folder / "test").is_dir():
        listed = list_folder(folder)
        return folder, {split: decode(folder, listed[split], name, split) for split in SPLITS}
    if archive.is_file():
        try:
            with zipfile.ZipFile(archive) as file:
                listed = list_archive(file)
                splits = {split: decode(archive, listed[split], name, split) for split in SPLITS}
        except zipfile.BadZipFile as error:
            raise DataError(f"{archive}: not a valid zip file ({error})") from None
        return archive, splits
    if folder.is_dir() and (tables := sorted(folder.rglob("*.parquet"))):
        return folder, read_parquet(folder, tables, name)
    return read_torchvision(data_dir, name)


def list_folder(folder: Path) -> dict[str, Files]:
    """List the images `<split>/<class>/<file>` of a folder by split."""
    paths = [path for split in SPLITS for path in sorted((folder / split).glob("*/*"))]
    return _by_split({path.relative_to(folder).as_posix(): path.read_bytes for path in paths})


def list_archive(file: zipfile.ZipFile) -> dict[str, Files]:
    """List the images `[<top>/]<split>/<class>/<file>` of a zip file by split."""
    found: Files = {}
    for info in file.infolist():
        parts = PurePosixPath(info.filename).parts[-3:]
        if not info.is_dir() and len(parts) == 3:
            found["/".join(parts)] = partial(file.read, info)
    return _by_split(found)


def _by_split(files: Files) -> dict[str, Files]:
    """Keep the files with an image suffix that Pillow knows, by split."""
    from PIL import Image

    suffixes = Image.registered_extensions()
    images = {
        name: read
        for name, read in files.items()
        if PurePosixPath(name).suffix.lower() in suffixes
        and not name.split("/")[-1].startswith(".")
    }
    return {
        split: {name: read for name, read in images.items() if name.startswith(f"{split}/")}
        for split in SPLITS
    }


def decode(place: Path, files: Files, name: str, split: str) -> Split:
    """Decode the images of a split; classes are numbered in alphabetical order.

    Raises DataError that names a damaged image, one of another size, or a missing class.
    """
    from PIL import Image

    classes = sorted({path.split("/")[1] for path in files})
    if len(classes) != len(CLASSES[name]):
        raise DataError(
            f"{place}: {split} has {len(classes)} class folders with images, "
            f"expected {len(CLASSES[name])}"
        )
    number = {folder: label for label, folder in enumerate(classes)}
    images = np.empty((len(files), SIDE, SIDE, 3), dtype=np.uint8)
    for row, (path, content) in enumerate(counted(files.items(), f"read {split}")):
        try:
            with Image.open(io.BytesIO(content())) as image:
                pixels = np.asarray(image.convert("RGB"))
        except Exception as error:  # a damaged image or archive may raise anything
            problem = in_one_line(error)
            raise DataError(f"{place}: {path} cannot be decoded ({problem})") from None
        images[row] = _checked(pixels, f"{place}: {path}")
    labels = np.array([number[path.split("/")[1]] for path in files], dtype=np.int64)
    return images, labels


def _checked(pixels: NDArray[np.uint8], place: str) -> NDArray[np.uint8]:
    if pixels.shape != (SIDE, SIDE, 3):
        h, w = pixels.shape[:2]
        raise DataError(f"{place} has {h}x{w} pixels, expected {SIDE}x{SIDE}")
    return pixels


def read_parquet(folder: Path, tables: list[Path], name: str) -> dict[str, Split]:
    """Read the Parquet files of the Hugging Face hub; raise DataError that names a bad one."""
    return {
        split: _joined(folder, split, [path for path in tables if split in path.name], name)
        for split in SPLITS
    }


def _joined(folder: Path, split: str, tables: list[Path], name: str) -> Split:
    if not tables:
        raise DataError(f"{folder}: no Parquet file has {split!r} in its name")
    rows = [row for path in tables for row in _rows(path, LABEL_COLUMNS[name])]
    images = np.stack([pixels for pixels, _ in rows])
    return images, np.array([label for _, label in rows], dtype=np.int64)


def _rows(path: Path, label_column: str) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """Yield the pixels (32, 32, 3) and label of each row of a Parquet file."""
    import pandas as pd
    from PIL import Image

    try:
        table = pd.read_parquet(path, columns=["img", label_column])
    except ImportError:
        raise DataError(
            f"{path}: reading Parquet files needs pyarrow: pip install 'prunebench[parquet]'"
        ) from None
    except (OSError, KeyError, ValueError) as error:  # pyarrow's errors are ValueErrors
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read as CIFAR of the hub ({reason})") from None
    rows = list(zip(table["img"], table[label_column], strict=True))
    for row, (entry, label) in enumerate(counted(rows, "read")):
        try:
            with Image.open(io.BytesIO(entry["bytes"])) as image:
                pixels = np.asarray(image.convert("RGB"))
        except Exception as error:
            problem = in_one_line(error)
            raise DataError(f"{path}: row {row} cannot be decoded ({problem})") from None
        yield _checked(pixels, f"{path}: row {row}"), int(label)


def read_torchvision(data_dir: Path, name: str) -> tuple[Path, dict[str, Split]]:
    """Read torchvision's folder, or unpack its archive, or download that.

    Raises DataError that names a missing or damaged file.
    """
    from torchvision import datasets  # takes seconds, and imports torch

    source: Any = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    folder = data_dir / TORCHVISION_FOLDERS[name]
    if folder.is_dir():
        check_files(folder, source)
    try:
        loaded = {
            "train": source(data_dir, train=True, download=True),
            "test": source(data_dir, train=False),
        }
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{source.__name__} is not in {folder}, {data_dir / name} or {data_dir / name}.zip, "
            f"and its download failed ({' '.join(str(error).split())}); put the folder "
            f"{folder.name}, the file {source.filename} or another copy into {data_dir}"
        ) from None
    return folder, {
        split: (np.asarray(data.data), np.array(data.targets, dtype=np.int64))
        for split, data in loaded.items()
    }


def check_files(folder: Path, source: Any) -> None:
    """Raise DataError that names the first file whose MD5 differs from torchvision's table."""
    table = [*source.train_list, *source.test_list, (source.meta["filename"], source.meta["md5"])]
    for name, expected in table:
        path = folder / name
        again = f"delete the folder {folder} to have it downloaded again"
        if not path.is_file():
            raise DataError(f"{folder}: {name} is missing; {again}")
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "md5").hexdigest()
        if found != expected:
            raise DataError(f"{path}: MD5 is {found}, expected {expected}; {again}")


def _info(name: str, title: str, own: normalization.Normalization, kind: str) -> DatasetInfo:
    return DatasetInfo(
        name=name,
        title=title,
        num_classes=len(CLASSES[name]),
        classes=tuple(CLASSES[name]),
        shape=(3, SIDE, SIDE),
        mean=own.mean,
        std=own.std,
        validation=0.1,
        source=f"the University of Toronto's images{kind}, in any copy with their fingerprint",
        split="the official 10 000 test images",
        read=partial(read, name=name),
        counts=(50_000, 10_000),
    )


def _other(info: DatasetInfo) -> DatasetInfo:
    """Return the description of copies with other pixels."""
    return replace(
        info,
        name=f"{info.name}_other",
        title=f"{info.title} (other pixels)",
        source=f"a copy of {info.title} whose pixels are not the original ones",
        read=partial(read, name=info.name, original=False),
    )


CIFAR10 = _info("cifar10", "CIFAR-10", normalization.SFP_CIFAR10, "")
CIFAR10_OTHER = _other(CIFAR10)
CIFAR100 = _info("cifar100", "CIFAR-100", normalization.SFP_CIFAR100, ", fine labels")
CIFAR100_OTHER = _other(CIFAR100)
INFOS = {"cifar10": CIFAR10, "cifar100": CIFAR100}
