"""ATSS: Zhang et al., arXiv 1912.02424: one anchor per location, a branch for centerness."""

from __future__ import annotations

from functools import partial

from prunebench.models.detection.dense import OneStage


class ATSS(OneStage):
    """One-stage detector with one prediction per location."""


NETWORKS = {
    "atss_r18_fpn": partial(ATSS, anchors=1, extra="level", third=True, resnet="resnet18"),
    "atss_r50_fpn": partial(ATSS, anchors=1, extra="level", third=True, resnet="resnet50"),
}
