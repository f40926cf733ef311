"""The sub-commands. Each imports what it needs when it runs: only training imports torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from prunebench.cli import find
from prunebench.core.errors import ConfigError, PrunebenchError

app = typer.Typer(
    help="Benchmark CNN pruning: every stage of the workflow as a command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Results = Annotated[Path, typer.Option(help="Folder of all results.")]
ConfigFile = Annotated[Path, typer.Option("--config", help="The configuration file.")]
Runs = Annotated[
    Optional[Path],  # noqa: UP045 (typer reads it at run time)
    typer.Option(help="A file written by `resolve`, instead of the configuration."),
]
Experiment = Annotated[str, typer.Option(help="Name of a file in config/experiments.")]
Expect = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Hash that the specification must have; the workflow's own check."),
]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
CheckpointSeconds = Annotated[float, typer.Option(help="Interval between two checkpoints.")]
Text = Optional[str]  # noqa: UP045
Number = Optional[int]  # noqa: UP045

CONFIG, RESULTS = Path("config/config.yaml"), Path("results")


@app.command()
def resolve(
    config: Annotated[str, typer.Option(help="The configuration file; - reads JSON.")] = str(
        CONFIG
    ),
    config_dir: Annotated[
        Path, typer.Option(help="Folder of experiments, recipes.")
    ] = CONFIG.parent,
    results: Results = RESULTS,
) -> None:
    """Check the configuration and write every run with its full specification."""
    from prunebench.cli.resolve import config_from
    from prunebench.cli.resolve import resolve as resolve_all
    from prunebench.core.config import read_config
    from prunebench.core.resolved import RESOLVED_FILE, resolution_key, write_resolved

    if config == "-":
        settings = config_from(json.load(sys.stdin), config_dir)
    else:
        settings, config_dir = read_config(Path(config)), Path(config).parent
    runs = resolve_all(settings, config_dir)
    key = resolution_key(settings.model_dump(mode="json"), config_dir)
    write_resolved(results / RESOLVED_FILE, runs, key)
    typer.echo(f"{len(runs)} runs · {results / RESOLVED_FILE}")


@app.command()
def data(
    dataset: Annotated[str, typer.Option(help="Name of a data set.")],
    data_dir: Annotated[Path, typer.Option(help="Folder of the sources.")] = Path("data"),
    results: Results = RESULTS,
) -> None:
    """Turn a data set's source into one file of tensors; download it where that is possible."""
    from prunebench.core.spec import data_path
    from prunebench.data.stage import prepare

    prepare(dataset, data_dir, data_path(results, dataset))
    typer.echo(f"{dataset} · {data_path(results, dataset)}")


@app.command()
def base(
    dataset: Annotated[str, typer.Option(help="Name of a data set.")],
    architecture: Annotated[str, typer.Option(help="Name of a network.")],
    recipe: Annotated[str, typer.Option(help="Name of a file in config/recipes.")],
    seed: Annotated[int, typer.Option(min=0)] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of torch; part of the result.")] = 1,
    device: Device = "auto",
    checkpoint_seconds: CheckpointSeconds = 60.0,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    expect: Expect = None,
) -> None:
    """Train a base network, or go on where an earlier call was stopped."""
    from prunebench.core.config import read_recipe
    from prunebench.core.spec import BaseSpec
    from prunebench.training.progress import make_progress
    from prunebench.training.stage import train_base

    spec = BaseSpec(
        dataset=dataset,
        architecture=architecture,
        recipe_name=recipe,
        recipe=read_recipe(config.parent, recipe),
        seed=seed,
        threads=threads,
    )
    find.check_expected(spec, expect)
    with make_progress() as progress:
        train_base(
            spec,
            results,
            device=device,
            checkpoint_seconds=checkpoint_seconds,
            progress=progress,
        )


