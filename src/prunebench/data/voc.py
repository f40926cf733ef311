"""Convert annotations of Pascal VOC's format, one XML file per image, to those of COCO's format.

Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010. A folder has the lists of
its splits in `ImageSets/Main/<split>.txt`, `Annotations/<image>.xml` and `JPEGImages/<image>.jpg`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prunebench.core.errors import DataError, cannot, shown
from prunebench.data.named_files import path_below, read_names

CORNERS = ("xmin", "ymin", "xmax", "ymax")


def convert(
    root: Path, split: str, classes: Sequence[str], missing_size: tuple[int, int]
) -> dict[str, Any]:
    """Return the content of a COCO file for one split of a folder.

    Images and boxes have the order of the list and of the files, ids begin at 1, and categories
    have the order of `classes`. A box is [xmin, ymin, xmax - xmin, ymax - ymin]. An image whose
    width or height is given as 0 has `missing_size`, a height and width. Raises DataError that
    names a missing or wrong file, or a value in it.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    listed = root / "ImageSets" / "Main" / f"{split}.txt"
    names = [name for line in read_names(listed) for name in line.split()]
    for number, name in enumerate(names, 1):
        path_below(name, str(listed))
        path = root / "Annotations" / f"{name}.xml"
        tree = _parsed(path)
        h, w = (_number(tree, f"size/{side}", path) for side in ("height", "width"))
        if not (h and w):
            h, w = missing_size
        images.append({"id": number, "file_name": f"{name}.jpg", "width": w, "height": h})
        for entry in tree.findall("object"):
            category = entry.findtext("name")
            if category not in classes:
                allowed = ", ".join(classes)
                raise DataError(f"{path}: name is {shown(category)}, expected one of {allowed}")
            x1, y1, x2, y2 = (_number(entry, f"bndbox/{side}", path) for side in CORNERS)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": classes.index(category) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    return {
        "images": images,
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes, 1)],
        "annotations": annotations,
    }


def _parsed(path: Path) -> ET.Element:
    try:
        return ET.fromstring(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {cannot('be read', error)}") from None
    except ET.ParseError as error:
        raise DataError(f"{path}: not an XML file ({error})") from None


def _number(entry: ET.Element, key: str, path: Path) -> int:
    text = entry.findtext(key)
    try:
        return int(text or "")
    except ValueError:
        raise DataError(f"{path}: {key} is {shown(text)}, expected a whole number") from None
