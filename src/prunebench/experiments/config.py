"""The configuration files as frozen models, and the functions that read them.

config/config.yaml selects the experiments to run, config/experiments/<name>.yaml holds one grid of
runs each, and config/recipes/<name>.yaml one way to train. The descriptions of the fields make the
tables of config/README.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name
from prunebench.experiments.machine import Machine
from prunebench.experiments.override import (
    MaxImages,
    MaxSteps,
    MaybeOverride,
    Override,
    Scale,
    check_scale,
    split_override,
)
from prunebench.experiments.phases import RatioKind
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.settings import (
    LARGEST_SEED,
    NAME,
    OWN_OR_NAME,
    DottedSlug,
    OwnOrSlug,
    Seed,
    Settings,
    Slug,
    Threads,
    is_name,
)
from prunebench.experiments.spec import canonical_ratio
from prunebench.experiments.validation import validate
from prunebench.experiments.yaml_file import read_yaml

T = TypeVar("T")


def _as_tuple(value: Any) -> Any:
    """Turn one name or number into a tuple, as `--config experiments=quick` gives it."""
    return (value,) if isinstance(value, str | int) else value


def _as_ratio_names(value: Any) -> Any:
    """Spell ratios as in paths; a command line gives 0.5 as a number, and one without a list."""
    values = (value,) if isinstance(value, str | int | float) else value
    return tuple(canonical_ratio(str(one)) for one in values)


def _without_duplicates(values: tuple[T, ...]) -> tuple[T, ...]:
    for value in values:
        if values.count(value) > 1:
            raise ValueError(f"{value!r} is given twice")
    return values


SMALLEST_RATIO = 1e-6  # it is spelled out in paths
MOST_RUNS_PER_JOB = 1000


def _fraction(ratio: float) -> float:
    if not 0 <= ratio < 1:
        raise ValueError(f"{ratio:g} is not in [0, 1); a ratio is the fraction removed")
    if 0 < ratio < SMALLEST_RATIO:
        raise ValueError(f"{ratio:g} is below {SMALLEST_RATIO:g}, the smallest ratio above 0")
    return ratio


def _one_or_list(item: dict[str, Any]) -> WithJsonSchema:
    """Return the JSON schema of a value that may be given alone or as a list."""
    return WithJsonSchema({"anyOf": [item, {"type": "array", "items": item, "minItems": 1}]})


Ratio = Annotated[
    float,
    AfterValidator(_fraction),
    WithJsonSchema({"type": "number", "minimum": 0, "exclusiveMaximum": 1}),
]
Ratios = Annotated[tuple[Ratio, ...], AfterValidator(_without_duplicates)]
Seeds = Annotated[
    tuple[Seed, ...],
    BeforeValidator(_as_tuple),
    Field(min_length=1),
    AfterValidator(_without_duplicates),
    _one_or_list({"type": "integer", "minimum": 0, "maximum": LARGEST_SEED}),
]
RatioNames = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_ratio_names),
    Field(min_length=1),
    AfterValidator(_without_duplicates),
    _one_or_list({"anyOf": [{"type": "number"}, {"type": "string"}]}),
]
Slugs = Annotated[
    tuple[Slug, ...],
    BeforeValidator(_as_tuple),
    Field(min_length=1),
    AfterValidator(_without_duplicates),
    _one_or_list({"type": "string", "pattern": NAME}),
]
OwnOrSlugs = Annotated[
    tuple[OwnOrSlug, ...],
    BeforeValidator(_as_tuple),
    Field(min_length=1),
    AfterValidator(_without_duplicates),
    _one_or_list({"type": "string", "pattern": OWN_OR_NAME}),
]
Files = Annotated[
    tuple[Path, ...],
    BeforeValidator(_as_tuple),
    AfterValidator(_without_duplicates),
    _one_or_list({"type": "string"}),
]
RecipeNames = dict[Slug, Slug]  # role: name of a file in config/recipes
Control = Literal["unpruned", "random", "l1", "scratch_e", "scratch_b"]
CONTROLS: tuple[Control, ...] = get_args(Control)


class NetworkConfig(Settings):
    """Settings of one network of an experiment; write `{}` for none."""

    seeds: Seeds | None = Field(None, description="Seeds (default: the experiment's).")
    recipes: RecipeNames = Field(
        {},
        description="Recipe of each role that differs for this network; overrides the experiment.",
    )
    latency_table: Path | None = Field(
        None,
        description="File written by `prunebench latencies`, which ratio_kind latency needs; "
        "relative to the configuration folder, as in `latency_tables/resnet20.json` (default: "
        "none).",
    )


class SettingConfig(Settings):
    """A named choice of a method's options. Keys that are not listed here are options."""

    model_config = ConfigDict(extra="allow")

    ratios: Ratios | None = Field(None, description="Fractions removed (default: the method's).")
    ratio_kind: RatioKind | None = Field(
        None, description="The quantity that ratios are a fraction of (default: the method's)."
    )
    networks: OwnOrSlugs | None = Field(
        None,
        description="Networks on which the setting runs (default: the method's).",
    )
    seeds: Seeds | None = Field(None, description="Seeds (default: the method's).")
    recipes: RecipeNames = Field(
        {}, description="Recipe of each role that differs; overrides the method."
    )


