"""PAA: Kim, Lee, Probabilistic Anchor Assignment, arXiv 2007.08103; layers only.

The layers are those of ATSS: P6 from P5, one anchor per location, a third output (the predicted
overlap), heads without group norm, as Group Fisher prunes them. Its training fits a mixture of two
Gaussians to the losses of each box and is not implemented.
"""

from __future__ import annotations

from functools import partial

from prunebench.models.detection.dense import OneStage


class PAA(OneStage):
    """One-stage detector that can be counted and pruned, but not trained."""


NETWORKS = {
    "paa_r50_fpn": partial(PAA, anchors=1, extra="level", third=True, resnet="resnet50"),
}
