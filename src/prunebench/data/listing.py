"""Lists of image files: names, sizes and labels; nothing is decoded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from prunebench.core.errors import DataError, shown
from prunebench.data.conversion_progress import counted
from prunebench.data.split import HeldOut, stratified

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"})


@dataclass(frozen=True)
class FileList:
    """Files below a folder with their sizes and labels; names are UTF-8, padded with zeros."""

    names: NDArray[np.uint8]  # (N, longest)
    sizes: NDArray[np.int64]  # (N,)
    labels: NDArray[np.int64]  # (N,)

    def at(self, index: NDArray[np.int64]) -> FileList:
        """Return the files at `index`."""
        return FileList(self.names[index], self.sizes[index], self.labels[index])


def list_classes(folder: Path) -> tuple[str, ...]:
    """Return the class names of a folder: its subfolders, sorted."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one subfolder of images per class")
    classes = tuple(sorted(entry.name for entry in os.scandir(folder) if entry.is_dir()))
    if not classes:
        raise DataError(f"{folder}: has no subfolders; expected one per class")
    return classes


def list_images(root: Path, folders: Sequence[Path]) -> FileList:
    """List the images in `folders` below `root`, sorted by name; folder k is class k."""
    names: list[str] = []
    sizes: list[int] = []
    labels: list[int] = []
    for label, folder in enumerate(counted(folders, "list")):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; every class needs one")
        found = sorted(
            (entry.name, entry.stat().st_size)
            for entry in os.scandir(folder)
            if Path(entry.name).suffix.lower() in SUFFIXES
        )
        if not found:
            raise DataError(f"{folder}: holds no images ({', '.join(sorted(SUFFIXES))})")
        names += [_text((folder / name).relative_to(root)) for name, _ in found]
        sizes += [size for _, size in found]
        labels += [label] * len(found)
    return FileList(packed(names), np.array(sizes, np.int64), np.array(labels, np.int64))


def _text(path: Path) -> str:
    try:
        return str(path).encode().decode()
    except UnicodeEncodeError:
        raise DataError(f"{shown(str(path))}: the file's name is not UTF-8; rename it") from None


def packed(names: Sequence[str]) -> NDArray[np.uint8]:
    """Return names as rows of bytes, padded with zeros.

    >>> packed(["ab", "c"]).tolist()
    [[97, 98], [99, 0]]
    """
    rows = np.array([name.encode() for name in names])
    return rows.view(np.uint8).reshape(len(names), rows.itemsize)


def unpacked(row: NDArray[np.uint8]) -> str:
    """Return the name in a row."""
    return row.tobytes().rstrip(b"\0").decode()


@dataclass(frozen=True, kw_only=True)
class FileSplits:
    """A source whose images are read from their files during training.

    Attributes
    ----------
    folder
        Folder to which the file names are relative.
    classes
        Names of the classes, by label.
    resize
        Shorter side before the center crop of evaluation, in pixels.
    described
        Fields that replace those of the source's `DatasetInfo`.
    """

    folder: Path
    classes: tuple[str, ...]
    train: FileList
    test: FileList
    resize: int
    described: dict[str, Any]

    def hold_out(self, fraction: float) -> HeldOut:
        """Hold out a fraction of the training images, stratified by class."""
        return stratified(self.train.labels, fraction, self.classes)

    def arrays(
        self, kept: NDArray[np.int64], held_out: NDArray[np.int64]
    ) -> dict[str, NDArray[Any]]:
        """Return the stored arrays by key: training, validation and test split."""
        parts = {"train": self.train.at(kept), "val": self.train.at(held_out), "test": self.test}
        return {
            f"{split}_{kind}": array
            for split, files in parts.items()
            for kind, array in (
                ("files", files.names),
                ("bytes", files.sizes),
                ("labels", files.labels),
            )
        }

    def metadata(self) -> dict[str, Any]:
        """Return the stored metadata beside the arrays."""
        return {
            "folder": str(self.folder.resolve()),
            "classes": list(self.classes),
            "resize": self.resize,
            "described": self.described,
        }
