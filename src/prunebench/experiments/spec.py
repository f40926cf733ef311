"""The specification of a base network and of a run, and the folders of their results.

A run is a function of its specification. Results, checkpoints and Snakemake's rerun trigger are
compared by the hash of the specification. The machine of a job (device, folders) is not part of it.

Hashes outlast versions, so that stored results can be reused. A hash covers what is computed: the
values that differ from their defaults, and no names of experiments, settings and recipes. A new
option, recipe key or field therefore leaves all hashes as they are, if its default computes what
was computed before. A default must never change by itself: a changed default of a recipe or of the
specification raises `SCHEMA`, one of a method raises the method's revision.
`tests/planning/test_defaults.py` checks this.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from prunebench.core.own_code import code_of_name
from prunebench.experiments.phases import RATIO_KINDS, Budget, RatioKind
from prunebench.experiments.recipe import Recipe, TrainedOn
from prunebench.experiments.settings import Seed, Settings, Threads

SCHEMA = 1  # part of every hash; raised if a default of a recipe or specification changes
# Groups of entry points.
DATASETS, NETWORKS = "prunebench.datasets", "prunebench.networks"
_WITH = "_with_"  # between a setting and its second recipe
RESERVED_EXPERIMENTS = frozenset(
    {"base", "benchmarks", "claims", "data", "logs", "reference", "resolved"}
)


def digest(content: Any) -> str:
    """Return 16 hexadecimal digits that identify a JSON value.

    >>> digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    True
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def ratio_slug(ratio: float | None, kind: RatioKind) -> str:
    """Return a ratio as a folder name; it names every kind but units_per_group.

    >>> ratio_slug(0.5, "units_per_group"), ratio_slug(0.70, "macs"), ratio_slug(None, "auto")
    ('0.5', 'macs-0.7', 'auto')
    >>> ratio_slug(0.0, "units_per_group"), ratio_slug(0.00001, "units_per_group")
    ('0', '0.00001')
    """
    if ratio is None:
        return "auto"
    number = format(Decimal(repr(float(ratio))).normalize(), "f")
    return number if kind == "units_per_group" else f"{kind}-{number}"


def canonical_ratio(text: str) -> str:
    """Return a ratio as in results paths; text that is not a ratio stays as it is.

    >>> canonical_ratio("0.50"), canonical_ratio("macs-5e-1"), canonical_ratio("auto")
    ('0.5', 'macs-0.5', 'auto')
    """
    kinds = "|".join(RATIO_KINDS)
    matched = re.fullmatch(rf"(?:({kinds})-)?([0-9.]+(?:e-?[0-9]+)?)", text)
    if not matched:
        return text
    try:
        return ratio_slug(float(matched[2]), matched[1] or "units_per_group")  # type: ignore[arg-type]
    except ValueError:
        return text


def crossed_setting(setting: str, recipe: str) -> str:
    """Return the name of a setting under a second recipe; `crossed_from` undoes it.

    >>> crossed_setting("default", "digits_retrain")
    'default_with_digits_retrain'
    """
    return f"{setting}{_WITH}{recipe}"


def crossed_from(setting: str) -> tuple[str, str]:
    """Return the setting and its second recipe; the recipe is "" if there is none in the name.

    >>> crossed_from("default_with_digits_retrain"), crossed_from("default")
    (('default', 'digits_retrain'), ('default', ''))
    """
    own, _, recipe = setting.partition(_WITH)
    return own, recipe


def code_of_own(dataset: str, architecture: str) -> dict[str, str | None]:
    """Return the hashes of the code of a data set and a network of the user's own, as in BaseSpec.

    They are None for built-in ones.
    """
    return {
        "data_code": code_of_name(dataset, DATASETS),
        "network_code": code_of_name(architecture, NETWORKS),
    }


