"""What `prunebench list` shows."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

Lines = Iterable[tuple[str, str]]  # name, what it is


def _methods(config_dir: Path) -> Lines:
    from prunebench.methods.registry import method_class, method_paths

    return [(name, method_class(name).summary) for name in method_paths()]


def _options(config_dir: Path) -> Lines:
    from prunebench.methods.registry import method_class, method_paths

    lines = []
    for method in method_paths():
        options = method_class(method).Options
        defaults = options.model_construct().model_dump(mode="json", warnings=False)
        for name, field in options.model_fields.items():
            value = "required" if field.is_required() else json.dumps(defaults[name])
            lines.append((f"{method}.{name}", value))
    return lines


def _networks(config_dir: Path) -> Lines:
    from prunebench.models.registry import names

    words = "any width: a suffix such as _x0_25"
    return [(name, words) for name in names()]


def _datasets(config_dir: Path) -> Lines:
    from prunebench.data.registry import dataset_info, names

    return [(name, dataset_info(name).title) for name in names()]


def _experiments(config_dir: Path) -> Lines:
    from prunebench.experiments.config import read_experiment

    files = sorted((config_dir / "experiments").glob("*.yaml"))
    return [(file.stem, read_experiment(config_dir, file.stem).title) for file in files]


def _recipes(config_dir: Path) -> Lines:
    from prunebench.experiments.config import read_recipe

    lines = []
    for file in sorted((config_dir / "recipes").glob("*.yaml")):
        recipe = read_recipe(config_dir, file.stem)
        length = "as the method says" if recipe.epochs is None else f"{recipe.epochs} epochs"
        lines.append((file.stem, f"{length}, batch {recipe.batch_size}, lr {recipe.lr:g}"))
    return lines


LISTS: dict[str, Callable[[Path], Lines]] = {
    "datasets": _datasets,
    "experiments": _experiments,
    "methods": _methods,
    "networks": _networks,
    "options": _options,
    "recipes": _recipes,
}
