"""From the configuration files to the complete specification of every run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from prunebench.core.config import (
    Config,
    ExperimentConfig,
    MethodConfig,
    NetworkConfig,
    read_experiment,
    read_recipe,
    read_yaml,
    validate,
)
from prunebench.core.errors import ConfigError, PrunebenchError
from prunebench.core.names import unknown_name
from prunebench.core.phases import RatioKind
from prunebench.core.recipe import Recipe
from prunebench.core.spec import RESERVED_EXPERIMENTS, BaseSpec, RunSpec, ratio_slug
from prunebench.data.normalization import normalization
from prunebench.data.registry import dataset_info
from prunebench.methods.base import Method
from prunebench.methods.registry import method_class
from prunebench.models.registry import split_width

BASE_ROLE = "base"


def resolve(config: Config, config_dir: Path) -> list[RunSpec]:
    """Return every run of the configured experiments; ConfigError is one sentence."""
    runs = [
        run
        for name in config.experiments
        for run in resolve_experiment(name, config_dir, config.seeds)
    ]
    _check_bases(runs)
    return runs


def resolve_experiment(
    name: str, config_dir: Path, seeds: tuple[int, ...] | None = None
) -> list[RunSpec]:
    """Return the runs of one experiment, in the order of its file; `seeds` overrides its own."""
    experiment = read_experiment(config_dir, name)
    where = config_dir / "experiments" / f"{name}.yaml"
    if name in RESERVED_EXPERIMENTS:
        raise ConfigError(f"{where}: {name!r} is no name for an experiment, results/ uses it")
    runs = list(_Grid(name, experiment, where, config_dir, seeds).runs())
    _check_widths(runs, where)
    return runs


class _Grid:
    """The cells of one experiment; every error names its file and the key."""

    def __init__(
        self,
        name: str,
        experiment: ExperimentConfig,
        where: Path,
        config_dir: Path,
        seeds: tuple[int, ...] | None,
    ) -> None:
        self.name, self.experiment, self.where = name, experiment, where
        self.config_dir, self.seeds = config_dir, seeds
        self.recipes: dict[str, Recipe] = {}

    def runs(self) -> Iterator[RunSpec]:
        """Yield the runs: data set, network, method, setting, ratio, seed."""
        self._check_names()
        for dataset in self.experiment.datasets:
            for architecture, network in self.experiment.networks.items():
                for method, cell in self.experiment.methods.items():
                    yield from self._of_method(dataset, architecture, network, method, cell)

    def _check_names(self) -> None:
        with self._at("datasets"):
            for dataset in self.experiment.datasets:
                dataset_info(dataset)
        with self._at("networks"):
            for architecture in self.experiment.networks:
                split_width(architecture)
        with self._at("methods"):
            for method in self.experiment.methods:
                method_class(method)
        for method, cell in self.experiment.methods.items():
            for architecture in cell.by_network:
                if architecture not in self.experiment.networks:
                    known = list(self.experiment.networks)
                    self._fail(
                        f"methods.{method}.by_network",
                        unknown_name("network of this experiment", architecture, known),
                    )

    def _of_method(
        self,
        dataset: str,
        architecture: str,
        network: NetworkConfig,
        method: str,
        cell: MethodConfig,
    ) -> Iterator[RunSpec]:
        found = method_class(method)
        names = {**self.experiment.recipes, **network.recipes, **cell.recipes}
        used = {role: self._recipe(names, role, method) for role in found.recipe_roles}
        # A base network belongs to its network's recipe, whatever a method trains with.
        base_names = {**self.experiment.recipes, **network.recipes}
        base_recipe = self._recipe(base_names, BASE_ROLE, method)
        with self._at(f"recipes of {method}"):
            for recipe in (base_recipe, *used.values()):
                normalization(recipe.normalize, dataset_info(dataset))
        if base_recipe.epochs is None:
            self._fail("recipes.base", f"the recipe {base_names[BASE_ROLE]!r} says no epochs")
        ratios, kind = self._ratios(method, found, cell)
        for setting, own in cell.settings.items():
            options = self._options(method, found, setting, architecture, cell, own)
            for ratio in ratios:
                for seed in self.seeds or network.seeds or self.experiment.seeds:
                    run = RunSpec(
                        experiment=self.name,
                        dataset=dataset,
                        architecture=architecture,
                        method=method,
                        setting=setting,
                        ratio=ratio,
                        ratio_kind=kind,
                        seed=seed,
                        threads=self.experiment.threads,
                        revision=found.revision,
                        start=found.start,
                        options=options.model_dump(mode="json"),
                        recipes=used,
                        recipe_names={role: names[role] for role in used},
                        base=BaseSpec(
                            dataset=dataset,
                            architecture=architecture,
                            recipe_name=base_names[BASE_ROLE],
                            recipe=base_recipe,
                            seed=seed,
                            threads=self.experiment.threads,
                        ),
                    )
                    if found.takes_widths:
                        run = run.model_copy(update={"widths_from": _widths_path(run)})
                    self._check_phases(run, found, options)
                    yield run

    def _recipe(self, names: Mapping[str, str], role: str, method: str) -> Recipe:
        if role not in names:
            self._fail("recipes", f"the role {role!r} is missing, {method} needs it")
        name = names[role]
        if name not in self.recipes:
            with self._at(f"recipes.{role}"):
                self.recipes[name] = read_recipe(self.config_dir, name)
        return self.recipes[name]

    def _ratios(
        self, method: str, found: type[Method[Any]], cell: MethodConfig
    ) -> tuple[tuple[float | None, ...], RatioKind]:
        """Return the ratios of a method and their kind; a method may have a knob of its own."""
        key = f"methods.{method}.ratios"
        if found.ratio_kinds == ("auto",):
            if cell.ratios is not None or cell.ratio_kind not in (None, "auto"):
                self._fail(key, f"{method} decides by its options how much leaves; give no ratio")
            return (None,), "auto"
        kind = cell.ratio_kind or self.experiment.ratio_kind
        if found.ratios is not None:
            if cell.ratios is not None and set(cell.ratios) != set(found.ratios):
                self._fail(key, f"{method} allows {list(found.ratios)}, not {list(cell.ratios)}")
            return found.ratios, "units_per_group"
        if kind not in found.ratio_kinds:
            self._fail(
                f"methods.{method}.ratio_kind",
                unknown_name(f"ratio_kind of {method}", kind, found.ratio_kinds),
            )
        ratios = self.experiment.ratios if cell.ratios is None else cell.ratios
        if not ratios:
            self._fail(key, f"{method} needs a ratio at least")
        slugs = [ratio_slug(ratio, kind) for ratio in ratios]
        if len(set(slugs)) < len(slugs):
            self._fail(key, f"a ratio is given twice: {list(ratios)}")
        return ratios, kind

    def _options(
        self,
        method: str,
        found: type[Method[Any]],
        setting: str,
        architecture: str,
        cell: MethodConfig,
        own: Mapping[str, Any],
    ) -> Any:
        """Return the options of one setting on one network, checked and complete."""
        merged = {**cell.options, **own, **cell.by_network.get(architecture, {})}
        place = f"{self.where}: methods.{method}, options of the setting {setting!r}"
        return validate(found.Options, merged, place)

    def _check_phases(self, run: RunSpec, found: type[Method[Any]], options: Any) -> None:
        try:
            found(options).phases(run.recipes, run.budget)
        except ValueError as error:
            self._fail(f"methods.{run.method}", str(error))

    def _at(self, key: str) -> _Place:
        return _Place(f"{self.where}: {key}")

    def _fail(self, key: str, problem: str) -> Any:
        raise ConfigError(f"{self.where}: {key}: {problem}")


class _Place:
    """A block whose errors begin with the file and key it is about."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, PrunebenchError):
            raise ConfigError(f"{self.where}: {error}") from None


