"""The leaderboard: stored tables in the page, and the interactive report of each beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

from stored import REFERENCE
from text import join, styled

from prunebench.report.pages.report_page import write_report
from prunebench.report.runs_csv import read_runs
from prunebench.report.summary_table import summary_table
from prunebench.report.table_formats import to_markdown


@dataclass(frozen=True)
class Board:
    """An experiment on the leaderboard."""

    experiment: str
    heading: str
    words: str


BOARDS = (
    Board(
        "cifar10_resnet20",
        "CIFAR-10",
        "A published ResNet-20 at half and at 30 % of its MACs, three epochs for every method.",
    ),
    Board(
        "cifar10_no_training",
        "CIFAR-10 without training",
        "Eleven criteria right after the removal, and after new batch-norm statistics.",
    ),
    Board(
        "digits",
        "Handwritten digits",
        "The default run: two small networks, in minutes on a laptop.",
    ),
    Board(
        "detection_digits",
        "Detection",
        "A RetinaNet of quarter width on scenes of handwritten digits, in COCO's AP.",
    ),
)


def page() -> str:
    """Return the page with all boards."""
    parts = [
        "# Leaderboard",
        "The rows that are stored in `results/reference/`. Within one board, the methods share "
        "base network, data and training length as far as its fairness line says; between boards "
        "nothing can be compared. Each report sorts, filters and highlights, and links every "
        "accuracy to the page of its runs. [Submit results](submit.md) says how rows get here.",
    ]
    for board in BOARDS:
        parts += [f"## {board.heading}", board.words, *_board(board)]
    return join(*parts)


def _board(board: Board) -> Iterator[str]:
    report = f"leaderboard/{board.experiment}/index.html"
    rows = f"leaderboard/{board.experiment}/runs.csv"
    yield f"[Interactive report]({report}){{ .md-button }} [All rows (runs.csv)]({rows})"
    figure = REFERENCE / board.experiment / "figures" / "accuracy_speedup.png"
    if figure.exists():
        place = f"../results/reference/{board.experiment}/figures/{figure.name}"
        yield f"![{board.heading}: accuracy vs. speedup]({place})"
    table = summary_table(read_runs(REFERENCE / board.experiment / "runs.csv"))
    text = to_markdown(table).split("\n", 1)[1]  # without its title
    yield styled("numbers", text.replace("\n## ", "\n### "))


def reports(folder: Path) -> list[Path]:
    """Write all interactive reports and their rows below a folder; return the files."""
    for board in BOARDS:
        rows, place = REFERENCE / board.experiment / "runs.csv", folder / "leaderboard"
        write_report(read_runs(rows), place / board.experiment, board.heading)
        copyfile(rows, place / board.experiment / rows.name)
    return sorted(path for path in folder.rglob("*") if path.is_file())
