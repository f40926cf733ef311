"""The lists of `prunebench list`: names that a configuration may use, and options."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name
from prunebench.core.plug_ins import where_registered

if TYPE_CHECKING:
    from pydantic import BaseModel

Lines = Iterable[tuple[str, str]]  # name, one-line description


def _methods(config_dir: Path) -> Lines:
    from prunebench.methods.registry import usable_methods

    return sorted((name, method.summary) for name, method in usable_methods())


def _networks(config_dir: Path) -> Lines:
    from prunebench.models.registry import function_of, has_widths, is_detector, names

    lines = []
    for name in names():
        if (path := function_of(name)) is not None:
            lines.append((name, path))
            continue
        kind = "detector, " if is_detector(name) else ""
        widths = "any width: a suffix such as _x0_25" if has_widths(name) else "one width"
        lines.append((name, f"{kind}{widths}"))
    return lines


def _datasets(config_dir: Path) -> Lines:
    from prunebench.data.registry import dataset_info, names, path_of

    return [(name, path_of(name) or dataset_info(name).title) for name in names()]


def _experiments(config_dir: Path) -> Lines:
    from prunebench.experiments.config import named_files, read_experiment

    files = named_files(config_dir, "experiment")
    return [(file.stem, read_experiment(config_dir, file.stem).title) for file in files]


def _recipes(config_dir: Path) -> Lines:
    from prunebench.experiments.config import named_files, read_recipe

    lines = []
    for file in named_files(config_dir, "recipe"):
        recipe = read_recipe(config_dir, file.stem)
        length = "as the method says" if recipe.epochs is None else f"{recipe.epochs} epochs"
        lines.append((file.stem, f"{length}, batch {recipe.batch_size}, lr {recipe.lr:g}"))
    return lines


LISTS: dict[str, Callable[[Path], Lines]] = {
    "datasets": _datasets,
    "experiments": _experiments,
    "methods": _methods,
    "networks": _networks,
    "recipes": _recipes,
}


def aligned(lines: Lines) -> list[str]:
    """Return names and descriptions in two columns.

    >>> aligned([("l1", "by weights"), ("a_long_name_of_an_experiment", "")])
    ['l1                           by weights', 'a_long_name_of_an_experiment']
    """
    pairs = list(lines)
    width = max([24, *(len(name) for name, _ in pairs)])
    return [f"{name:<{width}} {words}".rstrip() for name, words in pairs]


SCHEMA_NAMES = ("config", "experiment", "recipe")  # of `configuration_models`, one per kind of file


def configuration_models() -> dict[str, type[BaseModel]]:
    """Return the models of the configuration files by name; `options` are those of every method."""
    from prunebench.data.coco import BoxedDescription
    from prunebench.data.folder import Description
    from prunebench.experiments import config, recipe
    from prunebench.experiments.override import Override
    from prunebench.methods.base import MethodOptions

    return {
        "config": config.Config,
        "override": Override,
        "experiment": config.ExperimentConfig,
        "network": config.NetworkConfig,
        "method": config.MethodConfig,
        "setting": config.SettingConfig,
        "options": MethodOptions,
        "published": config.PublishedConfig,
        "recipe": recipe.Recipe,
        "schedule": recipe.Schedule,
        "augment": recipe.Augment,
        "resized_crop": recipe.ResizedCrop,
        "dataset": Description,
        "boxed_dataset": BoxedDescription,
    }


def option_lines(name: str | None) -> Iterator[str]:
    """Yield the options of a method or of a part of the configuration, or of all of them.

    In the list of all, an option that every method has is shown once, as `options.<name>`.
    """
    from prunebench.experiments.reference import options_of
    from prunebench.methods.registry import method_class, method_paths, usable_methods

    parts = configuration_models()
    if name is None:
        methods = {owner: method.Options for owner, method in usable_methods()}
        owners = parts | dict(sorted(methods.items()))
    elif name in parts:
        owners = {name: parts[name]}
    elif name in method_paths():
        owners = {name: method_class(name).Options}
    else:
        sentence = unknown_name("method", name, [*parts, *method_paths()])
        raise ConfigError(f"{sentence}; {where_registered()}")
    common = options_of(parts["options"]) if name is None else []
    for owner, model in owners.items():
        options = options_of(model)
        for option in options if owner in parts else [o for o in options if o not in common]:
            yield f"{owner}.{option.name} = {option.default} ({option.values.replace('`', '')})"
            yield from textwrap.wrap(
                option.description, 100, initial_indent="    ", subsequent_indent="    "
            )
