"""The sub-commands. Each imports what it needs when it runs: only training imports torch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli import find
from prunebench.core.errors import ConfigError, PrunebenchError
from prunebench.core.names import unknown_name

app = typer.Typer(
    help=(
        "Benchmark CNN pruning. The stages, in the order in which data flow: data, base, prune, "
        "measure, collect, tables, figures. `snakemake --cores all` runs them all; each also "
        "works alone, and goes on where an earlier call was stopped."
    ),
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _among(*allowed: str) -> Callable[[typer.CallbackParam, str | None], str | None]:
    """Return the check of an option that has few values."""

    def check(param: typer.CallbackParam, value: str | None) -> str | None:
        if value is not None and value not in allowed:
            raise ConfigError(f"{param.opts[0]}: {unknown_name('value', value, allowed)}")
        return value

    return check


Results = Annotated[Path, typer.Option(help="Folder of all results.")]
ConfigFile = Annotated[
    Path, typer.Option("--config", help="The configuration; experiments/ and recipes/ are beside.")
]
Runs = Annotated[
    Path | None,
    typer.Option(help="A file written by `resolve`, instead of the configuration."),
]
Experiment = Annotated[
    str | None,
    typer.Option(help="File in config/experiments; needed where the configuration has several."),
]
Dataset = Annotated[str, typer.Option(help="Name of a data set; `prunebench list datasets`.")]
Architecture = Annotated[str, typer.Option(help="Name of a network; `prunebench list networks`.")]
SomeDataset = Annotated[
    str | None, typer.Option(help="Of the run; needed where there are several.")
]
SomeArchitecture = Annotated[
    str | None, typer.Option(help="Network; needed where there are several.")
]
Expect = Annotated[
    str | None,
    typer.Option(help="Hash that the specification must have; the workflow's own check."),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where to compute; without it as configured.",
        metavar="auto|cpu|cuda",
        callback=_among("auto", "cpu", "cuda"),
    ),
]
CheckpointSeconds = Annotated[
    float | None,
    typer.Option(min=0, help="Between checkpoints; without it as configured."),
]

CONFIG, RESULTS = Path("config/config.yaml"), Path("results")


@app.command()
def resolve(
    config: Annotated[
        str, typer.Option(help="The configuration file; - reads it from standard input as JSON.")
    ] = str(CONFIG),
    config_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of experiments/ and recipes/; without it the file's own."),
    ] = None,
    results: Results = RESULTS,
) -> None:
    """Check the configuration and write down all its runs.

    The file is resolved/runs.json below the results; it holds every run's full specification.
    """
    from prunebench.cli.resolve import resolve as resolve_all
    from prunebench.core.config import merged_config, read_config
    from prunebench.core.resolved import RESOLVED_FILE, resolution_key, write_resolved

    if config == "-":
        folder = config_dir or CONFIG.parent
        settings = merged_config(_standard_input(), folder)
    else:
        folder = config_dir or Path(config).parent
        settings = read_config(Path(config))
    runs = resolve_all(settings, folder)
    key = resolution_key(settings.model_dump(mode="json"), folder)
    write_resolved(results / RESOLVED_FILE, runs, key)
    typer.echo(f"{len(runs)} runs · {results / RESOLVED_FILE}")


def _standard_input() -> object:
    try:
        content: object = json.load(sys.stdin)
    except ValueError as error:
        raise ConfigError(f"standard input is not JSON ({error})") from None
    return content


@app.command()
def data(
    dataset: Dataset,
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the sources; without it as configured."),
    ] = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
) -> None:
    """Make one file of tensors of a data set, downloaded where need be."""
    from prunebench.core.spec import data_path
    from prunebench.data.stage import prepare

    source = data_dir or Path(find.settings_of(config).data_dir)
    prepare(dataset, source, data_path(results, dataset))
    typer.echo(f"{dataset} · {data_path(results, dataset)}")


@app.command()
def base(
    dataset: Dataset,
    architecture: Architecture,
    recipe: Annotated[str, typer.Option(help="Name of a file in config/recipes.")],
    seed: Annotated[int, typer.Option(min=0, help="Of weights and order.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="Of torch; part of the result.")] = 1,
    device: Device = None,
    checkpoint_seconds: CheckpointSeconds = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    expect: Expect = None,
) -> None:
    """Train a base network, or go on with one."""
    from prunebench.core.config import read_recipe
    from prunebench.core.spec import BaseSpec
    from prunebench.data.registry import dataset_info
    from prunebench.models.registry import split_width
    from prunebench.training.progress import make_progress
    from prunebench.training.stage import train_base

    dataset_info(dataset)
    split_width(architecture)
    spec = BaseSpec(
        dataset=dataset,
        architecture=architecture,
        recipe_name=recipe,
        recipe=read_recipe(config.parent, recipe),
        seed=seed,
        threads=threads,
    )
    if spec.recipe.epochs is None:
        raise ConfigError(f"--recipe: {recipe!r} has no epochs, which a base network needs")
    find.check_expected(spec, expect)
    settings = find.settings_of(config)
    with make_progress() as progress:
        train_base(
            spec,
            results,
            device=device or settings.device,
            checkpoint_seconds=_given(checkpoint_seconds, settings.checkpoint_seconds),
            progress=progress,
        )


@app.command()
def prune(
    method: Annotated[str, typer.Option(help="Name of a method; `prunebench list methods`.")],
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
    device: Device = None,
    checkpoint_seconds: CheckpointSeconds = None,
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
    from prunebench.training.stage import train_run

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
    settings = find.settings_of(config)
    with make_progress() as progress:
        train_run(
            spec,
            results,
            device=device or settings.device,
            checkpoint_seconds=_given(checkpoint_seconds, settings.checkpoint_seconds),
            progress=progress,
        )


@app.command()
def measure(
    experiment: Experiment = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Which of the two; both without it.",
            metavar="cost|latency",
            callback=_among("cost", "latency"),
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="All without it.")] = None,
    architecture: Annotated[str | None, typer.Option(help="All networks without it.")] = None,
    device: Device = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    runs: Runs = None,
) -> None:
    """Count and time finished runs.

    Operations and parameters go to metrics.json; latency.json holds the times of the pruned
    network and of its base, interleaved. What is measured already is kept.
    """
    from prunebench.measure.experiment import measure_runs

    chosen = find.fitting_runs(
        find.experiment_runs(experiment, config=config, results=results, resolved=runs),
        dataset=dataset,
        architecture=architecture,
    )
    where = device or find.settings_of(config).device
    for line in measure_runs(chosen, results, only=only, device=where):
        typer.echo(line)


@app.command()
def collect(
    experiment: Experiment = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    runs: Runs = None,
) -> None:
    """Gather an experiment's runs into one runs.csv."""
    from prunebench.core.config import read_experiment
    from prunebench.report.collect import collect_to_csv

    specs = find.experiment_runs(experiment, config=config, results=results, resolved=runs)
    entries = [spec.model_dump(mode="json") for spec in specs]
    name = specs[0].experiment
    path = collect_to_csv(results, name, entries, read_experiment(config.parent, name))
    typer.echo(f"{len(specs)} runs · {path}")


