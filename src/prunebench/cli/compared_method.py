"""Run one method in the experiment of stored rows, and show it beside them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from prunebench.core.errors import ConfigError, ResultError
from prunebench.core.files import read_csv, write_text
from prunebench.core.plug_ins import registered_name
from prunebench.experiments.config import named_file, read_experiment
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

    A file that is there stays, so that options and recipes can be edited in it.
    """
    registered_name("method", method, method_paths())
    read_experiment(config_dir, experiment)  # with an override, its name has no file of its own
    source = named_file(config_dir, "experiment", experiment)
    name = f"{experiment}_with_{method}"
    file = config_dir / "experiments" / f"{name}.yaml"
    if file.exists():
        return name, f"{file}: used as it is"
    content: dict[str, Any] = read_yaml(source)
    cell = content["methods"].get(method) or {}
    kept = {key: value for key, value in content.items() if key not in ABOUT_OTHERS}
    kept |= {"title": f"{content['title']} · {method}", "seeds": [0], "methods": {method: cell}}
    words = (
        f"# {method} in the experiment {experiment}, written by `prunebench compare`; edit it.\n"
    )
    write_text(file, words + yaml.safe_dump(kept, sort_keys=False, allow_unicode=True))
    return name, f"{file}: written; options and recipes of {method} can be edited there"


def run_workflow(experiment: str, stored: Path, seeds: Sequence[int], cores: str) -> Path:
    """Run an experiment with these seeds, and return its runs.csv; ConfigError if it fails.

    Rows that `stored` has of the same specification are not run again.
    """
    if not Path("Snakefile").is_file():
        raise ConfigError(
            f"{Path.cwd()}: no Snakefile here; `prunebench init DIR` writes one, with config/"
        )
    csv = RESULTS / experiment / "runs.csv"
    command = [sys.executable, "-m", "snakemake", str(csv), "--cores", cores, "--config"]
    command += [f"experiments={experiment}", f"seeds={list(seeds)}", f"reuse={stored}"]
    if subprocess.run(command, check=False).returncode:
        raise ConfigError(f"the workflow of {experiment} has failed; its output says why")
    return csv


def seeds_of(experiment: str, config_dir: Path, count: int) -> list[int]:
    """Return the first seeds of an experiment, or others if it has fewer."""
    known = list(read_experiment(config_dir, experiment).seeds)
    more = (seed for seed in range(count + len(known)) if seed not in known)
    return [*known, *more][:count]


def report(stored: Path, new: Path, method: str, out: Path) -> Iterator[str]:
    """Write tables, differences and the figure of a method beside stored rows; yield them as text.

    The files are in the folder `out`.
    """
    from prunebench.report.figures.accuracy_speedup import accuracy_speedup
    from prunebench.report.figures.figure_options import Options
    from prunebench.report.figures.registry import marked
    from prunebench.report.figures.style import save
    from prunebench.report.runs_csv import read_runs
    from prunebench.report.summary_table import write_summary
    from prunebench.report.to_others import DIFFERENCES, beside, differences_to_others, lines_of

    runs_csv = out / "runs.csv"
    notes = list(beside(stored, new, method, runs_csv))
    frame = read_runs(runs_csv)
    tables = write_summary(runs_csv, out)
    found = differences_to_others(frame, method)
    write_text(out / DIFFERENCES, found.to_csv(index=False, lineterminator="\n"))
    figure = accuracy_speedup(frame, Options(highlight=(method,)))
    pictures = save(marked(figure, frame), out / "accuracy_speedup")
    yield next(path for path in tables if path.suffix == ".md").read_text(encoding="utf-8")
    yield from lines_of(found)
    yield from notes
    yield f"table: {out / 'summary.md'} · differences: {out / DIFFERENCES} · figure: {pictures[0]}"
