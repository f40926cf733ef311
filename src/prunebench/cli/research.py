"""Sub-commands around an experiment: plan, doctor and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.options import CONFIG, RESULTS, ConfigFile, Results, machine_options
from prunebench.experiments.machine import Machine
from prunebench.planning.lookup import experiment_runs, only_experiment, settings_of


@machine_options("device")
def plan(
    experiment: Annotated[
        str | None,
        typer.Argument(help="Experiment; required if the configuration has more than one."),
    ] = None,
    *,
    machine: Machine,
    recorded: Annotated[
        list[Path] | None,
        typer.Option(
            help="runs.csv of finished runs (default: all below the results); can be repeated.",
            metavar="FILE",
        ),
    ] = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
) -> None:
    """Estimate hours, disk and memory of an experiment.

    Each stage is listed with its jobs. Hours are those of recorded runs of the same method, network
    and recipes. Other runs count by their work, multiply-accumulates times images times epochs, at
    the speed of the network: that of recorded runs or, without any, as measured here in a few
    seconds.
    """
    from prunebench.cli.experiment_plan import lines_of, planned

    name = experiment or only_experiment(config)
    runs = experiment_runs(name, config=config, results=results, resolved=None)
    found = planned(runs, results, recorded or [], settings_of(config), machine)
    for line in lines_of(found):
        typer.echo(line)


def doctor(config: ConfigFile = CONFIG, results: Results = RESULTS) -> None:
    """Check what this machine and the experiments lack.

    The check covers packages, GPU, processor and its speed, disk, data sets, weights and SLURM.
    Each problem comes with what to do. Exits with 1 if something is missing that the configured
    experiments need.
    """
    from prunebench.cli.diagnosis import findings, lines_of

    found = list(findings(config, results))
    for line in lines_of(found):
        typer.echo(line)
    if any(one.state == "missing" for one in found):
        raise typer.Exit(1)


def compare(
    method: Annotated[str, typer.Argument(help="Method to run (see `prunebench list methods`).")],
    stored: Annotated[
        Path, typer.Option("--with", help="runs.csv of an experiment, to compare with.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, the experiment's first.")] = 3,
    cores: Annotated[str, typer.Option(help="Number of cores of the workflow, or all.")] = "all",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to (default: beside the runs).")
    ] = None,
    config: ConfigFile = CONFIG,
) -> None:
    """Run one method, and show it beside stored rows.

    Only the method's own runs are trained, by the workflow of this folder, in an experiment
    EXPERIMENT_with_METHOD with the data, networks, ratios and recipes of the stored one. Its file
    is written once and then used as it is. Prints the table, the differences to every other method,
    paired by seed, and the path of the figure.
    """
    from prunebench.cli.compared_method import (
        experiment_of,
        report,
        run_workflow,
        seeds_of,
        write_experiment,
    )

    experiment, folder = experiment_of(stored), config.parent
    name, words = write_experiment(method, experiment, folder)
    typer.echo(words)
    new = run_workflow(name, stored, seeds_of(experiment, folder, seeds), cores)
    for line in report(stored, new, method, out or new.parent / "compared"):
        typer.echo(line)
