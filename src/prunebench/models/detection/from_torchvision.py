"""torchvision's own detectors, with its layers, losses, constants and parameter names.

RetinaNet (arXiv 1708.02002), FCOS (arXiv 1904.01355) and Faster R-CNN (arXiv 1506.01497) with
ResNet-50 and a pyramid, and SSDLite (arXiv 1801.04381) with MobileNetV3, built without weights.
They differ from this project's in their losses and in the selection of boxes, and RetinaNet's P6
comes from P5. Their resizing and normalization are not used: images come in normalized and at their
final size. A parameter has torchvision's name after "detector.".
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

from prunebench.core.errors import ModelError
from prunebench.models.detection.detector import Detector, Truth
from prunebench.models.detection.two_stage import TwoStage, as_size


def built(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """Build torchvision's detector without weights, all layers trainable."""
    if in_channels != 3:
        raise ModelError(
            f"network {name!r}: in_channels must be 3 for torchvision's detectors, "
            f"not {in_channels}"
        )
    builder = getattr(detection, name)
    model: nn.Module = builder(weights=None, weights_backbone=None, num_classes=num_classes)
    return model


class Wrapped(Detector):
    """A detector of torchvision with the interface of this project's.

    Attributes
    ----------
    first_label
        Number of class 0 in torchvision's labels: 1 if 0 is the background.
    """

    first_label = 0

    def __init__(self, name: str, *, num_classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        assert width == 1  # the registry refuses others
        self.make = partial(built, name, num_classes + self.first_label, in_channels)
        self.detector: Any = self.make()

    def draw_weights(self) -> None:
        """Initialize all weights as torchvision does, from torch's global generator.

        The weights of a smaller network are the first ones of each layer of a whole network.
        """
        with torch.no_grad():
            for own, whole in zip(
                self.detector.parameters(), self.make().parameters(), strict=True
            ):
                own.copy_(whole[tuple(slice(0, size) for size in own.shape)])


class WrappedOneStage(Wrapped):
    """torchvision's RetinaNet, FCOS or SSD."""

    def outputs(self, x: Tensor) -> dict[str, Tensor]:
        """Return the head's outputs at all locations of all levels, (N, A, size) each."""
        return self.found(x)[0]

    def found(self, x: Tensor) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return the head's outputs, and the levels that it read."""
        levels = list(self.detector.backbone(x).values())
        outputs = self.detector.head(levels)
        return {key: own.to(x.dtype) for key, own in outputs.items()}, levels

    def anchors(self, x: Tensor, levels: Sequence[Tensor]) -> list[Tensor]:
        """Return the anchors of each image, (A, 4)."""
        images = ImageList(x, [as_size(x)] * len(x))
        anchors: list[Tensor] = self.detector.anchor_generator(images, levels)
        return anchors

    def loss(self, x: Tensor, truth: Truth) -> Tensor:
        """Return the sum of torchvision's losses."""
        outputs, levels = self.found(x)
        anchors, targets = self.anchors(x, levels), truth.lists(self.first_label)
        losses = self.detector.compute_loss(
            targets, outputs, anchors, *self.more(anchors, targets, levels)
        )
        return torch.stack(list(losses.values())).sum()

    def more(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]], levels: Sequence[Tensor]
    ) -> tuple[Any, ...]:
        """Return what else the detector's `compute_loss` takes."""
        return ()

    @torch.no_grad()
    def detect(self, x: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
        """Return the boxes found in each image, as `Detector` describes them."""
        outputs, levels = self.found(x)
        shapes = [(int(h), int(w)) for h, w in sizes.tolist()]
        found = self.selected(outputs, self.anchors(x, levels), levels, shapes)
        return [own | {"labels": own["labels"] - self.first_label} for own in found]

    def selected(
        self,
        outputs: dict[str, Tensor],
        anchors: list[Tensor],
        levels: Sequence[Tensor],
        shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Return torchvision's selection of boxes; outputs and anchors are split by level."""
        per_location = len(anchors[0]) // sum(rows_of(levels))
        rows = [per_location * n for n in rows_of(levels)]
        split = {key: list(torch.split(output, rows, dim=1)) for key, output in outputs.items()}
        split_anchors = [list(torch.split(own, rows)) for own in anchors]
        found: list[dict[str, Tensor]] = self.detector.postprocess_detections(
            split, split_anchors, shapes
        )
        return found


class WrappedFCOS(WrappedOneStage):
    """torchvision's FCOS."""

    def more(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]], levels: Sequence[Tensor]
    ) -> tuple[Any, ...]:
        """Return the number of locations of each level."""
        return (rows_of(levels),)


class WrappedSSD(WrappedOneStage):
    """torchvision's SSD, whose classes begin with the background."""

    first_label = 1

    def more(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]], levels: Sequence[Tensor]
    ) -> tuple[Any, ...]:
        """Return the box that each anchor must predict, -1 for none."""
        return ([self.matched(*pair) for pair in zip(anchors, targets, strict=True)],)

    def matched(self, anchors: Tensor, target: dict[str, Tensor]) -> Tensor:
        """Return the box that each anchor of an image must predict, int64 (A,)."""
        if len(target["boxes"]) == 0:
            return torch.full((len(anchors),), -1, device=anchors.device)
        found: Tensor = self.detector.proposal_matcher(box_iou(target["boxes"], anchors))
        return found

    def selected(
        self,
        outputs: dict[str, Tensor],
        anchors: list[Tensor],
        levels: Sequence[Tensor],
        shapes: list[tuple[int, int]],
    ) -> list[dict[str, Tensor]]:
        """Return torchvision's selection of boxes."""
        found: list[dict[str, Tensor]] = self.detector.postprocess_detections(
            outputs, anchors, shapes
        )
        return found


class WrappedFasterRCNN(Wrapped, TwoStage):
    """torchvision's Faster R-CNN, whose classes begin with the background."""

    first_label = 1

    @property
    def rpn(self) -> Any:
        """Return torchvision's first stage."""
        return self.detector.rpn

    @property
    def roi_heads(self) -> Any:
        """Return torchvision's second stage."""
        return self.detector.roi_heads

    def levels(self, x: Tensor) -> dict[str, Tensor]:
        """Return the levels of the pyramid by name, finest first."""
        levels: dict[str, Tensor] = self.detector.backbone(x)
        return levels

    def propose(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return objectness (N, 3, h, w) and codes (N, 12, h, w) of each level."""
        found: tuple[list[Tensor], list[Tensor]] = self.rpn.head(levels)
        return found

    def classify(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return classes and codes of regions; the first class is the background."""
        found: tuple[Tensor, Tensor] = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
        return found

    def anchors(self, x: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Return the anchors of all levels, (A, 4)."""
        anchors: list[Tensor] = self.rpn.anchor_generator(ImageList(x, [as_size(x)]), levels)
        return anchors[0]


def rows_of(levels: Sequence[Tensor]) -> list[int]:
    """Return the number of locations of each level."""
    return [level.shape[2] * level.shape[3] for level in levels]


NETWORKS = {
    name: partial(kind, name)
    for name, kind in {
        "fasterrcnn_resnet50_fpn": WrappedFasterRCNN,
        "fcos_resnet50_fpn": WrappedFCOS,
        "retinanet_resnet50_fpn": WrappedOneStage,
        "ssdlite320_mobilenet_v3_large": WrappedSSD,
    }.items()
}
