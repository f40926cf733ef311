"""Adapt recipes to data sets that they were not made for.

The data set's own augmentation and normalization replace those that it cannot use: augmentation of
image files, mirroring that changes the class of an image, normalization for another number of color
channels. Weights that were trained on other images are dropped, and the recipe itself trains the
base network. Frozen batch-norm statistics, which need a fully trained base network, are updated
instead. All other keys stay.

The name of an adapted recipe says so: `greg_cifar10_base_on_digits_x0_1` is
recipes/greg_cifar10_base.yaml adapted to digits, with a tenth of its epochs. A recipe that digits
can use unchanged keeps its name, and shares its base networks with all experiments on digits.
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

PADDING_SHARE = 8  # of the side, rounded down: CIFAR pads 4 of 32 pixels


def adapted(recipe: Recipe, info: DatasetInfo) -> Recipe:
    """Return a recipe adapted to a data set that it was not made for."""
    changed: dict[str, Any] = {
        "weights": None,
        "weights_sha256": None,
        "expected_top1": None,
        "expected_map": None,
        # After a few steps of training the running statistics fit no network: activations grow
        # from block to block, and the loss is infinite at once.
        "norm_statistics": "updated",
    }
    if not can_follow(recipe.augment, info):
        changed["augment"] = plain_augmentation(info)
    known = NORMALIZATIONS.get(recipe.normalize)
    if known is not None and len(known.mean) != info.shape[0]:
        changed["normalize"] = "dataset"
    return recipe.model_copy(update=changed)


def can_follow(augment: Augment, info: DatasetInfo) -> bool:
    """Whether the augmentation works on these images and keeps their classes."""
    try:
        info.check_augmentation(augment)
    except ConfigError:
        return False
    return info.mirrors or not augment.flip


def plain_augmentation(info: DatasetInfo) -> Augment:
    """Return the usual augmentation: a crop of the padded image, if it is small, and mirroring.

    Images with boxes are not cropped.
    """
    if info.in_files or info.task == "detection":
        return Augment(flip=info.mirrors)
    return Augment(crop_padding=info.shape[1] // PADDING_SHARE, flip=info.mirrors)


def recipe_on(config_dir: Path, name: str, dataset: str) -> Recipe:
    """Read a recipe by name; ConfigError if the name says that it is for another data set."""
    recipe = read_recipe(config_dir, name)
    made_for = split_override(config_dir / "recipes", name)[1].dataset
    if made_for is None:
        return recipe
    if made_for != dataset:
        raise ConfigError(f"the recipe {name!r} is for {made_for}, not for {dataset}")
    return adapted(recipe, dataset_info(dataset))


def adapted_recipe(
    config_dir: Path, stem: str, dataset: str, shortening: Override
) -> tuple[str, Recipe]:
    """Return the name and content of a recipe adapted to a data set, as `recipe_on` reads it."""
    name = stem + shortening.suffix
    recipe = read_recipe(config_dir, name)
    there = adapted(recipe, dataset_info(dataset))
    if there == recipe:
        return name, recipe
    return stem + shortening.model_copy(update={"dataset": dataset}).suffix, there


def changes(runs: Iterable[RunSpec], config_dir: Path) -> Iterator[str]:
    """Yield a line for each recipe that differs from its file."""
    used: dict[str, Recipe] = {}
    for run in runs:
        used[run.base.recipe_name] = run.base.recipe
        used |= {run.recipe_names[role]: recipe for role, recipe in run.recipes.items()}
    for name, recipe in used.items():
        in_file = read_recipe(config_dir, name)
        before, after = _texts(in_file), _texts(recipe)
        # Keys that the file leaves out may follow the base network, which changes nothing.
        changed = [k for k in after if k in in_file.model_fields_set and after[k] != before[k]]
        if changed:
            words = "; ".join(f"{key} {after[key]}, not {before[key]}" for key in changed)
            yield f"{name}: {words}"


def _texts(recipe: Recipe) -> dict[str, str]:
    """Return the values of a recipe as in its file, each in one line."""
    given = recipe.model_dump(mode="json", exclude_defaults=True)
    everything = {**recipe.model_dump(mode="json"), **given}
    return {key: _in_one_line(value) for key, value in everything.items()}


def _in_one_line(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return text.partition("\n")[0]
