"""Sub-commands around an experiment: plan, doctor and compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.options import (
    CONFIG,
    RESULTS,
    ConfigFile,
    Experiment,
    Results,
    experiment_option,
    machine_options,
)
from prunebench.core.errors import ConfigError
from prunebench.experiments.machine import Machine
from prunebench.planning.lookup import experiment_runs, only_experiment, settings_of


@experiment_option
@machine_options("device")
def plan(
    experiment: Experiment = None,
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
    from prunebench.cli.plan_text import lines_of
    from prunebench.planning.experiment_plan import planned

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
    methods: Annotated[
        list[str],
        typer.Argument(metavar="METHOD", help="Methods to run (see `prunebench list methods`)."),
    ],
    stored: Annotated[
        Path, typer.Option("--with", help="runs.csv of an experiment, to compare with.")
    ],
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, the experiment's first.")] = 3,
    ratio: Annotated[
        list[str] | None,
        typer.Option(
            help="Ratio to run, as in results paths: 0.5, macs-0.5, auto (default: all of the "
            "experiment); can be repeated."
        ),
    ] = None,
    epochs_scale: Annotated[
        float, typer.Option(help="Trial: factor of the epochs of all recipes.")
    ] = 1.0,
    max_steps: Annotated[
        int | None, typer.Option(help="Trial: largest number of steps of each training phase.")
    ] = None,
    max_images: Annotated[
        int | None, typer.Option(help="Trial: largest number of images of each split.")
    ] = None,
    cores: Annotated[str, typer.Option(help="Number of cores of the workflow, or all.")] = "all",
    out: Annotated[
        Path | None, typer.Option(help="Folder to write to (default: beside the runs).")
    ] = None,
    config: ConfigFile = CONFIG,
) -> None:
    """Run methods, and show them beside stored rows.

    Only the methods' own runs are trained, by the workflow of this folder, each method in an
    experiment EXPERIMENT_with_METHOD with the data, networks, ratios and recipes of the stored one.
    Its file is written once and then used as it is. Prints a table of the ratios that were run, the
    differences to every other method, paired by seed, and the paths of the whole table and the
    figure. A trial only shows that the methods run: shortened runs are not compared.
    """
    from prunebench.cli.compared_method import (
        experiment_of,
        report,
        run_workflow,
        seeds_of,
        trial_report,
        write_experiment,
    )
    from prunebench.experiments.override import Override, split_override
    from prunebench.experiments.validation import validate

    limits = {"epochs_scale": epochs_scale, "max_steps": max_steps, "max_images": max_images}
    trial = validate(Override, limits, "trial")
    experiment, folder = experiment_of(stored), config.parent
    if trial.suffix and split_override(folder / "experiments", experiment)[1].suffix:
        raise ConfigError(
            f"{stored}: its runs are shortened already; leave out the trial's options"
        )
    names = {}
    for method in methods:
        name, words = write_experiment(method, experiment, folder)
        names[method] = f"{name}{trial.suffix}"
        typer.echo(words)
    chosen = seeds_of(experiment, folder, seeds)
    files = run_workflow(
        list(names.values()), stored, seeds=chosen, ratios=ratio or [], cores=cores
    )
    new = dict(zip(names, files, strict=True))
    if trial.suffix:
        lines = trial_report(new, trial)
    else:
        together = files[0].parents[1] / f"{experiment}_with_{'_'.join(names)}"
        lines = report(stored, new, out or together / "compared")
    for line in lines:
        typer.echo(line)
