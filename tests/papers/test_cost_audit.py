"""Cells from rows, entries and counts made by hand; then the papers' own files."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ConfigError
from prunebench.papers.cost_audit import CostCell, compare, wanted
from prunebench.papers.published import PublishedRow, papers, read_published
from prunebench.papers.structures import PaperStructures, read_structures

NETWORK = {"architecture": "resnet56", "num_classes": 10, "image": [3, 32, 32]}
EMPTY = dict.fromkeys(PublishedRow.model_fields, "")


def row(**cells: str) -> PublishedRow:
    base = {
        "paper": "greg",
        "table": "Table 1",
        "task": "classification",
        "dataset": "cifar10",
        "architecture": "resnet56",
        "method": "l1",
        "source": "by hand",
    }
    return PublishedRow.model_validate(EMPTY | base | cells)


def judged(rows: list[PublishedRow], **entry: Any) -> list[CostCell]:
    """Compare rows under one entry; the base has 120 M operations, the structure 30 M."""
    content = {"networks": {"cifar10/resnet56": NETWORK}, "rows": [{"match": {}, **entry}]}
    files = {"greg": PaperStructures.model_validate(content)}
    counts = {
        structure: {"macs": 30e6 if structure.thinned else 120e6, "params": 4e6}
        for structure in wanted(rows, files)
    }
    return compare(rows, files, counts)


HALF = [{"groups": ["*.conv1"], "ratio": 0.5}]


@pytest.mark.parametrize(
    ("column", "printed", "status"),
    [
        ("flops_m", "30.0", "agree"),
        ("flops_m", "30.1", "unexplained"),
        ("flops_reduction_pct", "75.00", "agree"),
        ("speedup_theoretical", "4", "agree"),
        ("speedup_theoretical", "4.1", "unexplained"),
    ],
)
def test_a_cell_agrees_if_its_convention_yields_its_digits(
    column: str, printed: str, status: str
) -> None:
    (cell,) = judged(
        [row(**{column: printed})], thinned=HALF, cells={column: {"by": {"of": "macs"}}}
    )
    assert (cell.status, cell.column, str(cell.printed)) == (status, column, printed)
    assert bool(cell.reason) == (status == "unexplained")


def test_a_reason_counts_if_its_rule_yields_the_digits() -> None:
    rules = {
        "by": {"of": "macs"},
        "otherwise": [
            {"of": "macs", "share": 0.5, "reason": "the target is printed"},
            {"of": "macs", "swap": True, "reason": "digits are swapped"},
        ],
    }
    cells = judged(
        [row(flops_m="60"), row(flops_m="03"), row(flops_m="31")],
        thinned=HALF,
        cells={"flops_m": rules},
    )
    assert [(cell.status, cell.reason) for cell in cells] == [
        ("explained", "the target is printed"),
        ("explained", "digits are swapped"),
        ("unexplained", "no rule yields the printed digits"),
    ]
    assert cells[2].computed == 30.0


def test_words_alone_leave_a_cell_undetermined() -> None:
    (cell,) = judged([row(flops_m="7")], cells={"flops_m": {"undetermined": "needs training"}})
    assert (cell.status, cell.reason, cell.computed) == ("undetermined", "needs training", None)


def test_a_missed_target_is_undetermined_and_shown() -> None:
    rule = {"by": {"of": "macs", "share": 0.5}, "undetermined": "not exactly the target"}
    met, missed = judged([row(flops_m="60"), row(flops_m="59")], cells={"flops_m": rule})
    assert (met.status, missed.status) == ("agree", "undetermined")
    assert missed.computed == 60.0


@pytest.mark.parametrize(
    ("reduction", "status"),
    # 1.65 prints numbers from 1.645 to 1.655: of 4 M they leave 58.625 to 58.875 percent
    [("58.75", "agree"), ("58.63", "agree"), ("58.88", "agree"), ("58.60", "unexplained")],
)
def test_a_printed_reduction_is_checked_within_the_rounding_of_the_count_beside_it(
    reduction: str, status: str
) -> None:
    cells = judged(
        [row(params_m="1.65", params_reduction_pct=reduction)],
        cells={
            "params_m": {"undetermined": "needs training"},
            "params_reduction_pct": {"by": {"of": "params", "column": "params_m"}},
        },
    )
    assert cells[1].status == status


def test_another_row_is_read_if_it_is_unique() -> None:
    rule = {"of": "macs", "column": "speedup_theoretical", "row": {"method": "cp"}, "reason": "cp"}
    rows = [row(flops_reduction_pct="50.0"), row(method="cp", speedup_theoretical="2")]
    entry = {
        "flops_reduction_pct": {"otherwise": [rule]},
        "speedup_theoretical": {"undetermined": "quoted"},
    }
    assert [cell.status for cell in judged(rows, cells=entry)] == ["explained", "undetermined"]
    rows.append(row(method="cp", speedup_theoretical="3"))
    with pytest.raises(ConfigError, match=r"greg.yaml: Table 1, resnet56, l1: 2 rows fit"):
        judged(rows, cells=entry)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"of": "macs", "column": "params_m"}, "a rule reads params_m, which the row does not"),
        (
            {"of": "macs", "column": "speedup_ratio"},
            "reads speedup_ratio, which the row does not",
        ),
        ({"of": "thop4"}, "a closed form does not determine thop4"),
        (
            {"of": "macs", "column": "flops_m", "row": {"methd": "cp"}},
            "'methd' is not a column of published rows",
        ),
    ],
)
def test_a_rule_that_cannot_be_applied_is_named(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        judged([row(flops_m="1")], cells={"flops_m": {"by": rule}})


def test_a_rule_without_a_network_is_named() -> None:
    with pytest.raises(ConfigError, match="a rule needs a network"):
        judged([row(flops_m="1", dataset="imagenet")], cells={"flops_m": {"by": {"of": "macs"}}})


def test_a_row_or_column_without_a_rule_is_unexplained() -> None:
    (cell,) = judged([row(flops_m="1")], cells={})
    assert cell.reason == "the entry in published_structures/greg.yaml has no rule for the column"
    files = {"greg": PaperStructures.model_validate({"networks": {}, "rows": []})}
    (cell,) = compare([row(flops_m="1")], files, {})
    assert cell.reason == "no entry of published_structures/greg.yaml fits the row"


def test_the_printed_ratio_is_the_structure_s() -> None:
    content = {
        "networks": {"cifar10/resnet56": NETWORK},
        "rows": [
            {"match": {"method": "l1"}, "thinned": [{"groups": ["*"], "ratio": "printed"}]},
            {
                "match": {},
                "formula": {"name": "sfp_cifar", "depth": 56, "keep": "printed"},
            },
        ],
    }
    file = PaperStructures.model_validate(content)
    half = row(ratio_printed="92.5", ratio_kind_printed="filters_per_layer")
    structure = file.structure_of(half, file.rows[0])
    assert structure is not None
    assert structure.thinned[0].ratio == 0.925
    formula = file.structure_of(half, file.rows[1])
    assert formula is not None
    assert formula.formula is not None
    assert formula.formula.keep == pytest.approx(0.075)
    with pytest.raises(ConfigError, match="uses the printed ratio, but the row has none"):
        file.structure_of(row(), file.rows[0])


def test_a_base_is_whole_in_its_paper_s_form() -> None:
    files = read_structures(["srfp"])
    (fpgm,) = [
        r
        for r in read_published()
        if (r.paper, r.architecture, r.top1) == ("srfp", "resnet20", Decimal("91.09"))
    ]
    entry = files["srfp"].entry_of(fpgm)
    assert entry is not None
    base = files["srfp"].base_of(fpgm, entry)
    assert base is not None
    assert base.formula is not None
    assert base.formula.keep == 1


def test_files_are_checked(tmp_path: Path) -> None:
    (tmp_path / "greg.yaml").write_text("networks: {}\nrows: [{match: {methd: l1}}]\n")
    with pytest.raises(ConfigError, match=r"greg.yaml: rows\[0\].match: 'methd' is not a column"):
        read_structures(["greg"], tmp_path)
    with pytest.raises(ConfigError, match=r"srfp.yaml: cannot be read"):
        read_structures(["srfp"], tmp_path)


def test_every_printed_cost_has_an_entry_and_every_entry_a_row() -> None:
    rows = read_published()
    files = read_structures(papers(rows))
    used: dict[tuple[str, int], None] = {}
    for printed in rows:
        file = files[printed.paper]
        if not printed.printed():
            continue
        entry = file.entry_of(printed)
        assert entry is not None, printed
        assert set(printed.printed()) <= set(entry.cells), printed
        used[printed.paper, file.rows.index(entry)] = None
    idle = [
        (paper, index, entry.match)
        for paper, file in files.items()
        for index, entry in enumerate(file.rows)
        if (paper, index) not in used
    ]
    assert not idle
