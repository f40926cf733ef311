"""The interface of all detectors, and the true boxes of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunebench.models.base import LayerLabel
from prunebench.models.resnet import ResNet


@dataclass(frozen=True)
class Truth:
    """The true boxes of N images, padded to M per image; M is at least one.

    Attributes
    ----------
    boxes
        (N, M, 4): x1, y1, x2, y2 in pixels of the input.
    labels
        int64 (N, M): classes from 0.
    real
        bool (N, M): False marks padding.
    """

    boxes: Tensor
    labels: Tensor
    real: Tensor

    def lists(self, first_label: int) -> list[dict[str, Tensor]]:
        """Return the real boxes and labels per image, as torchvision takes them.

        `first_label` is the number of class 0: 1 if torchvision reserves 0 for the background.
        """
        return [
            {"boxes": boxes[real], "labels": labels[real] + first_label}
            for boxes, labels, real in zip(self.boxes, self.labels, self.real, strict=True)
        ]


def truth_of(targets: Tensor, dtype: torch.dtype) -> Truth:
    """Return the true boxes of targets (N, M, 5), rows of (label, x1, y1, x2, y2).

    Rows with label -1 and boxes without area are padding.

    >>> targets = torch.tensor([[[3.0, 0, 0, 8, 8], [3, 5, 5, 5, 9], [-1, 0, 0, 0, 0]]])
    >>> truth_of(targets, torch.float32).real
    tensor([[ True, False, False]])
    """
    if targets.shape[1] == 0:
        targets = F.pad(targets, (0, 0, 0, 1), value=-1)
    labels, boxes = targets[..., 0].long(), targets[..., 1:].to(dtype)
    has_area = (boxes[..., 2:] > boxes[..., :2]).all(-1)
    return Truth(boxes, labels, (labels >= 0) & has_area)


class Detector(nn.Module):
    """A network that finds boxes.

    Attributes
    ----------
    row_images
        While layers run that see a number of rows per image which differs between images, such as
        the sampled regions of a two-stage detector: int64 (rows,), the image of each row.
        Otherwise None: all images have equally many rows, and those of an image are consecutive.
    """

    row_images: Tensor | None = None

    def forward(self, x: Tensor, targets: Tensor | None = None) -> Any:
        """Return the raw outputs of the heads, or with targets the loss.

        Parameters
        ----------
        x
            (N, in_channels, H, W), normalized.
        targets
            (N, M, 5): label, x1, y1, x2, y2 in pixels of the input; rows with label -1 are padding.

        Returns
        -------
        Any
            A nest of tensors whose shapes depend on the shape of x alone, or a scalar.
        """
        if targets is None:
            return self.outputs(x)
        return self.loss(x, truth_of(targets, x.dtype))

    def labels(self) -> dict[str, LayerLabel]:
        """Label the layers of backbone, pyramid and heads, in network order.

        The pyramid is the stage after the backbone's last one, the heads are the next. Detectors of
        torchvision have no labels.
        """
        backbone = getattr(self, "backbone", None)
        if not isinstance(backbone, ResNet):
            return {}
        found = {f"backbone.{name}": label for name, label in backbone.labels().items()}
        last = max(label.stage for label in found.values())
        positions = {last + 1: 0, last + 2: 0}
        for name, module in self.named_modules():
            if name in found or not isinstance(module, nn.Conv2d | nn.Linear):
                continue
            stage = last + 1 if name.startswith("pyramid.") else last + 2
            found[name] = LayerLabel(stage, 0, positions[stage])
            positions[stage] += 1
        return found

    def outputs(self, x: Tensor) -> Any:
        """Return the raw outputs of the heads."""
        raise NotImplementedError

    def loss(self, x: Tensor, truth: Truth) -> Tensor:
        """Return the loss of the images, a scalar."""
        raise NotImplementedError

    def detect(self, x: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
        """Return the boxes found in each image.

        Parameters
        ----------
        sizes
            (N, 2): height and width of each image inside the padded input, in pixels.

        Returns
        -------
        list[dict[str, Tensor]]
            `boxes` (k, 4) in pixels of the input, clipped to the image; `scores` (k,), falling;
            `labels` int64 (k,).
        """
        raise NotImplementedError
