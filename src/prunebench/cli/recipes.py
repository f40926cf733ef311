"""Recipes by the names that base networks and runs carry.

`greg_cifar10_base_on_digits_x0_1` is recipes/greg_cifar10_base.yaml as far as digits can follow
it (`data.moved`), with a tenth of its epochs. A recipe that digits can follow as it stands keeps
its name: its base networks are those of every experiment on digits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from prunebench.core.config import read_recipe
from prunebench.core.errors import ConfigError
from prunebench.core.override import Override, split_override
from prunebench.core.recipe import Recipe
from prunebench.core.spec import RunSpec
from prunebench.data.moved import moved
from prunebench.data.registry import dataset_info


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