@app.command()
def prune(
    experiment: Experiment,
    method: Annotated[str, typer.Option(help="Name of a method; `prunebench list methods`.")],
    dataset: Text = None,
    architecture: Text = None,
    setting: Text = None,
    ratio: Annotated[Text, typer.Option(help="As in results paths: 0.5, macs-0.5, auto.")] = None,
    seed: Number = None,
    device: Device = "auto",
    checkpoint_seconds: CheckpointSeconds = 60.0,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    runs: Runs = None,
    expect: Expect = None,
) -> None:
    """Run one method on one base network, or go on where an earlier call was stopped."""
    from prunebench.training.progress import make_progress
    from prunebench.training.stage import train_run

    _known_method(method)
    spec = find.one_run(
        find.experiment_runs(experiment, config=config, results=results, resolved=runs),
        method=method,
        dataset=dataset,
        architecture=architecture,
        setting=setting,
        ratio=ratio,
        seed=seed,
    )
    find.check_expected(spec, expect)
    with make_progress() as progress:
        train_run(
            spec,
            results,
            device=device,
            checkpoint_seconds=checkpoint_seconds,
            progress=progress,
        )


@app.command()
def measure(
    experiment: Experiment,
    only: Annotated[Text, typer.Option(help="cost or latency; both without it.")] = None,
    dataset: Text = None,
    architecture: Text = None,
    device: Device = "auto",
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    runs: Runs = None,
) -> None:
    """Count operations and parameters of an experiment's runs, and time them beside their base."""
    from prunebench.measure.experiment import measure_runs

    if only not in (None, "cost", "latency"):
        raise ConfigError(f"--only: {only!r} is not allowed; allowed: cost, latency")
    chosen = [
        run
        for run in find.experiment_runs(experiment, config=config, results=results, resolved=runs)
        if dataset in (None, run.dataset) and architecture in (None, run.architecture)
    ]
    if not chosen:
        raise ConfigError(f"{experiment}: no run on {dataset} with {architecture}")
    for line in measure_runs(chosen, results, only=only, device=device):
        typer.echo(line)


@app.command()
def collect(
    experiment: Experiment,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    runs: Runs = None,
) -> None:
    """Gather an experiment's runs into one table, runs.csv."""
    from prunebench.report.collect import collect_to_csv

    specs = find.experiment_runs(experiment, config=config, results=results, resolved=runs)
    path = collect_to_csv(results, experiment, [spec.model_dump(mode="json") for spec in specs])
    typer.echo(f"{len(specs)} runs · {path}")


RunsCsv = Annotated[Path, typer.Option(help="A table of runs, as `collect` writes it.")]
Out = Annotated[Path, typer.Option(help="Folder of what is written.")]


@app.command()
def tables(
    runs_csv: RunsCsv,
    out: Out,
    title: Annotated[Text, typer.Option(help="Above the table.")] = None,
) -> None:
    """Write the summary of a runs.csv as CSV, Markdown, LaTeX and HTML."""
    from prunebench.report.tables import write_tables

    for path in write_tables(runs_csv, out, title):
        typer.echo(str(path))


@app.command()
def figures(runs_csv: RunsCsv, out: Out) -> None:
    """Draw the figures of a runs.csv as SVG and PNG."""
    from prunebench.report.figures import write_figures

    for path in write_figures(runs_csv, out):
        typer.echo(str(path))


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    out: Annotated[Path, typer.Option(help="The .pt2 file to write.")],
) -> None:
    """Write a pruned network as a `torch.export` program, for any batch size."""
    from prunebench.measure.network import export_torch

    export_torch(run, out)
    typer.echo(str(out))


@app.command("list")
def list_names(
    what: Annotated[str, typer.Argument(help="methods, networks, datasets, experiments, recipes.")],
    config: ConfigFile = CONFIG,
) -> None:
    """List the names that configurations may use."""
    from prunebench.cli.names import LISTS
    from prunebench.core.names import look_up

    for name, words in look_up("list", what, LISTS)(config.parent):
        typer.echo(f"{name:<20} {words}".rstrip())


@app.command()
def schemas(out: Out = Path("workflow/schemas")) -> None:
    """Write the JSON schemas of the configuration files, for editors."""
    from prunebench.core.config import Config, ExperimentConfig
    from prunebench.core.files import write_json
    from prunebench.core.recipe import Recipe

    for name, model in (("config", Config), ("experiment", ExperimentConfig), ("recipe", Recipe)):
        write_json(out / f"{name}.schema.json", model.model_json_schema())
        typer.echo(str(out / f"{name}.schema.json"))


def _known_method(name: str) -> None:
    from prunebench.core.names import look_up
    from prunebench.methods.registry import method_paths

    try:
        look_up("method", name, method_paths())
    except PrunebenchError as error:
        raise ConfigError(f"{error}; `prunebench list methods` says what each does") from None