class MethodConfig(Settings):
    """One method of an experiment's grid; write `{}` for its defaults."""

    ratios: Ratios | None = Field(
        None,
        description=(
            "Fractions removed (default: the experiment's; none for a method whose options decide "
            "the amount, which has the ratio `auto` in paths)."
        ),
    )
    ratio_kind: RatioKind | None = Field(
        None,
        description=(
            "The quantity that ratios are a fraction of (default: the experiment's, if the method "
            "supports it)."
        ),
    )
    options: dict[str, Any] = Field(
        {}, description="Options of the method in every setting; see `prunebench list options`."
    )
    settings: Annotated[dict[DottedSlug, SettingConfig], Field(min_length=1)] = Field(
        {"default": SettingConfig()},
        description=(
            "Named choices of options, each run separately; a name may contain dots (`beta0.73`)."
        ),
    )
    recipes: RecipeNames = Field(
        {},
        description=(
            "Recipe of each role that differs for this method; overrides the network. The base "
            "network keeps its own recipe."
        ),
    )
    by_network: dict[OwnOrSlug, dict[str, Any]] = Field(
        {}, description="Options for one network each; they override `options` and `settings`."
    )
    networks: OwnOrSlugs | None = Field(
        None,
        description=("Networks on which the method runs (default: all of the experiment)."),
    )
    seeds: Seeds | None = Field(
        None, description="Seeds (default: the network's, or the experiment's)."
    )