class BaseSpec(Settings):
    """Everything that determines a base network."""

    dataset: str
    architecture: str
    recipe_name: str
    recipe: Recipe
    seed: Seed
    threads: Threads
    data_code: str | None = None  # hash of the code of a data set of the user's own
    network_code: str | None = None

    @property
    def hash(self) -> str:
        """Return a hash of this specification."""
        return _hash(self, {"recipe_name": True})

    @property
    def path(self) -> str:
        """Return the folder of its results, relative to the results folder."""
        return base_path(self.dataset, self.architecture, self.recipe_name, self.seed)

    @property
    def trained_on(self) -> TrainedOn:
        """Return the images that it is trained on."""
        return self.recipe.trained_on


class RunSpec(Settings):
    """Everything that determines one run: one cell of an experiment."""

    experiment: str
    dataset: str
    architecture: str
    method: str
    setting: str
    ratio: float | None
    ratio_kind: RatioKind
    seed: Seed
    threads: Threads
    revision: int  # the method's; raised when its results change
    start: Literal["base", "fresh"]
    options: dict[str, Any]  # those that differ from the method's defaults
    recipes: dict[str, Recipe]  # by role
    recipe_names: dict[str, str]
    base: BaseSpec
    widths_from: str | None = None  # path of the run whose widths it takes
    widths_hash: str | None = None  # hash of that run
    latency_table: str | None = None  # file of the latency table, for a ratio of latency
    latency_table_hash: str | None = None  # of its content

    @property
    def hash(self) -> str:
        """Return a hash of this specification.

        The run whose widths it takes counts by its hash, not by its path and name, and a latency
        table by its content.
        """
        unhashed = ("experiment", "setting", "recipe_names", "widths_from", "latency_table")
        names = dict.fromkeys(unhashed, True)
        own: dict[str, Any] = {"base": {"recipe_name"}, "options": {"widths_from"}}
        return _hash(self, names | own)

    @property
    def budget(self) -> Budget:
        """Return the budget at the end of the run."""
        return Budget(kind=self.ratio_kind, ratio=self.ratio)

    @property
    def trained_on(self) -> TrainedOn:
        """Return the images that the run trains on: its base network's, if it starts from one."""
        if self.start == "base":
            return self.base.trained_on
        return next((recipe.trained_on for recipe in self.recipes.values()), "train")

    @property
    def ratio_slug(self) -> str:
        """Return the ratio as in paths."""
        return ratio_slug(self.ratio, self.ratio_kind)

    @property
    def path(self) -> str:
        """Return the folder of its results, relative to the results folder."""
        return run_path(
            self.experiment,
            self.dataset,
            self.architecture,
            self.method,
            self.setting,
            self.ratio_slug,
            self.seed,
        )


def _hash(spec: Settings, names: Mapping[str, Any]) -> str:
    """Return a hash of the values that differ from their defaults, without `names`."""
    content = spec.model_dump(mode="json", exclude_defaults=True, exclude=dict(names))
    return digest({"schema": SCHEMA, **content})


def base_path(dataset: str, architecture: str, recipe: str, seed: int) -> str:
    """Return a base network's folder relative to the results folder; a test pins this form."""
    return f"base/{dataset}/{architecture}/{recipe}/seed{seed}"


def run_path(
    experiment: str,
    dataset: str,
    architecture: str,
    method: str,
    setting: str,
    ratio: str,
    seed: int,
) -> str:
    """Return a run's folder relative to the results folder; a test pins this form."""
    return f"{experiment}/{dataset}/{architecture}/{method}/{setting}/{ratio}/seed{seed}"


def run_parts(path: str) -> dict[str, str]:
    """Return the parts of a run's path by name.

    >>> run_parts("digits/digits/resnet20/l1/default/macs-0.5/seed0")["ratio"]
    'macs-0.5'
    """
    names = ("experiment", "dataset", "architecture", "method", "setting", "ratio", "seed")
    parts = dict(zip(names, path.split("/"), strict=True))
    return parts | {"seed": parts["seed"].removeprefix("seed")}


def data_path(results: Path, dataset: str) -> Path:
    """Return the tensor file of a data set."""
    return results / "data" / f"{dataset}.safetensors"
