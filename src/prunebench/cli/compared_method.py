"""Run methods in the experiment of stored rows, and show them beside these."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import yaml

from prunebench.core.errors import ConfigError, PrunebenchError, ResultError
from prunebench.core.files import read_csv, write_text
from prunebench.core.plug_ins import registered_name
from prunebench.experiments.config import named_file, read_experiment
from prunebench.experiments.override import Override, split_override
from prunebench.experiments.yaml_file import read_yaml
from prunebench.methods.registry import method_paths

RESULTS = Path("results")  # of the workflow
# Keys of an experiment that are about its other methods
ABOUT_OTHERS = ("controls", "published", "reference", "highlight", "recipe_cross", "seeds")


def experiment_of(stored: Path) -> str:
    """Return the experiment of the rows of a runs.csv; ResultError unless it is one."""
    names = sorted({row["experiment"] for row in read_csv(stored, ("experiment", "method"))})
    if len(names) != 1:
        raise ResultError(f"{stored}: the rows are of {len(names)} experiments, one is needed")
    return names[0]


def write_experiment(method: str, experiment: str, config_dir: Path) -> tuple[str, str]:
    """Write the experiment with one method alone; return its name and what was done.

    A file that is there stays, so that options and recipes can be edited in it. The override in
    the name of an experiment becomes part of the new one.
    """
    registered_name("method", method, method_paths())
    stem, override = split_override(config_dir / "experiments", experiment)
    source = named_file(config_dir, "experiment", stem)
    name = f"{stem}_with_{method}"
    file = config_dir / "experiments" / f"{name}.yaml"
    if file.exists():
        return name + override.suffix, f"{file}: used as it is"
    content: dict[str, Any] = read_yaml(source)
    cell = content["methods"].get(method) or {}
    kept = {key: value for key, value in content.items() if key not in ABOUT_OTHERS}
    kept |= {"title": f"{content['title']} · {method}", "seeds": [0], "methods": {method: cell}}
    words = f"# {method} in the experiment {stem}, written by `prunebench compare`; edit it.\n"
    write_text(file, words + yaml.safe_dump(kept, sort_keys=False, allow_unicode=True))
    done = f"{file}: written; options and recipes of {method} can be edited there"
    return name + override.suffix, done


def run_workflow(
    experiments: Sequence[str],
    stored: Path,
    *,
    seeds: Sequence[int],
    ratios: Sequence[str],
    cores: str,
) -> list[Path]:
    """Run experiments with these seeds and, if there are any, ratios; return their runs.csv.

    Rows that `stored` has of the same specification are not run again. PrunebenchError if the
    workflow fails or is stopped.
    """
    if not Path("Snakefile").is_file():
        raise ConfigError(
            f"{Path.cwd()}: no Snakefile here; `prunebench init DIR` writes one, with config/"
        )
    found = [RESULTS / name / "runs.csv" for name in experiments]
    command = [sys.executable, "-m", "snakemake", *map(str, found), "--cores", cores, "--config"]
    command += [f"experiments=[{','.join(experiments)}]", f"seeds={list(seeds)}", f"reuse={stored}"]
    command += [f"ratios=[{','.join(ratios)}]"] if ratios else []
    status, is_stopped = finished(command)
    if is_stopped:
        raise PrunebenchError(
            f"the workflow of {', '.join(experiments)} was stopped; the same command goes on from "
            "there"
        )
    if status:
        words = f"the workflow of {', '.join(experiments)} has failed; its output says why"
        raise PrunebenchError(words)
    return found


def finished(command: Sequence[str]) -> tuple[int, bool]:
    """Run a command; return its exit status, and whether it was stopped by Ctrl-C or SIGTERM.

    The command ends by itself then: Snakemake lets its jobs write their checkpoints and unlocks the
    folder.
    """
    process, stops = subprocess.Popen(command), []

    def pass_on(number: int, frame: FrameType | None) -> None:
        stops.append(number)
        if number == signal.SIGTERM:  # a terminal has sent Ctrl-C to the command, too
            process.send_signal(number)

    with _handled(pass_on, signal.SIGINT, signal.SIGTERM):
        return process.wait(), bool(stops)


@contextmanager
def _handled(handler: Any, *numbers: signal.Signals) -> Iterator[None]:
    """Handle some signals within the block."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def seeds_of(experiment: str, config_dir: Path, count: int) -> list[int]:
    """Return the first seeds of an experiment, or others if it has fewer."""
    known = list(read_experiment(config_dir, experiment).seeds)
    more = (seed for seed in range(count + len(known)) if seed not in known)
    return [*known, *more][:count]


def report(stored: Path, new: Mapping[str, Path], out: Path) -> Iterator[str]:
    """Write tables, differences and the figure of methods beside stored rows; yield a short table.

    `new` has the runs.csv of each method. The files are in the folder `out`.
    """
    from prunebench.report.figures.accuracy_speedup import accuracy_speedup
    from prunebench.report.figures.figure_options import Options
    from prunebench.report.figures.registry import marked
    from prunebench.report.figures.style import save
    from prunebench.report.other_code import rerun_lines
    from prunebench.report.runs_csv import read_runs
    from prunebench.report.summary_table import write_summary
    from prunebench.report.to_others import (
        DIFFERENCES,
        beside,
        differences_to_others,
        few_seeds,
        lines_of,
        ranked,
        shown_methods,
    )

    runs_csv, methods = out / "runs.csv", list(new)
    notes = list(beside(stored, new, runs_csv))
    frame = read_runs(runs_csv)
    write_summary(runs_csv, out)
    found = differences_to_others(frame, methods)
    write_text(out / DIFFERENCES, found.to_csv(index=False, lineterminator="\n"))
    figure = accuracy_speedup(frame, Options(highlight=shown_methods(frame, methods)))
    pictures = save(marked(figure, frame), out / "accuracy_speedup")
    yield from ranked(frame, methods)
    yield from lines_of(found)
    yield from few_seeds(found)
    yield from notes
    for file in new.values():
        yield from rerun_lines(read_runs(file))
    yield f"whole table: {out / 'summary.md'}"
    yield f"differences: {out / DIFFERENCES}"
    yield f"figure: {pictures[0]}"


def trial_report(new: Mapping[str, Path], trial: Override) -> Iterator[str]:
    """Yield a short table of shortened runs, which are not compared with stored rows."""
    from prunebench.report.runs_csv import read_runs
    from prunebench.report.to_others import ranked

    for method, file in new.items():
        yield from ranked(read_runs(file), [method])
        yield f"rows: {file}"
    yield f"a trial ({', '.join(trial.words)}): it ran; stored rows are of whole runs, not shown"
