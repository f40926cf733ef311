"""Sub-commands that compute: data, base, prune, measure, latencies and additivity."""

from __future__ import annotations

from pathlib import Path
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
    Logs,
    Results,
    RunPaths,
    Runs,
    SomeArchitecture,
    SomeDataset,
    Threads,
    among,
    experiment_option,
    machine_options,
)
from prunebench.core.errors import ConfigError, PrunebenchError
from prunebench.experiments.machine import Machine
from prunebench.experiments.settings import LARGEST_SEED, MOST_THREADS
from prunebench.planning.lookup import (
    check_expected,
    experiment_runs,
    fitting_runs,
    named_runs,
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
    """Store and describe a data set, downloaded if needed."""
    from prunebench.data.dataset import prepare, summary
    from prunebench.experiments.spec import data_path

    path = data_path(results, dataset)
    prepare(dataset, machine.data_dir, path)
    typer.echo(f"{dataset} · {path}")
    for name, words in summary(path).items():
        typer.echo(f"  {name:<8} {words}")


@machine_options()
def base(
    dataset: Dataset,
    architecture: Architecture,
    recipe: Annotated[str, typer.Option(help="Recipe: the name of a file in config/recipes.")],
    *,
    machine: Machine,
    seed: Annotated[
        int,
        typer.Option(
            min=0, max=LARGEST_SEED, help="Seed of the initial weights and the order of images."
        ),
    ] = 0,
    threads: Threads = 1,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Print the matched names of imported weights, and stop."),
    ] = False,
    logs: Logs = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    expect: Expect = None,
) -> None:
    """Train a base network, resume it, or import pretrained weights."""
    from prunebench.data.registry import dataset_info
    from prunebench.experiments.spec import BaseSpec, code_of_own
    from prunebench.planning.adapted_recipes import recipe_on
    from prunebench.planning.checks import check_task
    from prunebench.training.progress import make_progress
    from prunebench.training.run_log import run_log
    from prunebench.training.train import train_base

    info = dataset_info(dataset)
    check_task(info, architecture)
    spec = BaseSpec(
        dataset=dataset,
        architecture=architecture,
        recipe_name=recipe,
        recipe=recipe_on(config.parent, recipe, dataset),
        seed=seed,
        threads=threads,
        **code_of_own(dataset, architecture),
    )
    if spec.recipe.epochs is None and spec.recipe.weights is None:
        raise ConfigError(f"--recipe: {recipe!r} has no epochs, but a base network needs them")
    info.check_augmentation(spec.recipe.augment)
    check_expected([spec], expect)
    if dry_run:
        from prunebench.training.pretrained import matched_weights

        for line in matched_weights(spec, info, machine.data_dir):
            typer.echo(line)
        return
    with make_progress() as progress, run_log(logs, spec.path, progress):
        train_base(spec, results, machine=machine, progress=progress)


