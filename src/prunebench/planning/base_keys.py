"""The keys of a recipe that belong to the base network of a run.

A network expects the inputs that it was trained with, and a network that has seen the validation
images cannot be judged by them. So a run that starts from a base network takes its normalization
and trains on the same images. A recipe that asks for something else is an error.
"""

from __future__ import annotations

from prunebench.core.errors import ConfigError
from prunebench.data.info import DatasetInfo
from prunebench.data.normalization import normalization
from prunebench.experiments.recipe import Recipe


def following(recipe: Recipe, base: Recipe, info: DatasetInfo) -> Recipe:
    """Return a recipe of a run that starts from a base network, with the base network's keys.

    ConfigError begins with the key whose value differs from that of the base network.
    """
    given = recipe.model_fields_set
    normalize = recipe.normalize if "normalize" in given else base.normalize
    trained_on = recipe.trained_on if "trained_on" in given else base.trained_on
    if normalization(normalize, info) != normalization(base.normalize, info):
        raise ConfigError(_differs("normalize", normalize, base.normalize))
    if trained_on != base.trained_on:
        raise ConfigError(_differs("trained_on", trained_on, base.trained_on))
    return recipe.model_copy(update={"normalize": normalize, "trained_on": trained_on})


def _differs(key: str, value: str, own: str) -> str:
    return f"{key}: {value!r} differs from the base network's {own!r}; remove the key"
