"""Sub-commands that read results, from collect to diff. None imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.options import (
    CONFIG,
    RESULTS,
    ConfigFile,
    Experiment,
    Out,
    Results,
    Runs,
    RunsCsv,
    among,
    experiment_option,
)
from prunebench.core.errors import ResultError
from prunebench.planning.lookup import entries_of, experiment_runs, only_experiment
from prunebench.report.figures.figure_options import STYLES, Options

Title = Annotated[
    str | None, typer.Option(help="Title of the tables (default: names of the experiments).")
]
Reference = Annotated[
    str | None,
    typer.Option(help="Method to which differences are also formed (default: l1 only)."),
]


@experiment_option
def collect(
    experiment: Experiment = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    runs: Runs = None,
    reuse: Annotated[
        list[Path] | None,
        typer.Option(help="Stored runs.csv, whose rows stand for runs that are not stored here."),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(
            help="Merge the rows of all finished runs into this runs.csv, and replace none "
            "(default: write the experiment's runs.csv)."
        ),
    ] = None,
    finished: Annotated[
        bool,
        typer.Option(
            "--finished",
            help="Leave out runs without a result, and list them in missing.csv beside runs.csv.",
        ),
    ] = False,
) -> None:
    """Collect the results of an experiment's runs into one runs.csv.

    Runs whose files have not changed since the last time are not read again: their rows are kept in
    collected.jsonl beside it, which may be deleted.
    """
    from prunebench.experiments.config import read_experiment
    from prunebench.methods.source_code import method_code
    from prunebench.report import collect as rows
    from prunebench.report.merge import merge_into
    from prunebench.report.missing_runs import write_missing
    from prunebench.report.run_states import states_of

    found = experiment_runs(experiment, config=config, results=results, resolved=runs)
    specs = list(found.values())
    name, files = specs[0].experiment, tuple(reuse or ())
    grid = read_experiment(config.parent, name)
    if into is None:
        done = rows.finished(results, specs, files) if finished else specs
        if not done:
            raise ResultError(f"no run of {name} is finished")
        path = rows.collect_to_csv(results, name, done, grid, method_code, files)
        there = {spec.path for spec in done}
        states = states_of(results, *entries_of(found)) if len(done) < len(specs) else ()
        write_missing(path.parent, (s for s in states if s.path in found and s.path not in there))
        typer.echo(f"{len(done)} runs · {path}")
    else:
        done, path = rows.finished(results, specs, files), into
        new = rows.collect(results, done, grid, method_code, files)
        added = merge_into(path, new, list(found))
        typer.echo(f"{added} rows added, {len(done) - added} were there · {path}")
        if len(done) < len(specs):
            typer.echo(f"{len(specs) - len(done)} of {len(specs)} runs are not finished here")
    _say_other_code(path)


def tables(
    runs_csv: RunsCsv,
    out: Out,
    title: Title = None,
    reference: Reference = None,
) -> None:
    """Write the tables of a runs.csv: CSV, Markdown, LaTeX, HTML.

    summary_short.md has a row per method of the papers and per reference, at one ratio.
    fairness.md has the epochs and the cost of each row's training, and fairness.csv the fairness
    level of every pair of rows. checklist.md and .tex answer the evaluation checklist of Blalock et
    al. from the runs, for a paper's appendix. by_class.csv and .md have the AP of each class of
    detectors. Runs that belong to a printed table are also compared with it: published.csv, .md,
    .tex and .html.
    """
    from prunebench.papers.comparison_table import write_comparison
    from prunebench.report.by_class_table import write_by_class
    from prunebench.report.checklist import write_checklist
    from prunebench.report.fairness_table import write_fairness
    from prunebench.report.summary_table import write_summary

    paths = write_summary(runs_csv, out, title, reference)
    paths += write_fairness(runs_csv, out, title)
    paths += write_by_class(runs_csv, out, title)
    paths += write_checklist(runs_csv, out, title)
    paths += write_comparison(runs_csv, out, title)
    for path in paths:
        typer.echo(str(path))
    _say_other_code(runs_csv)


def figures(
    runs_csv: RunsCsv,
    out: Out,
    style: Annotated[
        str,
        typer.Option(
            help="Width of the figures: column (90 mm) or page (180 mm).", callback=among(*STYLES)
        ),
    ] = "page",
    highlight: Annotated[
        list[str] | None,
        typer.Option(
            help="Method to draw in color, up to eight times (default: one method of each paper, "
            "l1, plug-ins, random, and others, up to eight)."
        ),
    ] = None,
) -> None:
    """Draw the figures of a runs.csv as SVG, PNG and PDF.

    Text has 8 pt at printed size. At most eight lines of a panel are in color; the others are a
    grey band.

    Detectors get a figure of what they find in a few pictures, detections, if detections.json lies
    beside the runs.csv. Runs that try several values of EPruner's beta get a figure of the MACs
    kept, macs_of_beta.
    """
    from prunebench.papers.beta_figure import write_macs_of_beta
    from prunebench.report.figures.detections import write_detections_figure
    from prunebench.report.figures.registry import write_figures

    options = Options(style, tuple(dict.fromkeys(highlight or ())))
    for write in (write_figures, write_detections_figure, write_macs_of_beta):
        for path in write(runs_csv, out, options):
            typer.echo(str(path))


def claims(
    results: Annotated[
        Path,
        typer.Option(help="Folder with a runs.csv per experiment, such as results/reference."),
    ] = RESULTS,
    out: Out = RESULTS / "claims",
) -> None:
    """Test the papers' claims on stored runs.

    Writes claims.md, claims.html and claims.csv with a row per claim: effect, interval over seeds,
    number of seeds, verdict; claims_short.md with the main questions; and the figure claims.
    Claims without runs are listed with the command that runs them.
    """
    from prunebench.report.claims.claims_page import write_claims

    for path in write_claims(results, out):
        typer.echo(str(path))


def report(
    runs_csv: RunsCsv,
    out: Out,
    title: Title = None,
    reference: Reference = None,
) -> None:
    """Write the report of a runs.csv, and pages of its runs.

    index.html holds verdicts, interactive figures and tables. It needs no other file and no
    network. Its accuracies link to the pages in runs/, which show specification, training, widths
    and costs of the cell's runs.
    """
    from prunebench.papers.comparison_table import printed_part
    from prunebench.report.missing_runs import read_missing
    from prunebench.report.pages.report_page import write_report
    from prunebench.report.runs_csv import read_runs

    frame, missing = read_runs(runs_csv), read_missing(runs_csv)
    printed = printed_part(frame, title)
    for path in write_report(frame, out, title, reference, printed, missing):
        typer.echo(str(path))


@experiment_option
def status(
    experiment: Experiment = None,
    config: ConfigFile = CONFIG,
    results: Results = RESULTS,
    lines: Annotated[
        int, typer.Option(min=0, help="Last lines of the logs of failed and running runs.")
    ] = 3,
    every: Annotated[
        bool, typer.Option("--every", help="List all runs, not only some of each state.")
    ] = False,
) -> None:
    """Show which runs are done, running, failed or waiting.

    The runs are those that the workflow or `prunebench resolve` has planned last.
    Failed runs are listed with the reason and the last lines of their log. Exits with 0 if all are
    done, with 1 if one has failed, and with 3 if some are running or waiting.
    """
    from prunebench.experiments.resolved import read_resolved, resolved_file
    from prunebench.report.run_states import described, exit_code, states_of

    name = experiment or only_experiment(config)
    runs = read_resolved(resolved_file(results, name))
    states = list(states_of(results, *entries_of(runs)))
    for line in described(states, lines=lines, most=None if every else 10):
        typer.echo(line)
    if code := exit_code(states):
        raise typer.Exit(code)


def show(folder: Annotated[Path, typer.Argument(help="Folder of a run or base network.")]) -> None:
    """Show everything that a stored run records."""
    from prunebench.report.run_diff import shown

    for line in shown(folder):
        typer.echo(line)


def diff(
    first: Annotated[Path, typer.Argument(help="Folder of a run or base network.")],
    second: Annotated[Path, typer.Argument(help="Folder of another one.")],
) -> None:
    """Show what differs between two stored runs.

    First come the causes, the most likely one first; then the first row of their histories that
    differs, the first layer with other units, weights and accuracy. Times and measured latencies
    are not compared. Exits with 1 if anything differs.
    """
    from prunebench.report.run_diff import differences

    lines = list(differences(first, second))
    for line in lines or ["no differences"]:
        typer.echo(line)
    if lines:
        raise typer.Exit(1)


def _say_other_code(runs_csv: Path) -> None:
    """Print how to repeat the runs whose method's source code has changed since."""
    from prunebench.report.other_code import rerun_lines
    from prunebench.report.runs_csv import read_runs

    for line in rerun_lines(read_runs(runs_csv)):
        typer.echo(line, err=True)
