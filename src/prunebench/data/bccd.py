"""BCCD: 364 photographs of blood cells with 4888 boxes: red and white cells, and platelets.

Shenggan, BCCD Dataset, github.com/Shenggan/BCCD_Dataset, MIT license. The data folder may hold any
of these, as a folder or a zip file called `bccd`, `BCCD`, `BCCD_Dataset` or `BCCD_Dataset-master`:

- the original repository or its folder `BCCD`, with annotations of Pascal VOC's format;
- the same in COCO's format: `images/` and `annotations/instances_{train,val,test}.json`.

Both become the same tensors: the images of a split are sorted by their digest, SHA-256 over the
bytes of the JPEG file and the numbers of the boxes, and each split must have the fingerprint of the
original, SHA-256 over the sorted digests. The pixels themselves may differ by a shade with the
version of the JPEG decoder.
"""

from __future__ import annotations

import hashlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunebench.core.errors import DataError, in_one_line
from prunebench.data import normalization
from prunebench.data.coco import (
    Annotations,
    BoxedDescription,
    parse,
    read_json,
    splits_of,
    with_paths,
)
from prunebench.data.info import DatasetInfo
from prunebench.data.voc import convert

if TYPE_CHECKING:
    from prunebench.data.boxed_source import BoxedFile, BoxedSplits

CLASSES = ("RBC", "WBC", "Platelets")
NAMES = ("bccd", "BCCD", "BCCD_Dataset", "BCCD_Dataset-master")
RESIZE = (320, 240)  # half of the originals
SIZE = (480, 640)  # height and width of all images; some XML files have 0
SPLITS = ("train", "val", "test")
COCO_FILE, VOC_FILE = "annotations/instances_train.json", "ImageSets/Main/train.txt"
# Number of images and fingerprint of the original splits.
ORIGINALS = {
    "train": (205, "d561795379dc8893d5c466e7ac3b971215ad082ee335fa5856e0328ea75a1a8e"),
    "val": (87, "35710153d98de2916fd4dd7994849409fcff7d4ada84df24535a66657324b70b"),
    "test": (72, "4d8e68dda8bdbaadd2d37fcbadc2be3d1f3831d8f86b18c02d3f0061d4bef0ec"),
}


def read(data_dir: Path) -> BoxedSplits:
    """Read the first copy in `data_dir`; raise DataError unless it is the original."""
    place = find_copy(data_dir)
    with unpacked_folder(place) as folder:
        parts = {split: read_split(folder, split, place) for split in SPLITS}
        own = normalization.BCCD
        description = BoxedDescription(resize=RESIZE, mean=own.mean, std=own.std)
        return splits_of(parts, folder, description, str(place))


def find_copy(data_dir: Path) -> Path:
    """Return the first folder or zip file in `data_dir` that may hold the data set."""
    places = [data_dir / f"{name}{ending}" for name in NAMES for ending in ("", ".zip")]
    for place in places:
        if place.exists():
            return place
    raise DataError(
        f"BCCD is in none of {', '.join(map(str, places))}; put a copy of "
        "github.com/Shenggan/BCCD_Dataset there"
    )


@contextmanager
def unpacked_folder(place: Path) -> Iterator[Path]:
    """Yield the folder itself, or a temporary one with the content of the zip file."""
    if place.is_dir():
        yield place
        return
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(place) as file:
                file.extractall(folder)
        except zipfile.BadZipFile as error:
            raise DataError(f"{place}: not a valid zip file ({error})") from None
        except (OSError, EOFError, RuntimeError, zlib.error) as error:  # also if it is encrypted
            raise DataError(f"{place}: cannot be unpacked ({in_one_line(error)})") from None
        yield Path(folder)


def read_split(folder: Path, split: str, place: Path) -> Annotations:
    """Read a split from a folder of either format; `place` is the copy that errors name."""
    root, content = find_content(folder, split, place)
    images = root / ("JPEGImages" if (root / VOC_FILE).is_file() else "images")
    where = f"{place}: {split}"
    found = with_paths(parse(content, where), [images], where)
    digests = image_digests(found, content)
    check_fingerprint(where, split, digests)
    order = sorted(range(len(digests)), key=digests.__getitem__)
    return replace(found, images=tuple(_sorted_boxes(found.images[k]) for k in order))


def find_content(folder: Path, split: str, place: Path) -> tuple[Path, Any]:
    """Return the folder of the format's files and the content of a split in COCO's format."""
    roots = [folder, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))]
    for root in roots:
        if (root / COCO_FILE).is_file():
            return root, read_json(root / "annotations" / f"instances_{split}.json")
        if (root / VOC_FILE).is_file():
            return root, convert(root, split, CLASSES, SIZE)
    raise DataError(f"{place}: holds neither {COCO_FILE} nor {VOC_FILE}")


def image_digests(found: Annotations, content: Any) -> list[bytes]:
    """Return SHA-256(SHA-256 of the file + its boxes' lines, sorted) of each image.

    A line is the name of the category and x, y, width and height as they stand in the file, also of
    a box that is skipped later.
    """
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    lines: dict[int, list[str]] = {entry["id"]: [] for entry in content["images"]}
    for entry in content["annotations"]:
        numbers = " ".join(str(float(number)) for number in entry["bbox"])
        lines[entry["image_id"]].append(f"{names[entry['category_id']]} {numbers}\n")
    return [
        hashlib.sha256(
            hashlib.sha256(image.path.read_bytes()).digest() + "".join(sorted(own)).encode()
        ).digest()
        for image, own in zip(found.images, lines.values(), strict=True)
    ]


def fingerprint(digests: list[bytes]) -> str:
    """Return the order-free fingerprint of a split: SHA-256 over the sorted digests."""
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def check_fingerprint(where: str, split: str, digests: list[bytes]) -> None:
    """Raise DataError unless the images and boxes of a split are exactly the original ones."""
    count, expected = ORIGINALS[split]
    found = fingerprint(digests)
    if found != expected:
        raise DataError(
            f"{where}: found {len(digests)} of {count} images with the fingerprint {found[:8]}…, "
            f"expected {expected[:8]}…: these are not BCCD's files and boxes; the data set "
            "coco_<name> reads any folder in COCO's format"
        )


def _sorted_boxes(image: BoxedFile) -> BoxedFile:
    """Return an image with its boxes in an order that does not depend on the copy."""
    return replace(image, boxes=tuple(sorted(image.boxes, key=lambda b: (b.label, b.corners))))


BCCD = DatasetInfo(
    name="bccd",
    title="BCCD blood cells",
    num_classes=len(CLASSES),
    classes=CLASSES,
    shape=(3, 256, 320),
    mean=normalization.BCCD.mean,
    std=normalization.BCCD.std,
    validation=0.2,
    places=tuple(f"{name}{ending}" for name in NAMES for ending in ("", ".zip")),
    source="Shenggan's BCCD data set, in any copy with its fingerprint, at half the size",
    split="its own 72 test images",
    read=read,
    resize=RESIZE,
    task="detection",
)
