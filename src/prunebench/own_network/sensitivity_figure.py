"""Figure: accuracy against the ratio of one group alone, a row per group."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prunebench.core.errors import ConfigError
from prunebench.report.figures.figure_options import PAGE_WIDTH
from prunebench.report.figures.style import (
    FORMATS,
    INK,
    empty_figure,
    new_figure,
    save,
    styled,
)

ROW_HEIGHT, HEAD_HEIGHT = 5.0, 26.0  # mm
MOST_LETTERS = 40  # of a group's name


@styled
def draw(table: pd.DataFrame, base: float) -> Figure:
    """Draw a cell per group and ratio, darker the more accuracy is lost, with the accuracy in it.

    `table` has the columns group, units, ratio and accuracy; `base` is the given network's.
    """
    title = f"Accuracy after pruning one group alone · given network {base:.4g}"
    if table.empty:
        return empty_figure(title, "no group of channels can be pruned")
    grid = table.pivot_table(index="group", columns="ratio", values="accuracy", sort=False)
    grid = grid[sorted(grid.columns)]
    units = table.drop_duplicates("group").set_index("group")["units"]
    figure = new_figure(PAGE_WIDTH, HEAD_HEIGHT + ROW_HEIGHT * len(grid), title)
    axes = figure.subplots()
    lowest = float(grid.to_numpy().min())
    image = axes.imshow(
        grid.to_numpy(),
        cmap="viridis",
        vmin=min(lowest, base),
        vmax=max(base, float(grid.to_numpy().max())),
        aspect="auto",
    )
    labels = [f"{shown(str(name))} ({units[name]})" for name in grid.index]
    axes.set_yticks(range(len(grid)), labels)
    axes.set_xticks(range(grid.shape[1]), [f"{100 * ratio:.3g}" for ratio in grid.columns])
    axes.set_xlabel("Removed units of the group (%)")
    axes.set_ylabel("Group (units), in network order")
    axes.grid(visible=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label="Accuracy", pad=0.01, aspect=30)
    _write_numbers(axes, grid, lowest, base)
    return figure


def _write_numbers(axes: Axes, grid: pd.DataFrame, lowest: float, base: float) -> None:
    """Write the accuracy into each cell, in a color that can be read on it."""
    middle = (lowest + max(base, lowest)) / 2
    for row, (_, values) in enumerate(grid.iterrows()):
        for column, value in enumerate(values):
            color = INK if value > middle else "white"
            axes.text(column, row, f"{value:.3g}", ha="center", va="center", color=color)


def shown(name: str) -> str:
    """Return a name, its beginning left out if it is long.

    >>> shown("a" * 50)[:3], len(shown("a" * 50))
    ('…aa', 40)
    """
    return name if len(name) <= MOST_LETTERS else "…" + name[1 - MOST_LETTERS :]


def write(figure: Figure, path: Path) -> list[Path]:
    """Write the figure in the format that the suffix names, or in all; ConfigError for another."""
    if path.suffix and path.suffix not in FORMATS:
        raise ConfigError(f"{path}: the file must end in {', '.join(FORMATS)}")
    return save(figure, path.with_suffix(""), [path.suffix] if path.suffix else tuple(FORMATS))
