"""Scenes of handwritten digits: a data set for detection that needs no download.

Each image of 128x128 pixels shows one to five of scikit-learn's digits (see `digits`), 3 to 7 times
as large, tinted, on a dark background with lines, blobs and small pieces of digits. The box is the
tight box of a digit's ink. Digits overlap little: less than a tenth of the smaller box.

The scenes are written as an ordinary folder of COCO's format, with PNG files, and read like any
other. No digit is in two splits: test images show the digits that `digits` holds out for testing,
validation images those that it holds out for validation.

All numbers are integers drawn from the raw output of NumPy's PCG64, and digits are enlarged in
integers: the images are the same on every machine and in every version of the libraries.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prunebench.data import normalization
from prunebench.data.digits import DIGITS
from prunebench.data.digits import read as read_digits
from prunebench.data.info import DatasetInfo, RawSplits
from prunebench.data.split import stratified_split

if TYPE_CHECKING:
    from prunebench.data.boxed_source import BoxedSplits

SEED = 0
SIDE = 128  # pixels
SPLITS = ("train", "val", "test")
IMAGES = (1200, 150, 300)  # of the splits
MOST_DIGITS = 5
SMALLEST, LARGEST = 24, 56  # pixels: 3 and 7 times the 8 pixels of a digit
INK = 96  # of 255: a pixel of at least this opacity belongs to the box
OVERLAP = 10  # a digit may cover 1 / OVERLAP of the smaller of two boxes
TRIES = 40  # to place a digit; then the image has one digit less
DIGIT_SIDE, DIGIT_MOST = 8, 240  # pixels and the largest value of scikit-learn's digits times 15

# A box in whole pixels: x1, y1, x2, y2.
PixelBox = tuple[int, int, int, int]
Pixels = NDArray[np.int64]


class Draws:
    """Integers from the raw 64-bit output of PCG64, whose stream NumPy never changes."""

    def __init__(self, *seed: int) -> None:
        self.bits = np.random.PCG64(np.random.SeedSequence(seed))

    def between(self, low: int, high: int) -> int:
        """Draw an integer of low, ..., high; the bias of the remainder is negligible."""
        return low + int(self.bits.random_raw()) % (high - low + 1)

    def noise(self, shape: tuple[int, ...], most: int) -> Pixels:
        """Draw an array of integers of 0, ..., most."""
        raw = self.bits.random_raw(int(np.prod(shape)))
        return (np.asarray(raw) % np.uint64(most + 1)).astype(np.int64).reshape(shape)


@dataclass(frozen=True)
class Scene:
    """An image (128, 128, 3) and the labels and boxes of its digits."""

    pixels: NDArray[np.uint8]
    labels: tuple[int, ...]
    boxes: tuple[PixelBox, ...]


def enlarge(image: Pixels, side: int) -> Pixels:
    """Enlarge a square image bilinearly, in integers.

    The centers of pixels lie at (i + 1/2) * old / side, as without aligned corners in PyTorch;
    values are rounded down, and the border continues outwards.

    >>> enlarge(np.array([[0, 8], [8, 16]]), 4)[0].tolist()
    [0, 2, 6, 8]
    """
    old = len(image)
    # Positions in units of 1 / (2 * side) of an old pixel, clipped to its centers.
    place: Pixels = np.clip((2 * np.arange(side) + 1) * old - side, 0, 2 * side * (old - 1))
    first, part = place // (2 * side), place % (2 * side)
    after = np.minimum(first + 1, old - 1)
    rows = image[first] * (2 * side - part)[:, None] + image[after] * part[:, None]
    both = rows[:, first] * (2 * side - part) + rows[:, after] * part
    enlarged: Pixels = np.floor_divide(both, 4 * side * side)
    return enlarged


def ink_box(opacity: Pixels) -> PixelBox:
    """Return the tight box of the ink in an image.

    >>> ink_box(np.array([[0, 0, 0], [0, 200, 255]]))
    (1, 1, 3, 2)
    """
    rows, columns = np.nonzero(opacity >= INK)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


def covers(a: PixelBox, b: PixelBox) -> bool:
    """Return whether two boxes share too much of the smaller one.

    >>> covers((0, 0, 10, 10), (9, 0, 19, 10)), covers((0, 0, 10, 10), (8, 0, 18, 10))
    (False, True)
    """
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    smaller = min((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b))
    return w > 0 and h > 0 and w * h * OVERLAP > smaller


def blend(scene: Pixels, opacity: Pixels, color: Pixels, x: int, y: int) -> None:
    """Paint a color (3,) with an opacity (h, w) of 0 to 255 into a scene, the corner at x, y."""
    h, w = opacity.shape
    part, alpha = scene[y : y + h, x : x + w], opacity[:, :, None]
    part[:] = (part * (255 - alpha) + color * alpha + 127) // 255


def opacity_of(digit: NDArray[np.uint8], side: int) -> Pixels:
    """Return the enlarged ink (side, side) of a digit (8, 8), 0 to 255."""
    return enlarge(digit.astype(np.int64), side) * 255 // DIGIT_MOST


def background(draws: Draws, digits: NDArray[np.uint8]) -> Pixels:
    """Draw a dark scene (128, 128, 3) with a slope of brightness, noise, and clutter."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    slope = rows * draws.between(-24, 24) + columns * draws.between(-24, 24)
    color = _color(draws, 20, 60)
    shades = (slope // SIDE)[:, :, None] + draws.noise((SIDE, SIDE, 1), 12)
    scene: Pixels = np.clip(color + shades, 0, 255)
    for _ in range(draws.between(1, 3)):
        blend(scene, _blob(draws), _color(draws, 60, 130), 0, 0)
    for _ in range(draws.between(1, 3)):
        blend(scene, _line(draws), _color(draws, 70, 160), 0, 0)
    for _ in range(draws.between(0, 3)):
        piece = _piece(draws, digits)
        x, y = (draws.between(0, SIDE - len(piece)) for _ in range(2))
        blend(scene, piece, _color(draws, 90, 200), x, y)
    return scene


def _color(draws: Draws, low: int, high: int) -> Pixels:
    return np.array([draws.between(low, high) for _ in range(3)])


def _blob(draws: Draws) -> Pixels:
    """Draw the opacity (128, 128) of an ellipse that fades towards its border."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    y, x = draws.between(0, SIDE), draws.between(0, SIDE)
    a, b = draws.between(8, 30), draws.between(8, 30)
    inside = a * a * b * b - (rows - y) ** 2 * b * b - (columns - x) ** 2 * a * a
    faded: Pixels = np.clip(inside * 160 // (a * a * b * b), 0, 120)
    return faded


def _line(draws: Draws) -> Pixels:
    """Draw the opacity (128, 128) of a line through the whole image, 1 to 3 pixels thick."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    along, across = draws.between(-10, 10), draws.between(1, 10)
    offset, half = draws.between(0, SIDE), draws.between(5, 15)
    distance = np.abs(along * (columns - SIDE // 2) + across * (rows - offset)) * 10
    length = max(abs(along), across)
    return np.where(distance <= half * length, draws.between(80, 160), 0)


def _piece(draws: Draws, digits: NDArray[np.uint8]) -> Pixels:
    """Draw the opacity of 3x3 pixels of a digit, 9 to 18 pixels large: a corner or a stroke."""
    digit = digits[draws.between(0, len(digits) - 1)]
    y, x = (draws.between(0, DIGIT_SIDE - 3) for _ in range(2))
    piece = np.zeros((5, 5), np.int64)
    piece[1:4, 1:4] = digit[y : y + 3, x : x + 3]
    return enlarge(piece, draws.between(15, 30)) * 160 // DIGIT_MOST


def compose(digits: NDArray[np.uint8], labels: NDArray[np.int64], draws: Draws) -> Scene:
    """Compose one scene of digits (N, 8, 8) with these labels (N,)."""
    scene = background(draws, digits)
    numbers: list[int] = []
    boxes: list[PixelBox] = []
    for _ in range(draws.between(1, MOST_DIGITS)):
        k, side = draws.between(0, len(digits) - 1), draws.between(SMALLEST, LARGEST)
        opacity = opacity_of(digits[k], side)
        x1, y1, x2, y2 = ink_box(opacity)
        color = _color(draws, 150, 255)
        for _ in range(TRIES):
            x, y = draws.between(0, SIDE - side), draws.between(0, SIDE - side)
            box = x + x1, y + y1, x + x2, y + y2
            if not any(covers(box, other) for other in boxes):
                blend(scene, opacity, color, x, y)
                numbers.append(int(labels[k]))
                boxes.append(box)
                break
    return Scene(scene.astype(np.uint8), tuple(numbers), tuple(boxes))


def digit_pools(source: RawSplits) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Return the digits (N, 8, 8) and labels of each split, divided as in the data set `digits`."""
    train, val = stratified_split(source.train_labels, DIGITS.validation)
    images = source.train_images[:, 0]
    return {
        "train": (images[train], source.train_labels[train]),
        "val": (images[val], source.train_labels[val]),
        "test": (source.test_images[:, 0], source.test_labels),
    }


def write(folder: Path, images: tuple[int, int, int] = IMAGES) -> None:
    """Write this many training, validation and test images as a folder of COCO's format."""
    from PIL import Image

    (folder / "annotations").mkdir(parents=True)
    pools = digit_pools(read_digits(folder))
    for number, (split, count) in enumerate(zip(SPLITS, images, strict=True)):
        place = folder / "images" / split
        place.mkdir(parents=True)
        scenes = []
        for k in range(count):
            scene = compose(*pools[split], Draws(SEED, number, k))
            Image.fromarray(scene.pixels).save(place / f"{k:06}.png", compress_level=1)
            scenes.append(scene)
        text = json.dumps(coco_content(scenes))
        (folder / "annotations" / f"instances_{split}.json").write_text(text)


def coco_content(scenes: list[Scene]) -> dict[str, Any]:
    """Return the content of an annotation file; ids begin at 1."""
    boxes = [
        (k, label, box)
        for k, scene in enumerate(scenes)
        for label, box in zip(scene.labels, scene.boxes, strict=True)
    ]
    return {
        "info": {"description": "Scenes of scikit-learn's handwritten digits"},
        "images": [
            {"id": k + 1, "file_name": f"{k:06}.png", "width": SIDE, "height": SIDE}
            for k in range(len(scenes))
        ],
        "categories": [{"id": digit, "name": str(digit)} for digit in range(10)],
        "annotations": [
            {
                "id": number + 1,
                "image_id": k + 1,
                "category_id": label,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            for number, (k, label, (x1, y1, x2, y2)) in enumerate(boxes)
        ],
    }


def read(data_dir: Path) -> BoxedSplits:
    """Write the scenes into a temporary folder and read it; `data_dir` is not used."""
    from prunebench.data.coco import BoxedDescription, read_folder

    own = normalization.DIGITS_COCO
    description = BoxedDescription(mean=own.mean, std=own.std, mirrors=False)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "scenes")
        return read_folder(Path(folder) / "scenes", description)


DIGITS_COCO = DatasetInfo(
    name="digits_coco",
    title="Scenes of handwritten digits",
    num_classes=10,
    shape=(3, SIDE, SIDE),
    mean=normalization.DIGITS_COCO.mean,
    std=normalization.DIGITS_COCO.std,
    validation=0.1,
    source="composed of scikit-learn's handwritten digits from seed 0",
    split="300 images of the digits that the data set digits holds out for testing",
    read=read,
    mirrors=False,
    classes=DIGITS.classes,
    resize=(SIDE, SIDE),
    task="detection",
)
