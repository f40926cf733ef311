"""What detectors find in a few images, stored so that a figure can show it without a network.

The images are four of the validation split (of the test split without one), evenly spaced among
those with neither few nor very many boxes. They are stored once, with the base network, as small
pictures.
"""

from __future__ import annotations

import base64
import io
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from prunebench.core.errors import DataError
from prunebench.data.boxes import BoxedImages, detection_batches
from prunebench.data.dataset import load
from prunebench.experiments.results import DetectionsResult, FoundBox, PicturesResult, TrueBox
from prunebench.experiments.spec import BaseSpec, RunSpec, data_path
from prunebench.measure.earlier import earlier, weights_hash
from prunebench.models.detection.detector import Detector
from prunebench.network import load_network, read_structure

IMAGES = 4
LONGEST = 320  # pixels of a picture's longer side, at most
QUALITY = 90  # of JPEG


def measure_detections(spec: RunSpec, results: Path) -> str:
    """Write detections.json of a run and of its base, and the base's pictures.json.

    Returns a line for people. Without the images nothing is written, since costs need none.
    """
    try:
        images, classes = examples(
            data_path(results, spec.dataset), joined=spec.trained_on == "train_and_val"
        )
        base = _detect(spec.base, results, images)
        weights = weights_hash(results / spec.base.path)
        if not earlier(PicturesResult, results / spec.base.path, spec.base.hash, weights):
            pictures(images, classes, base).write(results / spec.base.path)
        run = _detect(spec, results, images)
    except DataError as error:
        return f"no images to show ({error})"
    return f"{sum(map(len, run.found))} boxes in {len(images)} images"


@lru_cache(maxsize=2)
def examples(path: Path, *, joined: bool) -> tuple[BoxedImages, tuple[str, ...]]:
    """Return the images to show and the names of the classes.

    `joined`: the networks were trained on the validation images, too; the test split is shown.
    """
    dataset = load(path)
    split = dataset.test if joined or not len(dataset.val) else dataset.val
    assert isinstance(split, BoxedImages)
    counts = ((split.labels >= 0) & ~split.crowd).sum(1)
    return split.at(spaced(typical(counts))), tuple(dataset.info.classes)


def typical(counts: Tensor) -> Tensor:
    """Return the images with boxes that have the median number of them, or up to twice as many.

    All images with boxes are returned if these are fewer than `IMAGES`.

    >>> typical(torch.tensor([0, 1, 2, 2, 4, 3, 60])).tolist()
    [2, 3, 4, 5]
    """
    median = int(counts[counts > 0].median())
    chosen = (counts >= median) & (counts <= 2 * median)
    return (chosen if chosen.sum() >= IMAGES else counts > 0).nonzero()[:, 0]


def spaced(places: Tensor) -> Tensor:
    """Return `IMAGES` evenly spaced ones of some places, or all if there are fewer.

    >>> spaced(torch.arange(7)).tolist(), spaced(torch.tensor([5])).tolist()
    ([0, 2, 4, 6], [5])
    """
    count = min(IMAGES, len(places))
    return places[torch.linspace(0, len(places) - 1, count).round().long()]


def _detect(spec: BaseSpec | RunSpec, results: Path, images: BoxedImages) -> DetectionsResult:
    """Return the stored detections of a network, or detect and store them."""
    folder = results / spec.path
    weights = weights_hash(folder)
    if stored := earlier(DetectionsResult, folder, spec.hash, weights):
        return stored
    model, own = load_network(folder), read_structure(folder).normalization
    assert isinstance(model, Detector)
    assert own is not None
    found: dict[int, tuple[FoundBox, ...]] = {}
    with torch.inference_mode():
        # One by one: padding to the largest image of a batch would change what is found.
        for inputs, place, valid, _ in detection_batches(
            images, mean=own.mean, std=own.std, batch_size=1
        ):
            (boxes,) = model.detect(inputs, valid)
            found[int(place)] = _boxes_of(boxes, shrinking(valid[0]))
    every = tuple(found[place] for place in range(len(images)))
    detections = DetectionsResult(found=every, spec_hash=spec.hash, weights_sha256=weights)
    detections.write(folder)
    return detections


def _boxes_of(boxes: dict[str, Tensor], scale: float) -> tuple[FoundBox, ...]:
    return tuple(
        FoundBox(label, round(score, 3), *(round(scale * x, 1) for x in corners))
        for label, score, corners in zip(
            boxes["labels"].tolist(),
            boxes["scores"].tolist(),
            boxes["boxes"].tolist(),
            strict=True,
        )
        if score >= DetectionsResult.FEWEST
    )


def shrinking(valid: Tensor) -> float:
    """Return the picture's pixels per pixel of an input of this height and width (2,).

    >>> shrinking(torch.tensor([128, 128])), shrinking(torch.tensor([800, 1280]))
    (1.0, 0.25)
    """
    return min(1.0, LONGEST / int(valid.max()))


def pictures(
    images: BoxedImages, classes: tuple[str, ...], base: DetectionsResult
) -> PicturesResult:
    """Return the pictures of some images, and their true boxes."""
    jpeg: dict[int, str] = {}
    truth: dict[int, tuple[TrueBox, ...]] = {}
    plain = (0.0,) * 3, (1.0,) * 3
    for inputs, place, valid, _ in detection_batches(
        images, mean=plain[0], std=plain[1], batch_size=1
    ):
        h, w = valid[0].tolist()
        scale = shrinking(valid[0])
        jpeg[int(place)] = as_jpeg(inputs[0, :, :h, :w], scale)
        rows = images.targets(place)[0]
        truth[int(place)] = tuple(
            TrueBox(int(label), *(round(scale * x, 1) for x in corners))
            for label, *corners in rows[rows[:, 0] >= 0].tolist()
        )
    places = range(len(images))
    return PicturesResult(
        jpeg=tuple(jpeg[place] for place in places),
        truth=tuple(truth[place] for place in places),
        classes=classes,
        spec_hash=base.spec_hash,
        weights_sha256=base.weights_sha256,
    )


def as_jpeg(image: Tensor, scale: float) -> str:
    """Return an image (3, h, w) with values from 0 to 1, scaled, as a JPEG file in Base64."""
    from PIL import Image

    pixels = (255 * image).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    picture = Image.fromarray(pixels)
    if scale < 1:
        size = round(scale * picture.width), round(scale * picture.height)
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return base64.b64encode(file.getvalue()).decode("ascii")
