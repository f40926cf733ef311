"""COCO's average precision of detections, computed by pycocotools.

AP is the mean over ten IoU thresholds from 0.5 to 0.95 and over all classes that have boxes, with
at most 100 detections in an image; AP50 and AP75 belong to one threshold each, the others to boxes
of one size: small below 32², large above 96² pixels of the original image.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from prunebench.data.boxes import BoxedImages

# COCOeval's first statistics, by the names of their columns; the first one is AP itself.
FIGURES = ("map", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")


@dataclass(frozen=True)
class AveragePrecision:
    """Average precisions as fractions.

    Attributes
    ----------
    ap
        COCO's AP.
    figures
        The others by column, in percent; without those for which there is no box.
    by_class
        AP of each class in percent; None for a class without a box.
    """

    ap: float
    figures: Mapping[str, float]
    by_class: Mapping[str, float | None]


def average_precision(
    split: BoxedImages, detections: Tensor, classes: Sequence[str]
) -> AveragePrecision:
    """Compare detections with the boxes of a split.

    Parameters
    ----------
    detections
        (k, 7): place of the image in the split, x1, y1, x2, y2 in pixels of the original image,
        score, label.
    classes
        Names of the classes by label.

    Raises
    ------
    ValueError
        If the split has no box.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO()
    truth.dataset = ground_truth(split, len(classes))
    if not truth.dataset["annotations"]:
        raise ValueError("a split without a box has no average precision")
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports on standard output
        truth.createIndex()
        found = COCO()
        found.dataset = {**truth.dataset, "annotations": as_results(detections)}
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    # -1 stands for no box
    figures = dict(zip(FIGURES, (float(value) for value in evaluation.stats), strict=False))
    precision: NDArray[np.float64] = evaluation.eval["precision"]  # (IoU, recall, class, area, n)
    by_class = {name: _mean(precision[:, :, label, 0, -1]) for label, name in enumerate(classes)}
    ap = figures.pop("map")
    return AveragePrecision(
        ap=ap,
        figures={name: 100 * value for name, value in figures.items() if value >= 0},
        by_class=by_class,
    )


def _mean(precision: NDArray[np.float64]) -> float | None:
    """Return a class's AP in percent; None without a box."""
    known = precision[precision > -1]
    return 100 * float(known.mean()) if known.size else None


def ground_truth(split: BoxedImages, classes: int) -> dict[str, list[dict[str, object]]]:
    """Return the boxes of a split in COCO's format; an image's id is its place in the split."""
    boxes, labels = split.boxes.cpu().numpy(), split.labels.cpu().numpy()
    areas, crowd = split.areas.cpu().numpy(), split.crowd.cpu().numpy()
    annotations: list[dict[str, object]] = [
        {
            "id": number,
            "image_id": int(image),
            "category_id": int(labels[image, row]),
            "bbox": _corner_and_size(boxes[image, row]),
            "area": float(areas[image, row]),
            "iscrowd": int(crowd[image, row]),
        }
        for number, (image, row) in enumerate(zip(*np.nonzero(labels >= 0), strict=True), start=1)
    ]
    return {
        "images": [{"id": image} for image in range(len(split))],
        "categories": [{"id": label} for label in range(classes)],
        "annotations": annotations,
    }


def as_results(detections: Tensor) -> list[dict[str, object]]:
    """Return detections (k, 7) in COCO's format."""
    return [
        {
            "id": number,
            "image_id": int(image),
            "category_id": int(label),
            "bbox": _corner_and_size(corners),
            "area": float((corners[2] - corners[0]) * (corners[3] - corners[1])),
            "score": score,
            "iscrowd": 0,
        }
        for number, (image, *corners, score, label) in enumerate(
            detections.double().cpu().tolist(), start=1
        )
    ]


def _corner_and_size(corners: Sequence[float] | NDArray[np.float64]) -> list[float]:
    x1, y1, x2, y2 = (float(value) for value in corners)
    return [x1, y1, x2 - x1, y2 - y1]
