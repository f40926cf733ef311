"""Exact counts of correct predictions on labeled images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunebench.core.errors import ModelError
from prunebench.data.augment import normalize
from prunebench.measure.precision import Precision, arithmetic, evaluating
from prunebench.models.base import not_finite


@dataclass(frozen=True)
class Correct:
    """Numbers of correct predictions and of all predictions."""

    correct: int
    total: int

    @property
    def percent(self) -> float:
        """Return the percentage of correct predictions."""
        return 100.0 * self.correct / self.total


def evaluate(
    model: nn.Module,
    images_uint8: Tensor,
    labels: Tensor,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    batch_size: int = 512,
    precision: Precision = "fp32",
) -> Correct:
    """Count the images whose label has the highest logit.

    `images_uint8` (N, C, h, w) and `labels` (N,) may lie on another device than the model; `mean`
    and `std` are per channel, of images scaled to [0, 1]. Each module keeps its mode. The CPU
    synchronizes with the device once, at the end.
    """
    if len(images_uint8) != len(labels) or not len(labels):
        raise ValueError(f"{len(images_uint8)} images and {len(labels)} labels to evaluate on")
    device = next(model.parameters()).device

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(labels), batch_size):
            images = images_uint8[start : start + batch_size].to(device, non_blocking=True)
            truth = labels[start : start + batch_size].to(device, non_blocking=True)
            yield normalize(images, mean, std).contiguous(memory_format=torch.channels_last), truth

    return count_correct(model, batches(), precision=precision)


def count_correct(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    precision: Precision = "fp32",
) -> Correct:
    """Count the inputs (n, C, h, w), in batches, whose label (n,) has the highest logit.

    Batches lie on the model's device. Without batches the result is 0 of 0. Raises ModelError for
    a network with a parameter or buffer that is not finite, whose predictions mean nothing.
    """
    if (name := not_finite(model.state_dict())) is not None:
        raise ModelError(f"the network's {name!r} holds a value that is not finite")
    device = next(model.parameters()).device
    correct, total = torch.zeros((), dtype=torch.int64, device=device), 0
    with evaluating(model), torch.inference_mode(), arithmetic(device, precision):
        for inputs, labels in batches:
            logits = model(inputs)
            correct += (logits.argmax(dim=1) == labels).sum()
            total += len(labels)
    return Correct(correct=int(correct), total=total)
