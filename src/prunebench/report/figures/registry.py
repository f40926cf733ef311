"""All figures by file name; each is a function of runs.csv."""

from __future__ import annotations

from pathlib import Path

from prunebench.report.figures.accuracy_epochs import accuracy_epochs
from prunebench.report.figures.accuracy_speedup import accuracy_speedup
from prunebench.report.figures.accuracy_without_training import accuracy_without_training
from prunebench.report.figures.kept_width import kept_width
from prunebench.report.figures.method_diagnostics import method_diagnostics
from prunebench.report.figures.style import save
from prunebench.report.runs_csv import read_runs

FIGURES = {
    "accuracy_speedup": accuracy_speedup,
    "kept_width": kept_width,
    "accuracy_epochs": accuracy_epochs,
    "method_diagnostics": method_diagnostics,
    "accuracy_without_training": accuracy_without_training,
}


def write_figures(runs_csv: Path, out: Path) -> list[Path]:
    """Write each figure as <name>.svg and <name>.png into `out` and return their paths."""
    frame = read_runs(runs_csv)
    return [path for name, draw in FIGURES.items() for path in save(draw(frame), out / name)]
