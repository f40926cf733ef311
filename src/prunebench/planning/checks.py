"""Check the parts of an experiment against each other, and the runs of its grid."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from prunebench.core.errors import ConfigError, PrunebenchError
from prunebench.core.names import unknown_name
from prunebench.data.info import DatasetInfo
from prunebench.data.registry import dataset_info
from prunebench.experiments.config import ExperimentConfig, experiment_file
from prunebench.experiments.phases import Phase
from prunebench.experiments.spec import RunSpec, run_parts
from prunebench.methods.base import Method
from prunebench.methods.registry import method_class, usable_methods
from prunebench.models.registry import check_function, is_detector
from prunebench.papers.published import papers, read_published, select

BASE_ROLE = "base"


def check_names(experiment: ExperimentConfig, where: Path) -> None:
    """Raise ConfigError for an unknown data set, network, method, role or row."""
    for dataset in experiment.datasets:
        with place(where, "datasets"):
            info = dataset_info(dataset)
        for architecture in experiment.networks:
            with place(where, "networks"):
                check_task(info, architecture)
                check_function(architecture)
    for method, cell in experiment.methods.items():
        with place(where, "methods"):
            method_class(method)
        named = {"by_network": cell.by_network, "networks": cell.networks}
        named |= {f"settings.{name}.networks": own.networks for name, own in cell.settings.items()}
        for key, architectures in named.items():
            for architecture in architectures or ():
                if architecture not in experiment.networks:
                    sentence = unknown_name(
                        "network of this experiment", architecture, experiment.networks
                    )
                    fail(where, f"methods.{method}.{key}", sentence)
    _check_roles(experiment, where)
    _check_chosen(experiment, where)
    _check_published(experiment, where)


def check_task(info: DatasetInfo, architecture: str) -> None:
    """Raise ConfigError for an unknown network, and for one of another task than the data set's."""
    needed = is_detector(architecture)
    if needed == (info.task == "detection"):
        return
    kind = "a detector, which needs images with boxes" if needed else "no detector"
    has = "boxes" if info.task == "detection" else "one label for each image"
    raise ConfigError(f"{architecture} is {kind}, and {info.name} has {has}")


def check_labels(run: RunSpec, method: Method[Any]) -> None:
    """Raise ConfigError if a method needs images of one class, and the data set has boxes."""
    if method.needs_labels() and dataset_info(run.dataset).task == "detection":
        raise ConfigError(
            f"the scores need one label for each image, and {run.dataset} has boxes; use a "
            "criterion that needs only a loss or weights"
        )


def _check_chosen(experiment: ExperimentConfig, where: Path) -> None:
    """Raise ConfigError if a method of `reference` or `highlight` is not among the methods."""
    if experiment.reference is not None:
        _look_up(where, "reference", "method", experiment.reference, experiment.methods)
    for method in experiment.highlight:
        _look_up(where, "highlight", "method", method, experiment.methods)


def _check_published(experiment: ExperimentConfig, where: Path) -> None:
    """Raise ConfigError for a table, network or row that is in no published CSV."""
    published = experiment.published
    if published is None:
        return
    rows = read_published()
    _look_up(where, "published.paper", "paper", published.paper, papers(rows))
    rows = select(rows, own_only=True, paper=published.paper)
    _look_up(where, "published.table", "table", published.table, {row.table for row in rows})
    rows = select(rows, table=published.table)
    for ours, printed in published.networks.items():
        key = f"published.networks.{ours}"
        _look_up(where, "published.networks", "network", ours, experiment.networks)
        _look_up(where, key, "printed network", printed, {row.architecture for row in rows})
    names = {row.method for row in rows} | {f"{row.method}/{row.setting}" for row in rows}
    for ours, printed in published.rows.items():
        key = "published.rows"
        _look_up(where, key, "method", ours.split("/")[0], experiment.methods)
        key = f"{key}.{ours}"
        _look_up(where, key, "row", "/".join(printed.split("/")[:2]), names)
        if not any(row.is_named(*printed.split("/", 2)) for row in rows):
            problem = f"the table has no row {printed!r}; the third part is the printed ratio"
            fail(where, key, f"{problem}, - if there is none, or the FLOPs, such as flops_m=2044")