class PublishedConfig(Settings):
    """The printed table that an experiment reproduces, and the printed row of each method."""

    model_config = ConfigDict(title="Printed table")

    paper: Slug = Field(description="Name of a file in `src/prunebench/papers/published_rows/`.")
    table: str = Field(description="Table, as in the column `table` of that file.")
    networks: dict[OwnOrSlug, Slug] = Field(
        {}, description="The paper's name of each network that it calls differently."
    )
    rows: Annotated[dict[str, str], Field(min_length=1)] = Field(
        description=(
            "Printed row of each method, `method/setting` or `method/setting/ratio` (as in "
            "results paths), in the same form. A method that is not listed is a control. A row "
            "without a ratio is the one that prints ours: 0.5 of `units_per_group` is 50, 0.5 of "
            "`macs` is 50 or the speedup 2.00. `method/setting/-` is a row that prints no ratio; "
            "`method/setting/flops_m=2044` picks one of several."
        )
    )

    def name_of(
        self, architecture: str, method: str, setting: str, ratio: str
    ) -> dict[str, str | None] | None:
        """Return the names of a cell's printed row; None if the table has no such row.

        A setting or ratio that `rows` does not give is None: the row is the one with ours. The
        unpruned network is always the row "baseline".
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
    """A named grid: data sets × networks × methods × settings × ratios × seeds."""

    title: str = Field(description="Title above the tables.")
    datasets: OwnOrSlugs = Field(
        description="Data sets; see `prunebench list datasets`. `module:function` is one of your "
        "own."
    )
    networks: Annotated[dict[OwnOrSlug, NetworkConfig], Field(min_length=1)] = Field(
        description=(
            "Networks and their settings; see `prunebench list networks`. `vgg16_x0_25` has a "
            "quarter of the width of `vgg16`, and `module:function` is a network of your own."
        )
    )
    methods: Annotated[dict[Slug, MethodConfig], Field(min_length=1)] = Field(
        description="Methods and their settings; see `prunebench list methods`."
    )
    recipes: RecipeNames = Field(
        description=(
            "Recipe of each role: `base` trains the base networks, and each method names its "
            "further roles. A role that no method knows is an error."
        )
    )
    seeds: Seeds = Field(description="Seeds of initialization, data order and augmentation.")
    ratios: Ratios = Field(
        (), description="Fractions removed, for methods that name no ratios of their own."
    )
    ratio_kind: RatioKind = Field(
        "units_per_group",
        description=(
            "The quantity that ratios are a fraction of, for methods that name none of their own."
        ),
    )
    threads: Threads = Field(
        1, description="Number of PyTorch threads of every job; changes results bit for bit."
    )
    published: PublishedConfig | None = Field(
        None, description="Printed table that the results are compared with (default: none)."
    )
    reference: Slug | None = Field(
        None,
        description="Method to which tables also form differences, besides `l1` (default: none).",
    )
    controls: bool | Annotated[tuple[Control, ...], AfterValidator(_without_duplicates)] = Field(
        False,
        description=(
            "Controls to add, or true for all: `unpruned`, also trained for as long; `random` and "
            "`l1` under the same training; and `random`, `l1`, `scratch_e` and `scratch_b` at the "
            "widths of each setting of a method that chooses its own widths."
        ),
    )
    recipe_cross: RecipeNames = Field(
        {},
        description=(
            "A second recipe by role: every setting that trains with the role runs under both "
            "(`default` and `default_with_<recipe>`), and tables do not rank methods whose order "
            "depends on it (default: none)."
        ),
    )
    highlight: Annotated[tuple[Slug, ...], AfterValidator(_without_duplicates)] = Field(
        (),
        max_length=8,
        description=(
            "Methods that figures draw in color, at most eight; all others are a grey band "
            "(default: one method of each paper, `l1`, plug-ins, `random`, and others, up to "
            "eight)."
        ),
    )
    epochs_scale: Scale = 1.0
    max_steps: MaxSteps = None
    max_images: MaxImages = None

    @property
    def shortening(self) -> Override:
        """Return what shortens all recipes of the experiment."""
        return Override(
            epochs_scale=self.epochs_scale, max_steps=self.max_steps, max_images=self.max_images
        )

    @property
    def wanted_controls(self) -> tuple[Control, ...]:
        """Return the controls that `controls` names."""
        if isinstance(self.controls, bool):
            return CONTROLS if self.controls else ()
        return self.controls


class Selection(Settings):
    """The runs that config/config.yaml selects."""

    experiments: Slugs = Field(description="Experiments to run; see `prunebench list experiments`.")
    override: MaybeOverride = Field(
        None,
        description=(
            "Changes to all experiments, which become part of their names (default: none). On a "
            """command line: `--config 'override={"dataset": "digits", "epochs_scale": 0.1}'`."""
        ),
    )
    seeds: Seeds | None = Field(None, description="Seeds (default: each experiment's own).")
    ratios: RatioNames | None = Field(
        None,
        description="Ratios to run, as in results paths, such as 0.5, macs-0.5 or auto (default: "
        "all of each experiment).",
    )
    reuse: Files = Field(
        (),
        description=(
            "Stored `runs.csv` files: a run whose specification, data and base network are those "
            "of a row is not run again (default: none)."
        ),
    )
    runs_per_job: int = Field(
        1,
        ge=1,
        le=MOST_RUNS_PER_JOB,
        description=(
            "Number of runs of a network that one job trains, one after another; for runs of a few "
            "minutes on a cluster, where starting a job takes as long."
        ),
    )


class Config(Machine, Selection):
    """The experiments to run, and the settings of the machine: config/config.yaml."""

    @property
    def machine(self) -> Machine:
        """Return the settings of the machine alone."""
        return Machine(**{name: getattr(self, name) for name in Machine.model_fields})


def read_config(path: Path) -> Config:
    """Read config/config.yaml."""
    return _overridden(validate(Config, read_yaml(path), str(path)))


def merged_config(content: Any, config_dir: Path) -> Config:
    """Validate the content that Snakemake merged from config/config.yaml and its command line."""
    return _overridden(validate(Config, content, f"{config_dir / 'config.yaml'} with --config"))


def _overridden(config: Config) -> Config:
    """Return the configuration with `override` moved into the names of its experiments."""
    if config.override is None:
        return config
    names = tuple(f"{name}{config.override.suffix}" for name in config.experiments)
    return config.model_copy(update={"experiments": names, "override": None})


def read_experiment(config_dir: Path, name: str) -> ExperimentConfig:
    """Read an experiment by name; the name may end in an override, as in `greg_table1_x0_05`."""
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
    scale = experiment.epochs_scale * override.epochs_scale
    check_scale(scale, f"{path}: epochs_scale")
    changed["epochs_scale"] = scale
    for key in ("max_steps", "max_images"):
        limits = [getattr(one, key) for one in (experiment, override)]
        changed[key] = min((limit for limit in limits if limit is not None), default=None)
    experiment = experiment.model_copy(update=changed)
    title = " · ".join([*words, *experiment.shortening.words])
    return experiment.model_copy(update={"title": title})


def _base_weights(config_dir: Path, experiment: ExperimentConfig) -> list[str]:
    """Return the pretrained weights of the base networks; missing recipes are skipped."""
    places = [experiment.recipes, *(network.recipes for network in experiment.networks.values())]
    names = dict.fromkeys(recipes["base"] for recipes in places if "base" in recipes)
    files = [name for name in names if (config_dir / "recipes" / f"{name}.yaml").is_file()]
    weights = [read_recipe(config_dir, name).weights for name in files]
    return [name for name in weights if name is not None]


def experiment_file(config_dir: Path, name: str) -> Path:
    """Return the path of an experiment's file."""
    folder = config_dir / "experiments"
    return folder / f"{split_override(folder, name)[0]}.yaml"


