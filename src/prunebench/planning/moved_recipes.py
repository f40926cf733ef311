"""A recipe that was made for other images: what this data set cannot follow is replaced.

An augmentation of image files, a mirror image where it would be of another class, and a
normalization for another number of colours give way to the data set's own. Weights that were
trained on the other images give way to training by the recipe itself; frozen statistics of batch
norm, which suppose a base network trained to its end, are updated. All else stays.

Recipes by the names that base networks and runs carry.

`greg_cifar10_base_on_digits_x0_1` is recipes/greg_cifar10_base.yaml as far as digits can follow
it (`data.moved`), with a tenth of its epochs. A recipe that digits can follow as it stands keeps
its name: its base networks are those of every experiment on digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from prunebench.core.errors import ConfigError
from prunebench.data.info import DatasetInfo
from prunebench.data.normalization import NORMALIZATIONS
from prunebench.data.registry import dataset_info
from prunebench.experiments.config import read_recipe
from prunebench.experiments.override import Override, split_override
from prunebench.experiments.recipe import Augment, Recipe
from prunebench.experiments.spec import RunSpec

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


def recipe_on(config_dir: Path, name: str, dataset: str) -> Recipe:
    """Read a recipe by name; one that was changed for a data set belongs to that one."""
    recipe = read_recipe(config_dir, name)
    made_for = split_override(config_dir / "recipes", name)[1].dataset
    if made_for is None:
        return recipe
    if made_for != dataset:
        raise ConfigError(f"the recipe {name!r} is one on {made_for}, not on {dataset}")
    return moved(recipe, dataset_info(dataset))


def moved_recipe(config_dir: Path, stem: str, dataset: str, scale: float) -> tuple[str, Recipe]:
    """Return name and recipe on data that it was not made for, as `recipe_on` reads it."""
    name = stem + Override(epochs_scale=scale).suffix
    recipe = read_recipe(config_dir, name)
    there = moved(recipe, dataset_info(dataset))
    if there == recipe:
        return name, recipe
    return stem + Override(dataset=dataset, epochs_scale=scale).suffix, there


def changes(runs: Iterable[RunSpec], config_dir: Path) -> Iterator[str]:
    """Yield a line for each recipe that is not followed as it stands in its file."""
    used: dict[str, Recipe] = {}
    for run in runs:
        used[run.base.recipe_name] = run.base.recipe
        used |= {run.recipe_names[role]: recipe for role, recipe in run.recipes.items()}
    for name, recipe in used.items():
        before, after = (_texts(r) for r in (read_recipe(config_dir, name), recipe))
        changed = [key for key in after if after[key] != before[key]]
        if changed:
            words = "; ".join(f"{key} {after[key]}, not {before[key]}" for key in changed)
            yield f"{name}: {words}"


def _texts(recipe: Recipe) -> dict[str, str]:
    """Return the values of a recipe as its file would give them, each in one line."""
    given = recipe.model_dump(mode="json", exclude_defaults=True)
    everything = {**recipe.model_dump(mode="json"), **given}
    return {key: _in_one_line(value) for key, value in everything.items()}


def _in_one_line(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return text.partition("\n")[0]
