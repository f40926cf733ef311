"""The configuration files as frozen models; pydantic is their only validator.

config/config.yaml says what to run, config/experiments/<name>.yaml are grids, and
config/recipes/<name>.yaml ways of training. config/README.md explains every key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
)

from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name
from prunebench.experiments.override import MaybeOverride, Scale, split_override
from prunebench.experiments.phases import RatioKind
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import Settings
from prunebench.experiments.validation import read_yaml, validate

T = TypeVar("T")


def _as_tuple(value: Any) -> Any:
    """Take one name or number for a list of one, as `--config experiments=quick` gives it."""
    return (value,) if isinstance(value, str | int) else value


def _without_doubles(values: tuple[T, ...]) -> tuple[T, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value!r} is given twice")
    return values


def _fraction(ratio: float) -> float:
    if not 0 <= ratio < 1:
        raise ValueError(f"a ratio is the fraction that is removed, in [0, 1), not {ratio:g}")
    return ratio


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
SettingName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_.]*$")]
Ratio = Annotated[
    float,
    AfterValidator(_fraction),
    WithJsonSchema({"type": "number", "minimum": 0, "exclusiveMaximum": 1}),
]
Ratios = Annotated[tuple[Ratio, ...], AfterValidator(_without_doubles)]
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    BeforeValidator(_as_tuple),
    Field(min_length=1),
    AfterValidator(_without_doubles),
]
Slugs = Annotated[
    tuple[Slug, ...],
    BeforeValidator(_as_tuple),
    Field(min_length=1),
    AfterValidator(_without_doubles),
]
RecipeNames = dict[Slug, Slug]  # role -> name of a file in config/recipes


class NetworkConfig(Settings):
    """What is particular to one network of an experiment."""

    seeds: Seeds | None = None  # None: the experiment's
    recipes: RecipeNames = {}  # over the experiment's


class SettingConfig(Settings):
    """A named choice of a method's options: the keys that are not listed here."""

    model_config = ConfigDict(extra="allow")

    ratios: Ratios | None = None  # None: the method's
    ratio_kind: RatioKind | None = None  # None: the method's
    networks: Slugs | None = None  # None: the method's
    recipes: RecipeNames = {}  # over the method's


class MethodConfig(Settings):
    """One method's part of an experiment's grid."""

    ratios: Ratios | None = None  # None: the experiment's, or the method's own ("auto")
    ratio_kind: RatioKind | None = None  # None: the experiment's
    options: dict[str, Any] = {}  # of every setting
    settings: Annotated[dict[SettingName, SettingConfig], Field(min_length=1)] = {
        "default": SettingConfig()
    }
    recipes: RecipeNames = {}  # over the network's
    by_network: dict[str, dict[str, Any]] = {}  # options of one network, over the settings'
    networks: Slugs | None = None  # None: all of the experiment's


class PublishedConfig(Settings):
    """The printed table that an experiment reproduces, and which of its rows each method is."""

    paper: Slug  # a file of papers/published_rows
    table: str
    networks: dict[Slug, Slug] = {}  # ours -> the paper's name, where it is another
    # method, method/setting or method/setting/ratio (as in paths) -> the same of the printed row
    rows: Annotated[dict[str, str], Field(min_length=1)]

    def name_of(
        self, architecture: str, method: str, setting: str, ratio: str
    ) -> dict[str, str | None] | None:
        """Return the printed row's names for a cell, None for what the table does not have.

        Without a setting or ratio of its own the row is the one with ours. The unpruned network
        is the published tables' "baseline" without being listed.
        """
        path, rows = (method, setting, ratio), {"unpruned": "baseline", **self.rows}
        keys = ("/".join(path[:n]) for n in (3, 2, 1))
        printed = next((rows[key] for key in keys if key in rows), None)
        if printed is None:
            return None
        names = [*printed.split("/", 2), None, None]
        network = self.networks.get(architecture, architecture)
        parts = ("method", "setting", "ratio")
        return {"architecture": network} | dict(zip(parts, names, strict=False))


class ExperimentConfig(Settings):
    """A grid with a name: data sets × networks × methods × settings × ratios × seeds."""

    title: str
    datasets: Slugs
    networks: Annotated[dict[Slug, NetworkConfig], Field(min_length=1)]
    methods: Annotated[dict[Slug, MethodConfig], Field(min_length=1)]
    recipes: RecipeNames  # "base" is the base network's
    seeds: Seeds
    ratios: Ratios = ()
    ratio_kind: RatioKind = "units_per_group"
    threads: Annotated[int, Field(ge=1)] = 1  # of torch; results depend on it to the bit
    published: PublishedConfig | None = None  # the printed table beside which results are put
    epochs_scale: Scale = 1.0  # of the epochs of all recipes


