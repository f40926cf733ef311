"""The stored rows of results/reference: what docs/submit.md says is checked of submitted ones."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from itertools import dropwhile, takewhile
from pathlib import Path

import pandas as pd
import pytest

from prunebench.experiments.config import read_experiment
from prunebench.experiments.spec import ratio_slug, run_path
from prunebench.planning.grid import resolve_experiment
from prunebench.report.runs_csv import read_runs
from prunebench.report.summary_table import summary_table
from prunebench.report.table_formats import to_markdown

ROOT = Path(__file__).parents[2]
CONFIG, REFERENCE = ROOT / "config", ROOT / "results" / "reference"
STORED = sorted(path.parent.name for path in REFERENCE.glob("*/runs.csv"))


@pytest.fixture(params=STORED)
def stored(request: pytest.FixtureRequest) -> tuple[str, pd.DataFrame]:
    """The name of an experiment and its stored rows."""
    return request.param, read_runs(REFERENCE / request.param / "runs.csv")


def path_of(name: str, row: pd.Series) -> str:
    ratio = None if math.isnan(row.ratio) else row.ratio
    cell = (row.dataset, row.architecture, row.method, row.setting)
    return run_path(name, *cell, ratio_slug(ratio, row.ratio_kind), row.seed)


def test_each_row_is_a_run_of_its_experiment(stored: tuple[str, pd.DataFrame]) -> None:
    name, rows = stored
    planned = {run.path: run.hash for run in resolve_experiment(name, CONFIG)}
    found = {path_of(name, row): row.spec_hash for _, row in rows.iterrows()}
    assert len(found) == len(rows) > 0  # no run is there twice
    assert found == {path: planned.get(path) for path in found}


def test_rows_share_their_data_and_base_networks(stored: tuple[str, pd.DataFrame]) -> None:
    _, rows = stored
    assert (rows.groupby("dataset").data_hash.nunique(dropna=False) == 1).all()
    started = rows.dropna(subset=["base_hash"])
    bases = started.groupby(["dataset", "architecture", "seed", "base_spec_hash"])
    assert (bases.base_hash.nunique() == 1).all()


@pytest.mark.parametrize(
    "name", sorted(path.parents[1].name for path in REFERENCE.glob("*/tables/summary.md"))
)
def test_tables_are_those_of_the_rows(name: str) -> None:
    rows = read_runs(REFERENCE / name / "runs.csv")
    table = summary_table(rows, read_experiment(CONFIG, name).title)
    stored = (REFERENCE / name / "tables" / "summary.md").read_text(encoding="utf-8")
    assert to_markdown(table) == stored


def table_rows(lines: Iterable[str]) -> list[dict[str, str]]:
    """The rows of the first Markdown table among lines, as cells by column."""
    table = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in takewhile(
            lambda line: line.startswith("|"),
            dropwhile(lambda line: not line.startswith("|"), lines),
        )
    ]
    return [dict(zip(table[0], row, strict=True)) for row in table[2:]]


def sections(text: str, start: str) -> dict[str, str]:
    """The parts of a page that begin with a line such as `## cifar10 · resnet20`, by this line."""
    parts = re.split(rf"^{re.escape(start)}", text, flags=re.MULTILINE)[1:]
    return {part.split("\n", 1)[0]: part for part in parts}


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_tables_of_the_pages_are_parts_of_the_stored_ones(page: str) -> None:
    stored: dict[str, list[str]] = {}
    for path in sorted(REFERENCE.glob("*/tables/summary.md")):
        for title, part in sections(path.read_text(encoding="utf-8"), "## ").items():
            stored.setdefault(title, []).append(part)
    found = sections((ROOT / page).read_text(encoding="utf-8"), "**")
    checked = 0
    for title, part in found.items():
        name = re.match(r"(.+ · .+) · ratio .*\*\* · (base .*)", title)
        if name is None or not (rows := table_rows(part.splitlines())):
            continue
        wholes = [whole for whole in stored[name[1]] if f"\n{name[2]}\n" in whole]
        known = [row.items() for whole in wholes for row in table_rows(whole.splitlines())]
        for row in rows:
            assert any(row.items() <= whole for whole in known), row
        checked += len(rows)
    assert checked > 5