RunsCsv = Annotated[Path, typer.Option(help="A table of runs, as `collect` writes it.")]
Out = Annotated[Path, typer.Option(help="Folder of what is written.")]


@app.command()
def tables(
    runs_csv: RunsCsv,
    out: Out,
    title: Annotated[str | None, typer.Option(help="Above the table.")] = None,
) -> None:
    """Write the summary of a runs.csv as CSV, Markdown, LaTeX and HTML.

    Runs that belong to a printed table are put beside it: published.csv, .md, .tex, .html.
    """
    from prunebench.report.comparison_table import write_comparison
    from prunebench.report.tables import write_tables

    for path in [*write_tables(runs_csv, out, title), *write_comparison(runs_csv, out, title)]:
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
    """Write a pruned network as a torch.export program."""
    from prunebench.measure.network import export_torch

    export_torch(run, out)
    typer.echo(str(out))


@app.command()
def groups(
    architecture: Annotated[
        str,
        typer.Argument(help="Name of a network, or module:function, as torchvision.models:vgg16."),
    ],
    num_classes: Annotated[
        int | None, typer.Option(min=1, help="Without it 10, or what the function defaults to.")
    ] = None,
    image: Annotated[str, typer.Option(help="Channels, height and width.")] = "3x32x32",
    grouped: Annotated[
        str,
        typer.Option(
            help="Units of grouped convolutions: whole groups, or the same place in all.",
            metavar="auto|whole|local",
            callback=_among("auto", "whole", "local"),
        ),
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="An .svg file: the layers, coupled ones in one color.")
    ] = None,
) -> None:
    """Show which channels of a network leave together.

    Also which cannot leave and why, and how small the network can become.
    """
    from prunebench.cli.groups import report

    for line in report(architecture, num_classes, image, grouped, out):
        typer.echo(line)


@app.command("list")
def list_names(
    what: Annotated[
        str | None,
        typer.Argument(
            help="datasets, experiments, methods, networks, options or recipes; all without it."
        ),
    ] = None,
    config: ConfigFile = CONFIG,
) -> None:
    """List the names that configurations may use."""
    from prunebench.cli.names import LISTS
    from prunebench.core.names import look_up

    for heading in LISTS if what is None else [what]:
        lines = look_up("list", heading, LISTS)(config.parent)
        if what is None:
            typer.echo(f"{heading}:")
        for name, words in lines:
            typer.echo(f"{'' if what else '  '}{name:<24} {words}".rstrip())


@app.command()
def schemas(out: Out = Path("workflow/schemas")) -> None:
    """Write the JSON schemas of the configuration files, for editors."""
    from prunebench.core.config import Config, ExperimentConfig
    from prunebench.core.files import write_json
    from prunebench.core.recipe import Recipe

    for name, model in (("config", Config), ("experiment", ExperimentConfig), ("recipe", Recipe)):
        path = out / f"{name}.schema.json"
        write_json(path, {"$schema": SCHEMA_DIALECT, **model.model_json_schema()})
        typer.echo(str(path))


SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def _known_method(name: str) -> None:
    from prunebench.core.names import look_up
    from prunebench.methods.registry import method_paths

    try:
        look_up("method", name, method_paths())
    except PrunebenchError as error:
        raise ConfigError(f"{error}; `prunebench list methods` says what each does") from None


def _given(value: float | None, configured: float) -> float:
    return configured if value is None else value