@experiment_option
@machine_options()
def prune(
    *,
    machine: Machine,
    method: Annotated[
        str | None, typer.Option(help="Method (see `prunebench list methods`); or use --run.")
    ] = None,
    experiment: Experiment = None,
    dataset: SomeDataset = None,
    architecture: SomeArchitecture = None,
    setting: Annotated[
        str | None, typer.Option(help="Setting; required if the method has more than one.")
    ] = None,
    ratio: Annotated[
        str | None,
        typer.Option(
            help="Ratio as in results paths: 0.5, macs-0.5, auto; required if more than one fits."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed; required if more than one fits."),
    ] = None,
    every: Annotated[
        bool,
        typer.Option(
            "--every",
            help="Run all fitting runs in this process; they load the data and compute equal "
            "importance scores once.",
        ),
    ] = False,
    run: RunPaths = None,
    logs: Logs = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    runs: Runs = None,
    expect: Expect = None,
) -> None:
    """Prune a base network with one method, or resume the run.

    The run is one cell of an experiment. Options that the experiment leaves no choice for can be
    omitted; with --every, all runs that fit the given options are run, and with --run those of the
    given paths. A run that fails does not stop the others.
    """
    wanted = {
        "method": method,
        "dataset": dataset,
        "architecture": architecture,
        "setting": setting,
        "ratio": ratio,
        "seed": seed,
    }
    if run:
        _refuse("not allowed with --run", every=every or None, **wanted)
    elif method is None:
        raise ConfigError("--method: needed without --run; see `prunebench list methods`")
    else:
        _known_method(method)
    from prunebench.training.progress import make_progress
    from prunebench.training.run_log import run_log
    from prunebench.training.several_runs import train_runs
    from prunebench.training.train import train_run

    known = experiment_runs(experiment, config=config, results=results, resolved=runs)
    if run:
        specs = named_runs(known, run)
    else:
        specs = fitting_runs(known, **wanted) if every else [one_run(known, **wanted)]
    check_expected(specs, expect)
    with make_progress() as progress:
        if run or every:
            train_runs(specs, results, machine=machine, progress=progress, logs=logs)
            return
        with run_log(logs, specs[0].path, progress):
            train_run(specs[0], results, machine=machine, progress=progress)


@experiment_option
@machine_options("device", "capture")
def measure(
    *,
    machine: Machine,
    experiment: Experiment = None,
    only: Annotated[
        str | None,
        typer.Option(
            help="Measure only one of the two (default: both).",
            metavar="cost|latency",
            callback=among("cost", "latency"),
        ),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set (default: all).")] = None,
    architecture: Annotated[str | None, typer.Option(help="Network (default: all).")] = None,
    run: RunPaths = None,
    finished: Annotated[
        bool, typer.Option("--finished", help="Skip runs whose training has not ended.")
    ] = False,
    rows: Annotated[
        Path | None,
        typer.Option(
            help="File to keep the rows of runs in that have both cost and latency, so that "
            "`collect` need not read the runs.",
            metavar="FILE",
        ),
    ] = None,
    latency: Annotated[
        Path | None,
        typer.Option(
            help="Folder of one finished run or base network, to time again and print as a table.",
            metavar="RUN",
        ),
    ] = None,
    per_layer: Annotated[
        bool,
        typer.Option(
            "--per-layer", help="With --latency: also time each convolution, linear and norm layer."
        ),
    ] = False,
    write: Annotated[
        bool,
        typer.Option(
            "--write/--no-write",
            help="With --latency: replace the times in latency.json, or only print them.",
        ),
    ] = True,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    runs: Runs = None,
) -> None:
    """Measure the costs and latencies of finished runs.

    Multiply-accumulates and parameters are written to metrics.json, and what a detector finds in
    four images to detections.json. latency.json has the times of the pruned network and of its base
    network, measured in turns; a detector is timed without and with the post-processing that
    selects boxes. Earlier measurements of the same weights are kept.

    `--latency RUN` times one run again, of any experiment, and prints medians, quartiles and
    whether the times are stable.
    """
    if latency is not None:
        from prunebench.cli.timing import time_stored_run
        from prunebench.measure.claimed_gpus import claimed_device

        _refuse(
            "not allowed with --latency, which measures one run",
            experiment=experiment,
            only=only,
            dataset=dataset,
            architecture=architecture,
            run=run,
            finished=finished or None,
            rows=rows,
            runs=runs,
        )
        with claimed_device(machine.device) as claimed:
            for line in time_stored_run(
                latency,
                device=claimed.type,
                capture=machine.capture,
                per_layer=per_layer,
                write=write,
            ):
                typer.echo(line)
        return
    _refuse("needs --latency RUN", per_layer=per_layer or None, no_write=None if write else True)
    from prunebench.experiments.reuse import is_stored
    from prunebench.measure.stored_runs import measure_runs

    known = experiment_runs(experiment, config=config, results=results, resolved=runs)
    if run:
        _refuse("not allowed with --run", dataset=dataset, architecture=architecture)
        chosen = named_runs(known, run)
    else:
        chosen = fitting_runs(known, dataset=dataset, architecture=architecture)
    if finished:
        chosen = [run for run in chosen if is_stored(results / run.path, run.hash)]
    for line in measure_runs(
        chosen, results, only=only, device=machine.device, capture=machine.capture
    ):
        typer.echo(line)
    if rows is not None:
        from prunebench.report.collect import keep_rows

        keep_rows(results, chosen, rows)


@machine_options("device")
def latencies(
    architecture: Architecture,
    dataset: Dataset,
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    *,
    machine: Machine,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 64,
    threads: Annotated[
        int, typer.Option(min=1, max=MOST_THREADS, help="Number of PyTorch threads on a CPU.")
    ] = 1,
    precision: Annotated[
        str,
        typer.Option(
            help="Arithmetic.",
            metavar="fp32|tf32|bf16",
            callback=among("fp32", "tf32", "bf16"),
        ),
    ] = "fp32",
    points: Annotated[
        int,
        typer.Option(
            min=1,
            help="Maximum number of widths per dimension at which a layer is timed; their "
            "neighbors come on top.",
        ),
    ] = 8,
    config: ConfigFile = CONFIG,
) -> None:
    """Measure the layer latencies of a network, for latency targets.

    The file holds the time of each layer at several numbers of outputs and inputs, from which the
    latency of a whole network is predicted. An experiment names it as the network's
    `latency_table`. Run this alone on the machine. The printed table compares whole networks,
    measured and predicted.
    """
    import torch

    from prunebench.data.registry import dataset_info
    from prunebench.measure.claimed_gpus import claimed_device
    from prunebench.measure.width_latencies import measure_table
    from prunebench.models.registry import build
    from prunebench.planning.checks import check_task
    from prunebench.training.memory import keep_freed_memory

    info = dataset_info(dataset)
    check_task(info, architecture)
    torch.set_num_threads(threads)
    with claimed_device(machine.device) as device:
        if device.type == "cpu":
            keep_freed_memory()  # as in a training job, which measures the latency that it reached
        table = measure_table(
            build(architecture, num_classes=info.num_classes, in_channels=info.shape[0]),
            architecture=architecture,
            num_classes=info.num_classes,
            image=info.shape,
            batch_size=batch_size,
            device=device.type,
            precision=precision,  # type: ignore[arg-type]
            points=points,
        )
    table.write(out)
    typer.echo(f"{architecture} · {table.device} · {threads} threads · batch {batch_size} · {out}")
    typer.echo(f"  {'network':<20} {'measured':>9} {'predicted':>9}  ms")
    for one in table.networks:
        off = one.predicted_ms / one.measured_ms - 1
        times = f"{one.measured_ms:>9.4g} {one.predicted_ms:>9.4g}"
        typer.echo(f"  {one.name:<20} {times}  {off:+.1%}")


@experiment_option
def additivity(
    *,
    experiment: Experiment = None,
    finished: Annotated[
        bool, typer.Option("--finished", help="Skip runs whose training has not ended.")
    ] = False,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    runs: Runs = None,
) -> None:
    """Measure how additive filter importance is, in runs of ratio 0.

    The importance of random halves of each layer's filters is compared with the sum over their
    filters. Writes additivity.csv beside the experiment's runs.csv, with a row per run.
    """
    from prunebench.experiments.reuse import is_stored
    from prunebench.measure.additivity import FILE, measure_stored, write_additivity

    known = experiment_runs(experiment, config=config, results=results, resolved=runs)
    chosen = [run for run in known.values() if run.ratio == 0]
    if finished:
        chosen = [run for run in chosen if is_stored(results / run.path, run.hash)]
    if not chosen:
        raise ConfigError("no run of ratio 0 to measure: its whole network is compared")
    rows = []
    for run, row in zip(chosen, measure_stored(chosen, results), strict=True):
        rows.append(row)
        typer.echo(
            f"{run.path} · error {row['additivity_error']:.3f} · "
            f"correlation {row['additivity_correlation']:.3f}"
        )
    path = results / chosen[0].experiment / FILE
    write_additivity(rows, path)
    typer.echo(f"{len(rows)} runs · {path}")


def _known_method(name: str) -> None:
    from prunebench.core.plug_ins import registered_name
    from prunebench.methods.registry import method_paths

    try:
        registered_name("method", name, method_paths())
    except PrunebenchError as error:
        raise ConfigError(f"{error}; see `prunebench list methods`") from None


def _refuse(reason: str, **given: object) -> None:
    """Raise ConfigError if one of the options is given."""
    for name, value in given.items():
        if value is not None:
            raise ConfigError(f"--{name.replace('_', '-')}: {reason}")
