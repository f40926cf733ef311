from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path

import pytest

from prunebench.papers.cost_audit import CostCell
from prunebench.papers.cost_rules import QUANTITIES
from prunebench.papers.cost_tables import (
    NAMES,
    NOTED_WORDS,
    as_row,
    base_rows,
    computed,
    tally,
    to_html,
    to_markdown,
    write_costs,
)
from prunebench.papers.published import NOTED, read_published, select
from prunebench.papers.structures import CountedStructure

ROW, OTHER = select(read_published(), paper="greg", table="Table 1", method="greg_1")[:2]


def cell(printed: str = "1.99", value: float | None = 1.9931, **changes: object) -> CostCell:
    content: dict[str, object] = {
        "row": ROW,
        "column": "speedup_theoretical",
        "printed": Decimal(printed),
        "computed": value,
        "convention": "two <per> MAC",
        "status": "agree",
    }
    return CostCell(**(content | changes))  # type: ignore[arg-type]


CELLS = [
    cell(),
    cell(status="unexplained", reason="no rule yields the printed digits", row=OTHER),
    cell(status="undetermined", value=None, convention=""),
]


NETWORK = CountedStructure(architecture="resnet20", num_classes=10, image=(3, 32, 32))
BASES = base_rows({("srfp", "cifar10/resnet20"): NETWORK}, {NETWORK: dict.fromkeys(QUANTITIES, 7)})


def test_a_base_network_has_every_count() -> None:
    assert [
        {
            "paper": "srfp",
            "data": "cifar10",
            "printed_as": "resnet20",
            "network": "resnet20",
            "image": "3x32x32",
            **dict.fromkeys(QUANTITIES, "7"),
        }
    ] == BASES


def test_a_cell_is_found_by_what_is_printed() -> None:
    assert tuple(as_row(CELLS[0])) == NAMES
    assert list(as_row(CELLS[0]).values()) == [
        "greg",
        "Table 1",
        "resnet56",
        "greg_1",
        "growing_reg",
        "50",
        "speedup_theoretical",
        "1.99",
        "1.9931",
        "two <per> MAC",
        "agree",
        "",
    ]


@pytest.mark.parametrize(
    ("printed", "value", "shown"),
    [("1.99", 1.9931, "1.9931"), ("2044", 2044.592, "2044.59"), ("2044", None, "")],
)
def test_the_computed_number_has_two_digits_more(
    printed: str, value: float | None, shown: str
) -> None:
    assert computed(cell(printed, value)) == shown


def test_cells_are_counted_per_paper_and_in_all() -> None:
    assert tally(CELLS) == [
        ["paper", "agree", "explained", "undetermined", "unexplained", "all"],
        ["greg", "1", "0", "1", "1", "3"],
        ["all", "1", "0", "1", "1", "3"],
    ]


def test_memory_and_sparsity_have_lines_of_their_own() -> None:
    assert tally([cell(column="memory_m"), cell()])[1:] == [
        ["greg", "1", "0", "0", "0", "1"],
        ["greg, memory", "1", "0", "0", "0", "1"],
        ["all", "2", "0", "0", "0", "2"],
    ]


def test_every_noted_cost_has_a_word() -> None:
    assert set(NOTED_WORDS) == set(NOTED)


def test_markdown_has_a_table_per_printed_table() -> None:
    text = to_markdown(CELLS, BASES)
    lines = [line for line in text.splitlines() if line.startswith("| resnet56")]
    assert "## greg · Table 1" in text
    assert [part.strip() for part in lines[0].split("|")[1:-1]] == [
        "resnet56",
        "greg_1",
        "growing_reg",
        "50",
        "speedup_theoretical",
        "1.99",
        "1.9931",
        r"two \<per> MAC",
        "agree",
        "–",
    ]
    assert len(lines) == 3
    assert "| srfp  | cifar10 | resnet20   |" in text.split("## Base networks")[1]


def test_html_escapes_and_marks_the_status() -> None:
    page = to_html(CELLS, BASES)
    assert "two &lt;per&gt; MAC" in page
    assert page.count('<td class="text agree">agree</td>') == 1
    assert page.count('<td class="text unexplained">unexplained</td>') == 1
    assert "--accent" in page  # the style is in the page itself
    assert "http" not in page


def test_four_files_are_written(tmp_path: Path) -> None:
    paths = write_costs(CELLS, BASES, tmp_path)
    assert [path.name for path in paths] == [
        "costs.csv",
        "costs.md",
        "costs.html",
        "costs_bases.csv",
    ]
    with paths[0].open(encoding="utf-8", newline="") as file:
        read = list(csv.DictReader(file))
    assert read == [as_row(cell) for cell in CELLS]
    with paths[3].open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file)) == BASES