def table_options(config_dir: Path, name: str) -> dict[str, str]:
    """Return the options of `prunebench tables` that an experiment sets, by name.

    Without its file, the title is the experiment's name.
    """
    if not experiment_file(config_dir, name).is_file():
        return {"title": name}
    experiment = read_experiment(config_dir, name)
    options = {"title": experiment.title, "reference": experiment.reference}
    return {option: value for option, value in options.items() if value is not None}


def highlighted_methods(config_dir: Path, name: str) -> tuple[str, ...]:
    """Return an experiment's key `highlight`; empty without the key or the file."""
    if not experiment_file(config_dir, name).is_file():
        return ()
    return read_experiment(config_dir, name).highlight


def published_text(config_dir: Path, name: str) -> str:
    """Return an experiment's key `published` as JSON; empty without the key or the file."""
    if not experiment_file(config_dir, name).is_file():
        return ""
    published = read_experiment(config_dir, name).published
    return "" if published is None else published.model_dump_json()


def read_recipe(config_dir: Path, name: str) -> Recipe:
    """Read a recipe by name; the name may end in an override, as in `digits_base_x0_1`.

    The data set in such a name is ignored here: `planning.adapted_recipes` adapts the recipe to it.
    """
    stem, override = split_override(config_dir / "recipes", name)
    path = named_file(config_dir, "recipe", stem)
    recipe = validate(Recipe, read_yaml(path), str(path))
    for key in ("max_steps", "max_images"):
        if getattr(recipe, key) is not None:
            raise ConfigError(f"{path}: {key}: set it in the override or in the experiment instead")
    return recipe.shortened(override.epochs_scale).limited(override.max_steps, override.max_images)


def named_file(config_dir: Path, kind: Literal["experiment", "recipe"], name: str) -> Path:
    """Return the file of an experiment or a recipe; ConfigError suggests similar names."""
    folder = config_dir / f"{kind}s"
    path = folder / f"{name}.yaml"
    if not is_name(name) or not path.is_file():
        known = [file.stem for file in named_files(config_dir, kind)]
        if name not in known:  # a broken link is known; its reader names it
            raise ConfigError(f"{unknown_name(kind, name, known)} in {folder}")
    return path


def named_files(config_dir: Path, kind: Literal["experiment", "recipe"]) -> list[Path]:
    """Return the files of all experiments or recipes; ConfigError without their folder."""
    folder = config_dir / f"{kind}s"
    if not folder.is_dir():
        if folder.is_absolute():
            raise ConfigError(f"{folder}: no such folder")
        raise ConfigError(
            f"{folder}: no such folder in {Path.cwd()}; run in the folder that holds {config_dir}/ "
            "(snakemake: --directory), or make one: prunebench init FOLDER"
        )
    return sorted(folder.glob("*.yaml"))
