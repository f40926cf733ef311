"""Decode image files: one image, or small ones at once, as one array."""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prunebench.core.errors import DataError, in_one_line
from prunebench.data.conversion_progress import counted


def open_rgb(path: Path, content: bytes, size: tuple[int, int] | None = None) -> Image.Image:
    """Decode the content of an image file in RGB; `size` is its expected height and width.

    Raises DataError that names a damaged image or one of another size.
    """
    try:
        image = Image.open(io.BytesIO(content)).convert("RGB")
    except Exception as error:  # a damaged image may raise anything
        problem = in_one_line(error)
        raise DataError(f"{path}: cannot be decoded as an image ({problem})") from None
    if size is not None and (image.height, image.width) != size:
        raise DataError(
            f"{path}: has {image.width}x{image.height} pixels, but its annotations say "
            f"{size[1]}x{size[0]}"
        )
    return image


def scale_image(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Scale an image to a height and width, bilinear and smoothed when it becomes smaller."""
    if (image.height, image.width) == size:
        return image
    return image.resize((size[1], size[0]), Image.Resampling.BILINEAR)


def common_size(paths: Collection[Path]) -> tuple[int, int] | None:
    """Return the height and width that all images have, or None if two of them differ.

    Only the beginnings of the files are read, up to the first image of another size.
    """
    found = None
    for path in counted(paths, "compare"):
        try:
            with Image.open(path) as file:
                size = file.height, file.width
        except Exception as error:
            raise DataError(f"{path}: cannot be read ({in_one_line(error)})") from None
        if found not in (None, size):
            return None
        found = size
    return found


def decode(paths: Sequence[Path], side: int) -> NDArray[np.uint8]:
    """Decode square images, some of them grayscale, as uint8 (N, 3, side, side)."""
    images = np.empty((len(paths), 3, side, side), dtype=np.uint8)
    for place, path in enumerate(counted(paths, "read")):
        try:
            with Image.open(path) as file:
                pixels = np.asarray(file.convert("RGB"))
        except Exception as error:
            raise DataError(f"{path}: cannot be read ({in_one_line(error)})") from None
        h, w = pixels.shape[:2]
        if (h, w) != (side, side):
            raise DataError(f"{path}: has {h}x{w} pixels, expected {side}x{side}")
        images[place] = pixels.transpose(2, 0, 1)
    return images
