"""All figures by file name; each is a function of runs.csv."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from prunebench.report.figures.accuracy_epochs import accuracy_epochs
from prunebench.report.figures.accuracy_latency import accuracy_latency
from prunebench.report.figures.accuracy_speedup import accuracy_speedup
from prunebench.report.figures.accuracy_without_training import accuracy_without_training
from prunebench.report.figures.kept_width import kept_width
from prunebench.report.figures.method_diagnostics import method_diagnostics
from prunebench.report.figures.style import save, styled
from prunebench.report.origins import reused_share
from prunebench.report.runs_csv import read_runs

FIGURES = {
    "accuracy_speedup": accuracy_speedup,
    "accuracy_latency": accuracy_latency,
    "kept_width": kept_width,
    "accuracy_epochs": accuracy_epochs,
    "method_diagnostics": method_diagnostics,
    "accuracy_without_training": accuracy_without_training,
}


def write_figures(runs_csv: Path, out: Path) -> list[Path]:
    """Write each figure as <name>.svg and <name>.png into `out` and return their paths."""
    frame = read_runs(runs_csv)
    return [
        path
        for name, draw in FIGURES.items()
        for path in save(marked(draw(frame), frame), out / name)
    ]


@styled
def marked(figure: Figure, frame: pd.DataFrame) -> Figure:
    """Return a figure whose title says how many runs are reused, if any."""
    words = reused_share(frame)
    if words:
        figure.suptitle(f"{figure.get_suptitle()} · {words}", x=0.01, ha="left")
    return figure
