"""All figures by file name; each is a function of runs.csv."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from prunebench.core.errors import ResultError
from prunebench.core.names import unknown_name
from prunebench.report.figures.accuracy_epochs import accuracy_epochs
from prunebench.report.figures.accuracy_latency import accuracy_latency
from prunebench.report.figures.accuracy_speedup import accuracy_speedup
from prunebench.report.figures.accuracy_without_training import accuracy_without_training
from prunebench.report.figures.figure_options import PAGE, Options
from prunebench.report.figures.kept_width import kept_width
from prunebench.report.figures.method_diagnostics import method_diagnostics
from prunebench.report.figures.speedup_measured import speedup_measured
from prunebench.report.figures.style import (
    save,
    set_title,
    styled,
)
from prunebench.report.origins import reused_share
from prunebench.report.runs_csv import UNPRUNED, read_runs

FIGURES: dict[str, Callable[[pd.DataFrame, Options], Figure]] = {
    "accuracy_speedup": accuracy_speedup,
    "accuracy_latency": accuracy_latency,
    "speedup_measured": speedup_measured,
    "kept_width": kept_width,
    "accuracy_epochs": accuracy_epochs,
    "method_diagnostics": method_diagnostics,
    "accuracy_without_training": accuracy_without_training,
}


def write_figures(runs_csv: Path, out: Path, options: Options = PAGE) -> list[Path]:
    """Write each figure as <name>.svg, .png and .pdf into `out` and return their paths.

    ResultError if a method to draw in color has no run.
    """
    frame = read_runs(runs_csv)
    known = [str(name) for name in frame["method"].unique() if name != UNPRUNED]
    for name in options.highlight:
        if name not in known:
            sentence = unknown_name("method to highlight", name, known)
            raise ResultError(f"{runs_csv}: {sentence}")
    return [
        path
        for name, draw in FIGURES.items()
        for path in save(marked(draw(frame, options), frame), out / name)
    ]


@styled
def marked(figure: Figure, frame: pd.DataFrame) -> Figure:
    """Return a figure whose title says how many runs are reused, if any."""
    words = reused_share(frame)
    if words:
        set_title(figure, f"{figure.get_suptitle()} · {words}")
    return figure