def _widths_path(run: RunSpec) -> str:
    """Return the path of the run whose widths a control takes over."""
    method, _, setting = str(run.options["widths_from"]).partition("/")
    source = run.model_copy(update={"method": method, "setting": setting or "default"})
    return source.path


def _check_widths(runs: list[RunSpec], where: Path) -> None:
    """Raise ConfigError where a control follows a run that the experiment does not have."""
    paths = {run.path: run for run in runs}
    for run in runs:
        if run.widths_from is None:
            continue
        source = paths.get(run.widths_from)
        if source is None or source.widths_from is not None:
            problem = "itself takes over widths" if source else "is not among the experiment's runs"
            raise ConfigError(
                f"{where}: methods.{run.method}: widths_from "
                f"{run.options['widths_from']!r} leads to {run.widths_from}, which {problem}"
            )


def _check_bases(runs: list[RunSpec]) -> None:
    """Raise ConfigError where two specifications would share one base network's folder."""
    seen: dict[str, RunSpec] = {}
    for run in runs:
        other = seen.setdefault(run.base.path, run)
        if other.base != run.base:
            raise ConfigError(
                f"the experiments {other.experiment!r} and {run.experiment!r} train "
                f"{run.base.path} with {other.base.threads} and {run.base.threads} threads; "
                "give one of them a recipe of another name"
            )


def config_from(content: Any, config_dir: Path) -> Config:
    """Return a configuration that Snakemake has merged from file and command line."""
    path = config_dir / "config.yaml"
    if path.is_file():
        read_yaml(path)  # a key given twice is an error, which Snakemake would not see
    return validate(Config, content, f"{path} with --config")
