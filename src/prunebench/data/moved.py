"""A recipe that was made for other images: what this data set cannot follow is replaced.

An augmentation of image files, a mirror image where it would be of another class, and a
normalization for another number of colours give way to the data set's own. Weights that were
trained on the other images give way to training by the recipe itself; frozen statistics of batch
norm, which suppose a base network trained to its end, are updated. All else stays.
"""

from __future__ import annotations

from typing import Any

from prunebench.core.errors import ConfigError
from prunebench.core.recipe import Augment, Recipe
from prunebench.data.info import DatasetInfo
from prunebench.data.normalization import NORMALIZATIONS

PADDING_SHARE = 8  # of a side, rounded down: CIFAR's 4 of 32 pixels


def moved(recipe: Recipe, info: DatasetInfo) -> Recipe:
    """Return the recipe as it is followed on images that it was not made for."""
    changed: dict[str, Any] = {
        "weights": None,
        "weights_sha256": None,
        "expected_top1": None,
        # After a few steps the statistics are still those of no network: activations grow from
        # block to block, and the loss is infinite at once.
        "norm_statistics": "updated",
    }
    if not can_follow(recipe.augment, info):
        changed["augment"] = plain_augmentation(info)
    known = NORMALIZATIONS.get(recipe.normalize)
    if known is not None and len(known.mean) != info.shape[0]:
        changed["normalize"] = "dataset"
    return recipe.model_copy(update=changed)


def can_follow(augment: Augment, info: DatasetInfo) -> bool:
    """Whether these images can be augmented so, and stay of their classes."""
    try:
        info.check_augmentation(augment)
    except ConfigError:
        return False
    return info.mirrors or not augment.flip


def plain_augmentation(info: DatasetInfo) -> Augment:
    """Return what is usual for small images: a crop of the padded image, and its mirror image."""
    if info.in_files:
        return Augment(flip=info.mirrors)
    return Augment(crop_padding=info.shape[1] // PADDING_SHARE, flip=info.mirrors)
