"""Two-stage detectors: the steps between their layers, which are torchvision's.

Source: Ren et al., Faster R-CNN, arXiv 1506.01497. Matching, sampling, region pooling and losses
are those of torchvision's `RegionProposalNetwork` and `RoIHeads`. Samples are drawn from torch's
global generator.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork, concat_box_prediction_layers

from prunebench.models.detection.detector import Detector, Truth

REGIONS = 512  # of one image without targets; Group Fisher counts so many


class TwoStage(Detector):
    """A network that proposes regions, and then classifies them and corrects their boxes.

    Without targets it takes 512 regions per image from fixed places, so that the shapes of its
    outputs do not depend on what it finds.

    Attributes
    ----------
    rpn, roi_heads
        torchvision's modules with the constants and steps of the two stages.
    """

    rpn: RegionProposalNetwork
    roi_heads: RoIHeads

    def levels(self, x: Tensor) -> dict[str, Tensor]:
        """Return the levels of the pyramid by name, finest first."""
        raise NotImplementedError

    def propose(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return objectness (N, anchors, h, w) and codes (N, 4 * anchors, h, w) of each level."""
        raise NotImplementedError

    def classify(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Return classes (rows, 1 + classes) and codes (rows, 4 * (1 + classes)) of regions.

        The first class is the background.
        """
        raise NotImplementedError

    def anchors(self, x: Tensor, levels: Sequence[Tensor]) -> Tensor:
        """Return the anchors of all levels, (A, 4)."""
        raise NotImplementedError

    def outputs(self, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Return objectness and codes by level, then classes and codes of 512 regions per image."""
        levels = list(self.levels(x).values())
        return [
            *zip(*self.propose(levels), strict=True),
            self.classify(repeated_regions(levels[2])),
        ]

    def regions(
        self, x: Tensor, levels: dict[str, Tensor], sizes: list[tuple[int, int]]
    ) -> tuple[list[Tensor], tuple[Tensor, Tensor, list[Tensor]]]:
        """Return the proposed boxes per image, and objectness, codes and anchors for the loss."""
        found = list(levels.values())
        objectness, codes = self.propose(found)
        rows = [level[0].numel() for level in objectness]
        anchors = [self.anchors(x, found)] * len(x)
        flat, flat_codes = concat_box_prediction_layers(objectness, codes)
        flat, flat_codes = flat.to(x.dtype), flat_codes.to(x.dtype)  # float32 under autocast, too
        boxes = self.rpn.box_coder.decode(flat_codes.detach(), anchors).view(len(x), -1, 4)
        proposals, _ = self.rpn.filter_proposals(boxes, flat, sizes, rows)
        return proposals, (flat, flat_codes, anchors)

    def loss(self, x: Tensor, truth: Truth) -> Tensor:
        """Return the sum of the losses of classes and boxes of both stages."""
        levels, sizes, targets = self.levels(x), [as_size(x)] * len(x), truth.lists(first_label=1)
        proposals, (objectness, proposed_codes, anchors) = self.regions(x, levels, sizes)
        labels, boxes = self.rpn.assign_targets_to_anchors(anchors, targets)
        wanted = self.rpn.box_coder.encode(boxes, anchors)
        first = self.rpn.compute_loss(objectness, proposed_codes, labels, wanted)
        sampled, _, labels, wanted = self.roi_heads.select_training_samples(proposals, targets)
        pooled = self.roi_heads.box_roi_pool(levels, sampled, sizes)
        self.row_images = torch.cat(
            [torch.full((len(own),), i, device=x.device) for i, own in enumerate(sampled)]
        )
        try:
            classes, codes = (own.to(x.dtype) for own in self.classify(pooled))
        finally:
            self.row_images = None
        second = fastrcnn_loss(classes, codes, labels, wanted)
        return torch.stack([*first, *second]).sum()

    @torch.no_grad()
    def detect(self, x: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
        """Return the boxes found in each image, as `Detector` describes them."""
        levels, shapes = self.levels(x), [(int(h), int(w)) for h, w in sizes.tolist()]
        proposals, _ = self.regions(x, levels, shapes)
        # The scale of a level is that of the whole input.
        pooled = self.roi_heads.box_roi_pool(levels, proposals, [as_size(x)] * len(x))
        classes, codes = (own.to(x.dtype) for own in self.classify(pooled))
        found = self.roi_heads.postprocess_detections(classes, codes, proposals, shapes)
        return [
            {"boxes": boxes, "scores": scores, "labels": labels - 1}
            for boxes, scores, labels in zip(*found, strict=True)
        ]


def as_size(x: Tensor) -> tuple[int, int]:
    """Return height and width of images."""
    return x.shape[2], x.shape[3]


def repeated_regions(level: Tensor) -> Tensor:
    """Return each image of a level, pooled to 7x7 and repeated: (N * 512, channels, 7, 7)."""
    pooled = F.adaptive_avg_pool2d(level, 7)
    return pooled[:, None].expand(-1, REGIONS, -1, -1, -1).flatten(0, 1)