class Config(Settings):
    """What is run: config/config.yaml."""

    experiments: Slugs
    override: MaybeOverride = None  # of all experiments; their names say so
    seeds: Seeds | None = None  # None: every experiment's own
    data_dir: str = "data"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 60.0
    workers: Annotated[int, Field(ge=0)] | None = None  # that read image files
    capture: bool = True  # a step in a CUDA graph
    deterministic: bool = False  # the same bits at every repetition, on a GPU too
    auto_accumulate: bool = False  # where memory is short
    check_base: bool = True  # against the accuracy that its recipe expects

    @property
    def machine_options(self) -> str:
        """Return these last five as options of a training job.

        >>> Config(experiments=("quick",), workers=2, capture=False).machine_options
        '--no-capture --no-deterministic --no-auto-accumulate --check-base --workers 2'
        """
        switches = [
            f"--{'' if getattr(self, name) else 'no-'}{name.replace('_', '-')}"
            for name in ("capture", "deterministic", "auto_accumulate", "check_base")
        ]
        workers = [] if self.workers is None else ["--workers", str(self.workers)]
        return " ".join(switches + workers)


def read_config(path: Path) -> Config:
    """Read config/config.yaml."""
    return _overridden(validate(Config, read_yaml(path), str(path)))


def merged_config(content: Any, config_dir: Path) -> Config:
    """Return what Snakemake has merged from config/config.yaml and its command line."""
    return _overridden(validate(Config, content, f"{config_dir / 'config.yaml'} with --config"))


def _overridden(config: Config) -> Config:
    """Return the configuration with what `override` changes in the names of its experiments."""
    if config.override is None:
        return config
    names = tuple(f"{name}{config.override.suffix}" for name in config.experiments)
    return config.model_copy(update={"experiments": names, "override": None})


def read_experiment(config_dir: Path, name: str) -> ExperimentConfig:
    """Read an experiment by name; one on other data or shortened by a name that says so."""
    stem, override = split_override(config_dir / "experiments", name)
    path = named_file(config_dir, "experiment", stem)
    experiment = validate(ExperimentConfig, read_yaml(path), str(path))
    changed: dict[str, Any] = {}
    words = [experiment.title]
    if override.dataset and experiment.datasets != (override.dataset,):
        changed["datasets"] = (override.dataset,)
        words.append(f"{override.dataset} instead of {', '.join(experiment.datasets)}")
        if given := _base_weights(config_dir, experiment):
            words.append(f"base networks trained instead of {', '.join(given)}")
    if override.epochs_scale != 1:
        changed["epochs_scale"] = experiment.epochs_scale * override.epochs_scale
        words.append(f"epochs × {override.epochs_scale}")
    return experiment.model_copy(update=changed | {"title": " · ".join(words)})


def _base_weights(config_dir: Path, experiment: ExperimentConfig) -> list[str]:
    """Return the weights that base networks start from; a recipe that is missing says none."""
    places = [experiment.recipes, *(network.recipes for network in experiment.networks.values())]
    names = dict.fromkeys(recipes["base"] for recipes in places if "base" in recipes)
    files = [name for name in names if (config_dir / "recipes" / f"{name}.yaml").is_file()]
    weights = [read_recipe(config_dir, name).weights for name in files]
    return [name for name in weights if name is not None]


def experiment_file(config_dir: Path, name: str) -> Path:
    """Return the file in which an experiment of that name stands."""
    folder = config_dir / "experiments"
    return folder / f"{split_override(folder, name)[0]}.yaml"


def experiment_title(config_dir: Path, name: str) -> str:
    """Return an experiment's title; its name where runs.csv has outlived its file."""
    if not experiment_file(config_dir, name).is_file():
        return name
    return read_experiment(config_dir, name).title


def published_text(config_dir: Path, name: str) -> str:
    """Return an experiment's key `published` as JSON, empty where it has none or no file."""
    if not experiment_file(config_dir, name).is_file():
        return ""
    published = read_experiment(config_dir, name).published
    return "" if published is None else published.model_dump_json()


def read_recipe(config_dir: Path, name: str) -> Recipe:
    """Read a recipe by name; a shortened one by a name that says so.

    What a name says of a data set is left to those who know data sets (`cli.recipes`).
    """
    stem, override = split_override(config_dir / "recipes", name)
    path = named_file(config_dir, "recipe", stem)
    return validate(Recipe, read_yaml(path), str(path)).shortened(override.epochs_scale)


def named_file(config_dir: Path, kind: Literal["experiment", "recipe"], name: str) -> Path:
    """Return the file of an experiment or a recipe; ConfigError names the closest there are."""
    folder = config_dir / f"{kind}s"
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.yaml"))
        raise ConfigError(f"{unknown_name(kind, name, known)} in {folder}")
    return path
