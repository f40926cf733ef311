"""Expand the grid of an experiment into the complete specification of every run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name
from prunebench.data.normalization import normalization
from prunebench.data.registry import dataset_info
from prunebench.experiments.config import (
    Config,
    ExperimentConfig,
    MethodConfig,
    NetworkConfig,
    SettingConfig,
    experiment_file,
    named_file,
    read_experiment,
    read_recipe,
)
from prunebench.experiments.latency_table import LatencyTable
from prunebench.experiments.phases import Budget, RatioKind
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.spec import (
    RESERVED_EXPERIMENTS,
    BaseSpec,
    RunSpec,
    code_of_own,
    ratio_slug,
)
from prunebench.methods.base import MethodOptions, check_hooks
from prunebench.methods.registry import method_class
from prunebench.planning.adapted_recipes import adapted_recipe
from prunebench.planning.added_controls import with_controls
from prunebench.planning.base_keys import following
from prunebench.planning.checks import (
    BASE_ROLE,
    check_bases,
    check_labels,
    check_names,
    check_validation,
    check_widths,
    fail,
    place,
)
from prunebench.planning.setting_options import setting_options


def resolve(config: Config, config_dir: Path) -> list[RunSpec]:
    """Return every run of the configured experiments; ConfigError is a one-line message."""
    for name in config.experiments:
        with place(config_dir / "config.yaml", "experiments"):
            named_file(config_dir, "experiment", experiment_file(config_dir, name).stem)
    runs = [
        run
        for name in config.experiments
        for run in resolve_experiment(name, config_dir, config.seeds, config.ratios)
    ]
    check_bases(runs, config_dir)
    return runs


def resolve_experiment(
    name: str,
    config_dir: Path,
    seeds: tuple[int, ...] | None = None,
    ratios: tuple[str, ...] | None = None,
) -> list[RunSpec]:
    """Return the runs of one experiment in the order of its file.

    `seeds` overrides its seeds. `ratios`, as in paths, are those of its ratios to run.
    """
    experiment = read_experiment(config_dir, name)
    where = experiment_file(config_dir, name)
    if name in RESERVED_EXPERIMENTS:
        reserved = ", ".join(sorted(RESERVED_EXPERIMENTS))
        fail(where, "name", f"{name!r} is a folder in results/; not allowed: {reserved}")
    check_names(experiment, where)
    experiment = with_controls(experiment, config_dir, where)
    runs = list(_Grid(name, experiment, where, config_dir, seeds).runs())
    check_widths(runs, where)
    return _of_ratios(_with_widths(runs), ratios, where)


def _of_ratios(runs: Sequence[RunSpec], ratios: Sequence[str] | None, where: Path) -> list[RunSpec]:
    """Return the runs of some ratios, and those of the unpruned network."""
    if ratios is None:
        return list(runs)
    known = list(dict.fromkeys(run.ratio_slug for run in runs if run.method != "unpruned"))
    for ratio in ratios:
        if ratio not in known:
            raise ConfigError(f"{where}: {unknown_name('ratio', ratio, known)}")
    return [run for run in runs if run.method == "unpruned" or run.ratio_slug in ratios]


def _with_widths(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """Return the runs with the hashes of the runs whose widths they take."""
    hashes = {run.path: run.hash for run in runs if run.widths_from is None}
    return [
        run
        if run.widths_from is None
        else run.model_copy(update={"widths_hash": hashes[run.widths_from]})
        for run in runs
    ]


class _Grid:
    """The cells of one experiment; every error begins with its file and the key."""

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
        self.own_datasets = read_experiment(config_dir, where.stem).datasets  # before any override
        self.recipes: dict[tuple[str, str], tuple[str, Recipe]] = {}

    def runs(self) -> Iterator[RunSpec]:
        """Yield the runs by data set, network, method, setting, ratio and seed, in this order."""
        for dataset in self.experiment.datasets:
            for architecture in self.experiment.networks:
                for method, cell in self.experiment.methods.items():
                    if architecture in (cell.networks or self.experiment.networks):
                        yield from self._of_method(dataset, architecture, method)

    def _of_method(self, dataset: str, architecture: str, method: str) -> Iterator[RunSpec]:
        found, cell = method_class(method), self.experiment.methods[method]
        network = self.experiment.networks[architecture]
        # The recipe of a base network depends on the network only, never on the method.
        shared = {
            "recipes": self.experiment.recipes,
            f"networks.{architecture}.recipes": network.recipes,
        }
        base_name, base_recipe = self._base_recipe(shared, dataset)
        for setting, own in cell.settings.items():
            if architecture not in (own.networks or self.experiment.networks):
                continue
            named = shared | {
                f"methods.{method}.recipes": cell.recipes,
                f"methods.{method}.settings.{setting}.recipes": own.recipes,
            }
            ratios, kind = self._ratios(method, setting)
            options = self._options(method, setting, architecture)
            self._check_widths(method, options, kind)
            chosen = found(options)
            latency = self._latency_table(architecture, dataset) if kind == "latency" else {}
            start = chosen.starts_from()
            recipes = {
                role: self._recipe(named, role, method, dataset) for role in chosen.needed_roles()
            }
            if start == "base":
                recipes = self._following(recipes, base_recipe, dataset)
            for ratio in ratios:
                for seed in self._seeds(own, cell, network):
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
                        revision=chosen.run_revision(Budget(kind=kind, ratio=ratio)),
                        start=start,
                        options=options.model_dump(mode="json", exclude_defaults=True),
                        recipes={role: recipe for role, (_, recipe) in recipes.items()},
                        recipe_names={role: name for role, (name, _) in recipes.items()},
                        base=BaseSpec(
                            dataset=dataset,
                            architecture=architecture,
                            recipe_name=base_name,
                            recipe=base_recipe,
                            # Imported weights are the same for every seed.
                            seed=seed if base_recipe.weights is None else 0,
                            threads=self.experiment.threads,
                            **code_of_own(dataset, architecture),
                        ),
                        **latency,
                    )
                    if options.widths_from is not None:
                        run = run.model_copy(
                            update={"widths_from": _path_of(run, options.widths_from)}
                        )
                    with place(self.where, f"methods.{method}"):
                        phases = chosen.phases(run.recipes, run.budget)
                        check_hooks(chosen, phases)
                        check_validation(run, chosen, phases)
                        check_labels(run, chosen)
                    yield run

    def _seeds(
        self, setting: SettingConfig, cell: MethodConfig, network: NetworkConfig
    ) -> tuple[int, ...]:
        own = setting.seeds or cell.seeds or network.seeds
        return self.seeds or own or self.experiment.seeds

    def _check_widths(self, method: str, options: MethodOptions, kind: RatioKind) -> None:
        """Raise ConfigError unless exactly one setting determines the widths."""
        found, key = method_class(method), f"methods.{method}"
        follows = options.widths_from is not None
        if options.round_to > 1 and not found.rounds_widths:
            fail(self.where, key, f"{method} cannot round widths; remove round_to")
        if follows and not found.takes_widths:
            fail(self.where, key, f"{method} determines its own widths; remove widths_from")
        if follows and options.layer_ratios:
            fail(self.where, key, "widths_from and layer_ratios exclude each other")
        if kind == "auto" and (found.decides_ratio or follows):
            return
        if (kind == "auto") != bool(options.layer_ratios):
            problem = "layer_ratios and ratio_kind 'auto' require each other"
            fail(self.where, key, problem)

    def _latency_table(self, architecture: str, dataset: str) -> dict[str, str]:
        """Return the fields of a specification about the network's latency table."""
        key = f"networks.{architecture}.latency_table"
        own, info = self.experiment.networks[architecture].latency_table, dataset_info(dataset)
        if own is None:
            fail(self.where, key, "ratio_kind 'latency' needs a file of `prunebench latencies`")
        path = self.config_dir / own
        with place(self.where, key):
            table = LatencyTable.read(path)
            table.check(architecture, info.num_classes, info.shape, self.experiment.threads)
        return {"latency_table": str(path), "latency_table_hash": table.hash}

    def _base_recipe(
        self, named: Mapping[str, Mapping[str, str]], dataset: str
    ) -> tuple[str, Recipe]:
        name, recipe = self._recipe(named, BASE_ROLE, "every network", dataset)
        if recipe.epochs is None and recipe.weights is None:
            problem = f"the recipe {name!r} has no epochs, but a base network needs them"
            if dataset not in self.own_datasets:
                problem += f" on {dataset}: its weights are for other images"
            fail(self.where, f"recipes.{BASE_ROLE}", problem)
        return name, recipe

    def _recipe(
        self, named: Mapping[str, Mapping[str, str]], role: str, needed_by: str, dataset: str
    ) -> tuple[str, Recipe]:
        """Return the name and the recipe of a role; the last place that names one counts."""
        keys = [key for key, names in named.items() if role in names]
        if not keys:
            fail(self.where, "recipes", f"the role {role!r} is missing; {needed_by} needs it")
        name = named[keys[-1]][role]
        if (name, dataset) not in self.recipes:
            with place(self.where, f"{keys[-1]}.{role}"):
                named_file(self.config_dir, "recipe", name)
            shortening = self.experiment.shortening
            full = name + shortening.suffix
            self.recipes[name, dataset] = (
                (full, read_recipe(self.config_dir, full))
                if dataset in self.own_datasets
                else adapted_recipe(self.config_dir, name, dataset, shortening)
            )
        full, recipe = self.recipes[name, dataset]
        file = self.config_dir / "recipes" / f"{name}.yaml"
        with place(file, "normalize"):
            normalization(recipe.normalize, dataset_info(dataset))
        with place(file, "augment"):
            dataset_info(dataset).check_augmentation(recipe.augment)
        return full, recipe

    def _following(
        self, recipes: Mapping[str, tuple[str, Recipe]], base: Recipe, dataset: str
    ) -> dict[str, tuple[str, Recipe]]:
        """Return the recipes of a run with the keys of its base network."""
        found = {}
        for role, (name, recipe) in recipes.items():
            with place(self.where, f"recipe {name!r}"):
                found[role] = name, following(recipe, base, dataset_info(dataset))
        return found

    def _ratios(self, method: str, setting: str) -> tuple[tuple[float | None, ...], RatioKind]:
        """Return the ratios of a setting and their kind; (None,) if the options determine it."""
        found, cell = method_class(method), self.experiment.methods[method]
        own = cell.settings[setting].model_dump(include={"ratios", "ratio_kind"})
        given = {name: value for name, value in own.items() if value is not None}
        cell = cell.model_copy(update=given)
        prefix = f"methods.{method}.settings.{setting}" if given else f"methods.{method}"
        key = f"{prefix}.ratios"
        if found.decides_ratio and cell.ratio_kind in (None, "auto"):
            if cell.ratios is not None:
                others = ", ".join(own for own in found.ratio_kinds if own != "auto")
                target = f", or give a ratio_kind of {others}" if others else ""
                problem = f"{method} determines its ratio by its options; remove ratios{target}"
                fail(self.where, key, problem)
            return (None,), "auto"
        kind = self._ratio_kind(method, cell, prefix)
        if kind == "auto":
            if cell.ratios is not None:
                fail(
                    self.where,
                    key,
                    "ratio_kind 'auto' takes layer_ratios or widths_from; remove ratios",
                )
            return (None,), kind
        if found.ratios is not None:
            if cell.ratios is not None and set(cell.ratios) != set(found.ratios):
                problem = f"{method} allows {list(found.ratios)}, not {list(cell.ratios)}"
                fail(self.where, key, problem)
            return found.ratios, kind
        ratios = self.experiment.ratios if cell.ratios is None else cell.ratios
        if not ratios:
            fail(self.where, key, f"{method} needs at least one ratio, here or for all methods")
        slugs = [ratio_slug(ratio, kind) for ratio in ratios]
        if len(set(slugs)) < len(slugs):
            fail(self.where, key, f"a ratio is given twice: {list(ratios)}")
        return ratios, kind

    def _ratio_kind(self, method: str, cell: MethodConfig, prefix: str) -> RatioKind:
        found = method_class(method)
        if found.ratios is not None and cell.ratio_kind is None:
            return "units_per_group"  # its only ratio means the same for every kind
        kind = cell.ratio_kind or self.experiment.ratio_kind
        if kind not in found.ratio_kinds:
            key = f"{prefix}.ratio_kind" if cell.ratio_kind else "ratio_kind"
            problem = unknown_name(f"ratio_kind of {method}", kind, found.ratio_kinds)
            fail(self.where, key, problem)
        return kind

    def _options(self, method: str, setting: str, architecture: str) -> MethodOptions:
        """Return the complete options of one setting on one network, validated."""
        cell = self.experiment.methods[method]
        options = setting_options(method, cell, setting, self.where, architecture)
        return options.shortened(self.experiment.epochs_scale)


def _path_of(run: RunSpec, name: str) -> str:
    """Return the path of the run `name`, a method or method/setting, beside another run."""
    method, _, setting = name.partition("/")
    source = run.model_copy(update={"method": method, "setting": setting or "default"})
    return source.path