def _look_up(where: Path, key: str, kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        fail(where, key, unknown_name(kind, name, known))


def _check_roles(experiment: ExperimentConfig, where: Path) -> None:
    """Raise ConfigError for a role that no method has: its recipe would be ignored.

    Roles of methods that are not in the experiment are allowed, so that methods can be taken out.
    """
    used = {BASE_ROLE}.union(*(method_class(name).recipe_roles for name in experiment.methods))
    places = {"recipes": experiment.recipes, "recipe_cross": experiment.recipe_cross}
    places |= {f"networks.{name}.recipes": n.recipes for name, n in experiment.networks.items()}
    for key, recipes in places.items():
        for role in recipes:
            if role not in used and not _is_role(role):
                fail(where, key, unknown_name("role", role, used))
    if BASE_ROLE in experiment.recipe_cross:
        fail(where, f"recipe_cross.{BASE_ROLE}", "all runs of a network share its base network")
    for method, cell in experiment.methods.items():
        own = method_class(method).recipe_roles
        named = {"recipes": cell.recipes}
        named |= {f"settings.{name}.recipes": s.recipes for name, s in cell.settings.items()}
        for key, recipes in named.items():
            for role in recipes:
                if role not in own:
                    fail(where, f"methods.{method}.{key}", unknown_name("role", role, own))


def _is_role(role: str) -> bool:
    """Whether a method has a role; plug-ins are imported only if no built-in method has it."""
    return any(role in method.recipe_roles for _, method in usable_methods())


def check_widths(runs: Sequence[RunSpec], where: Path) -> None:
    """Raise ConfigError if a control takes its widths from a run that is not in the experiment."""
    followed = {run.path: run for run in runs if run.widths_from is None}
    for run in runs:
        if run.widths_from is not None and run.widths_from not in followed:
            known = [
                f"{other.method}/{other.setting}"
                for other in followed.values()
                if other.path == _moved(run, other).path and other.method != "unpruned"
            ]
            source = run_parts(run.widths_from)
            name = f"{source['method']}/{source['setting']}"
            sentence = unknown_name("run", name, known)
            fail(where, f"methods.{run.method}: widths_from", f"{sentence} at {run.ratio_slug}")


def _moved(run: RunSpec, other: RunSpec) -> RunSpec:
    """Return `run` with the method and the setting of `other`."""
    return run.model_copy(update={"method": other.method, "setting": other.setting})


def check_bases(runs: Sequence[RunSpec], config_dir: Path) -> None:
    """Raise ConfigError if two different base networks would have the same folder."""
    seen: dict[str, RunSpec] = {}
    for run in runs:
        other = seen.setdefault(run.base.path, run)
        if other.base != run.base:
            fail(
                experiment_file(config_dir, run.experiment),
                "threads",
                f"{run.threads} threads here and {other.threads} in the experiment "
                f"{other.experiment!r} would train {run.base.path} differently; use the same "
                "number, or a recipe with another name",
            )


def check_validation(run: RunSpec, method: Method[Any], phases: Iterable[Phase]) -> None:
    """Raise ConfigError if a run without validation images would select something by them.

    Its recipes must also agree on whether there are any.
    """
    own = {} if run.start == "base" else run.recipes
    for role, recipe in own.items():
        if recipe.trained_on != run.trained_on:
            raise ConfigError(
                f"the recipe of {role!r} has trained_on {recipe.trained_on!r}, another one "
                f"{run.trained_on!r}"
            )
    if run.trained_on == "train":
        return
    users = ["the method"] if method.needs_validation else []
    users += [f"phase {phase.name!r}" for phase in phases if phase.keep_best]
    if users:
        whose = "its base network" if run.start == "base" else "the network"
        raise ConfigError(
            f"{users[0]} selects by validation accuracy, but {whose} is trained on the validation "
            f"images too (trained_on: {run.trained_on})"
        )


def fail(where: Path, key: str, problem: str) -> NoReturn:
    """Raise a ConfigError that begins with the file and the key."""
    raise ConfigError(f"{where}: {key}: {problem}")


@contextmanager
def place(where: Path, key: str) -> Iterator[None]:
    """Let errors of a block begin with the file and the key that the block is about."""
    try:
        yield
    except (PrunebenchError, ValueError) as error:
        raise ConfigError(f"{where}: {key}: {error}") from None
