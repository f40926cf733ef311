"""Detection as a task: the network's own loss, and COCO's average precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from prunebench.core.errors import ModelError
from prunebench.criteria.base import Needs
from prunebench.data.boxes import (
    BoxedBatches,
    BoxedImages,
    detection_batches,
    draw_detection_epoch,
    sampled_boxes,
)
from prunebench.data.info import DatasetInfo
from prunebench.data.normalization import Normalization
from prunebench.experiments.metric import METRICS
from prunebench.experiments.recipe import Augment
from prunebench.experiments.results import TrainingResult
from prunebench.measure.average_precision import FIGURES, average_precision
from prunebench.measure.precision import arithmetic, evaluating
from prunebench.models.base import not_finite
from prunebench.models.detection.detector import Detector
from prunebench.training.batches import Batching
from prunebench.training.processes import Alone
from prunebench.training.task import Evaluation, Reading, Report, reported, silent


class Detection:
    """Images with any number of boxes."""

    metric = METRICS["detection"]
    is_captured = False  # the number of boxes decides shapes
    counts_correct = False

    def __init__(self, info: DatasetInfo) -> None:
        self.info = info

    def batches(
        self, split: BoxedImages, augment: Augment, reading: Reading, batching: Batching
    ) -> BoxedBatches:
        """Draw the order and the flips of an epoch."""
        return draw_detection_epoch(split, augment, batching=batching, **reading.arguments)

    def samples(
        self, split: BoxedImages, needs: Needs, augment: Augment, reading: Reading
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield inputs and boxes at random."""
        return sampled_boxes(split, needs, augment, **reading.arguments)

    def loss(
        self, forward: Callable[..., Any], inputs: Tensor, targets: Tensor, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor | None]:
        """Return the detector's loss; label smoothing does not apply to it."""
        return forward(inputs, targets), None

    def rehearsal(self, forward: Callable[..., Any], inputs: Tensor) -> Tensor:
        """Return the loss of images that hold one box each."""
        h, w = inputs.shape[2:]
        box = inputs.new_tensor([[[0.0, 0.25 * w, 0.25 * h, 0.75 * w, 0.75 * h]]])
        loss: Tensor = forward(inputs, box.expand(len(inputs), 1, 5))
        return loss

    def evaluate(
        self,
        model: nn.Module,
        split: BoxedImages,
        own: Normalization,
        parallel: Alone,
        report: Report = silent,
    ) -> Evaluation:
        """Detect boxes in all images of a split and compare them with the true ones.

        Raises ModelError for a network with a parameter or buffer that is not finite.
        """
        if (name := not_finite(model.state_dict())) is not None:
            raise ModelError(f"the network's {name!r} holds a value that is not finite")
        assert isinstance(model, Detector)
        parallel.spread_buffers(model)
        device = next(model.parameters()).device
        rows = []
        with evaluating(model), torch.inference_mode(), arithmetic(device, "fp32"):
            batches = detection_batches(
                split, mean=own.mean, std=own.std, rank=parallel.rank, world=parallel.world
            )
            for inputs, places, sizes, scales in reported(batches, report, parallel.world):
                for found, place, scale in zip(
                    model.detect(inputs, sizes), places, scales, strict=True
                ):
                    rows.append(_rows(found, place, scale))
        everything = _gathered(torch.cat(rows), parallel)
        measured = average_precision(split, everything, self.info.classes)
        return Evaluation(
            fraction=measured.ap,
            percent=100 * measured.ap,
            words=" · ".join(
                f"{label} {measured.figures[name]:.2f}"
                for name, label in self.metric.parts.items()
                if name in measured.figures
            ),
            figures=measured.figures,
            by_class=measured.by_class,
        )

    def known(
        self, split: BoxedImages, percent: float, stored: TrainingResult | None
    ) -> Evaluation:
        """Return the evaluation of a network whose AP is known."""
        figures = {} if stored is None else stored.summary
        return Evaluation(
            fraction=percent / 100,
            percent=percent,
            figures={name: figures[name] for name in FIGURES if name in figures},
            by_class={} if stored is None else stored.by_class or {},
        )


def _rows(found: dict[str, Tensor], place: Tensor, scale: Tensor) -> Tensor:
    """Return the detections in an image as rows (k, 7), with boxes in original pixels."""
    boxes = found["boxes"].double() / scale[[1, 0, 1, 0]]
    image = place.expand(len(boxes), 1)
    columns = (image, boxes, found["scores"][:, None], found["labels"][:, None])
    return torch.cat([column.double() for column in columns], dim=1)


def _gathered(rows: Tensor, parallel: Alone) -> Tensor:
    """Return the rows (k, 7) of all processes."""
    counts = parallel.gathered(torch.tensor(len(rows), device=rows.device)).tolist()
    padded = rows.new_zeros(max(counts), rows.shape[1])
    padded[: len(rows)] = rows
    parts = parallel.gathered(padded)
    return torch.cat([part[:n] for part, n in zip(parts, counts, strict=True)])
