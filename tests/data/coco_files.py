"""Small folders of COCO's format, for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Boxes = list[tuple[int, list[float]]]  # category id and x, y, width, height
# Width and height of an image, and its boxes.
Content = list[tuple[tuple[int, int], Boxes]]


def coco_content(images: Content, categories: dict[int, str]) -> dict[str, Any]:
    """Return the content of an annotation file; ids begin at 1."""
    boxes = [(k, *box) for k, (_, own) in enumerate(images, 1) for box in own]
    return {
        "images": [
            {"id": k, "file_name": f"{k}.png", "width": w, "height": h}
            for k, ((w, h), _) in enumerate(images, 1)
        ],
        "categories": [{"id": key, "name": name} for key, name in categories.items()],
        "annotations": [
            {"id": k, "image_id": image, "category_id": category, "bbox": bbox, "iscrowd": 0}
            | {"area": bbox[2] * bbox[3]}
            for k, (image, category, bbox) in enumerate(boxes, 1)
        ],
    }


def pixels(width: int, height: int, number: int) -> np.ndarray:
    """Return an image (h, w, 3): red counts columns, green rows, blue is the image's number."""
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    image[..., 2] = number
    return image


def write_coco(
    root: Path, splits: dict[str, Content], categories: dict[int, str] | None = None
) -> Path:
    """Write a folder of COCO's format; the images of a split lie in a folder of its name."""
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for split, images in splits.items():
        (root / split).mkdir()
        for k, ((w, h), _) in enumerate(images, 1):
            Image.fromarray(pixels(w, h, k)).save(root / split / f"{k}.png")
        write_content(root, split, coco_content(images, categories or {3: "cat", 7: "dog"}))
    return root


def write_content(root: Path, split: str, content: Any) -> Path:
    """Write one annotation file."""
    path = root / "annotations" / f"instances_{split}.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path
