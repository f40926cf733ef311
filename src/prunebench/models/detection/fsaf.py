"""FSAF: Zhu et al., arXiv 1903.00621: RetinaNet's layers without anchors."""

from __future__ import annotations

from functools import partial

from prunebench.models.detection.dense import OneStage


class FSAF(OneStage):
    """One-stage detector with one prediction per location."""


NETWORKS = {
    "fsaf_r18_fpn": partial(FSAF, anchors=1, extra="stage", third=False, resnet="resnet18"),
    "fsaf_r50_fpn": partial(FSAF, anchors=1, extra="stage", third=False, resnet="resnet50"),
}
