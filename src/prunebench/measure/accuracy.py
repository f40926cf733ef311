"""Exact counts of right answers on a labelled set of images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunebench.data.augment import normalize
from prunebench.measure.modes import Precision, arithmetic, evaluating


@dataclass(frozen=True)
class Correct:
    """Right answers among all; a percentage is made of them last."""

    correct: int
    total: int

    @property
    def percent(self) -> float:
        """Return the share of right answers in percent."""
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
    """Count the images whose highest logit is that of their label.

    `images_uint8` (N, C, h, w) and `labels` (N,) may lie on another device than the model; `mean`
    and `std` are per channel, of images scaled to [0, 1]. Each module keeps its mode. The host
    reads the device once, at the end.
    """
    if len(images_uint8) != len(labels) or not len(labels):
        raise ValueError(f"{len(images_uint8)} images and {len(labels)} labels to evaluate on")
    device = next(model.parameters()).device
    correct = torch.zeros((), dtype=torch.int64, device=device)
    with evaluating(model), torch.inference_mode(), arithmetic(device, precision):
        for start in range(0, len(labels), batch_size):
            images = images_uint8[start : start + batch_size].to(device, non_blocking=True)
            truth = labels[start : start + batch_size].to(device, non_blocking=True)
            inputs = normalize(images, mean, std).contiguous(memory_format=torch.channels_last)
            logits = model(inputs)
            correct += (logits.argmax(dim=1) == truth).sum()
    return Correct(correct=int(correct), total=len(labels))
