"""Read small images from their files at once, as one array."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from prunebench.core.errors import DataError


def common_size(paths: Iterable[Path]) -> tuple[int, int] | None:
    """Return the height and width that all images have, or None if two of them differ.

    Only the beginnings of the files are read, up to the first image of another size.
    """
    found = None
    for path in paths:
        try:
            with Image.open(path) as file:
                size = file.height, file.width
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error})") from None
        if found not in (None, size):
            return None
        found = size
    return found


def decode(paths: Sequence[Path], side: int) -> NDArray[np.uint8]:
    """Decode square images, some of them grayscale, as uint8 (N, 3, side, side)."""
    images = np.empty((len(paths), 3, side, side), dtype=np.uint8)
    for place, path in enumerate(paths):
        try:
            with Image.open(path) as file:
                pixels = np.asarray(file.convert("RGB"))
        except (OSError, SyntaxError) as error:
            raise DataError(f"{path}: cannot be read ({error})") from None
        h, w = pixels.shape[:2]
        if (h, w) != (side, side):
            raise DataError(f"{path}: has {h}x{w} pixels, expected {side}x{side}")
        images[place] = pixels.transpose(2, 0, 1)
    return images
