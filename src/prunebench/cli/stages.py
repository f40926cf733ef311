"""The stages that compute: data, base, prune, measure. Only these import torch."""

from __future__ import annotations

from typing import Annotated

import typer

from prunebench.cli.options import (
    CONFIG,
    RESULTS,
    Architecture,
    ConfigFile,
    Dataset,
    Expect,
    Experiment,
    Results,
    Runs,
    SomeArchitecture,
    SomeDataset,
    among,
    machine_options,
)
from prunebench.core.errors import ConfigError, PrunebenchError
from prunebench.experiments.machine import Machine
from prunebench.planning.lookup import (
    check_expected,
    experiment_runs,
    fitting_runs,
    one_run,
)


@machine_options("data_dir")
def data(
    dataset: Dataset,
    *,
    machine: Machine,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
) -> None:
    """Make a data set's file of tensors, downloaded where need be."""
    from prunebench.data.dataset import prepare
    from prunebench.experiments.spec import data_path

    prepare(dataset, machine.data_dir, data_path(results, dataset))
    typer.echo(f"{dataset} · {data_path(results, dataset)}")


@machine_options()
def base(
    dataset: Dataset,
    architecture: Architecture,
    recipe: Annotated[str, typer.Option(help="Name of a file in config/recipes.")],
    *,
    machine: Machine,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of torch; part of the result.")] = 1,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    expect: Expect = None,
) -> None:
    """Train a base network, or go on with one, or take given weights."""
    from prunebench.data.registry import dataset_info
    from prunebench.experiments.spec import BaseSpec
    from prunebench.models.registry import split_width
    from prunebench.planning.moved_recipes import recipe_on
    from prunebench.training.progress import make_progress
    from prunebench.training.train import train_base

    info = dataset_info(dataset)
    split_width(architecture)
    spec = BaseSpec(
        dataset=dataset,
        architecture=architecture,
        recipe_name=recipe,
        recipe=recipe_on(config.parent, recipe, dataset),
        seed=seed,
        threads=threads,
    )
    if spec.recipe.epochs is None and spec.recipe.weights is None:
        raise ConfigError(f"--recipe: {recipe!r} has no epochs, which a base network needs")
    info.check_augmentation(spec.recipe.augment)
    check_expected(spec, expect)
    with make_progress() as progress:
        train_base(spec, results, machine=machine, progress=progress)


@machine_options()
def prune(
    method: Annotated[str, typer.Option(help="Name of a method; `prunebench list methods`.")],
    *,
    machine: Machine,
    experiment: Experiment = None,
    dataset: SomeDataset = None,
    architecture: SomeArchitecture = None,
    setting: Annotated[
        str | None, typer.Option(help="Of the method's options; needed where there are several.")
    ] = None,
    ratio: Annotated[
        str | None,
        typer.Option(help="As in results paths: 0.5, macs-0.5, auto; needed where several."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Needed where there are several."),
    ] = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    runs: Runs = None,
    expect: Expect = None,
) -> None:
    """Run one method on one base network, or go on with it.

    A run is one cell of an experiment; options that leave one cell only need not be given.
    """
    _known_method(method)
    from prunebench.training.progress import make_progress
    from prunebench.training.train import train_run

    spec = one_run(
        experiment_runs(experiment, config=config, results=results, resolved=runs),
        method=method,
        dataset=dataset,
        architecture=architecture,
        setting=setting,
        ratio=ratio,
        seed=seed,
    )
    check_expected(spec, expect)
    with make_progress() as progress:
        train_run(spec, results, machine=machine, progress=progress)


@machine_options("device")
def measure(
    *,
    machine: Machine,
    experiment: Experiment = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Which of the two; both without it.",
            metavar="cost|latency",
            callback=among("cost", "latency"),
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="All without it.")] = None,
    architecture: Annotated[str | None, typer.Option(help="All networks without it.")] = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    runs: Runs = None,
) -> None:
    """Count and time finished runs.

    Operations and parameters go to metrics.json; latency.json holds the times of the pruned
    network and of its base, interleaved. What is measured already is kept.
    """
    from prunebench.measure.stored_runs import measure_runs

    chosen = fitting_runs(
        experiment_runs(experiment, config=config, results=results, resolved=runs),
        dataset=dataset,
        architecture=architecture,
    )
    for line in measure_runs(chosen, results, only=only, device=machine.device):
        typer.echo(line)


def _known_method(name: str) -> None:
    from prunebench.core.names import look_up
    from prunebench.methods.registry import method_paths

    try:
        look_up("method", name, method_paths())
    except PrunebenchError as error:
        raise ConfigError(f"{error}; `prunebench list methods` says what each does") from None
