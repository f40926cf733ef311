from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from prunebench.report.summary_table import summary_table
from prunebench.report.table import Table
from prunebench.report.table_formats import latex_text, to_html, to_latex, to_markdown

from .conftest import few_runs

TWO_SEEDS = ({"accuracy": 97.0, "seed": 0}, {"accuracy": 98.0, "seed": 1})


@pytest.fixture
def table() -> Table:
    """Two seeds of l1 and a masked method of one seed, with awkward names."""
    masked = {"method": "_odd|name", "setting": "a_b&<c>", "accuracy_masked": 98.5, "drop": -0.25}
    return summary_table(few_runs(*TWO_SEEDS, masked), "50 % of <all>")


class Page(HTMLParser):
    """Collect rows and links of a page; unbalanced tags fail."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data


def test_markdown_is_a_pipe_table_with_numbers_to_the_right() -> None:
    lines = to_markdown(summary_table(few_runs(*TWO_SEEDS))).splitlines()
    assert lines[0] == "# digits"
    assert lines[4:7:2] == ["## digits · resnet20", "base 99.00 ± 0.00 % (n = 2)"]
    assert [line.split("|")[4].strip() for line in lines[8:11]] == [
        "top-1 (%)",
        "-----------:",
        "97.50 ± 0.71",
    ]
    other = {"method": "x"}
    lines = to_markdown(summary_table(few_runs(*TWO_SEEDS, other))).splitlines()
    assert lines[-2].startswith("- Fairness level S4.2 (arXiv 2301.05219): the methods share")


def test_markdown_without_a_title_has_no_headings() -> None:
    table = replace(summary_table(few_runs({})), title="")
    lines = to_markdown(table).splitlines()
    assert lines[0] == "**digits · resnet20** · base 99.00 % (n = 1)"
    assert not [line for line in lines if line.startswith("#")]


def test_markdown_escapes_markup_in_names(table: Table) -> None:
    text = to_markdown(table)
    assert r"# 50 % of \<all>" in text
    assert r"| \_odd\|name | a_b\&\<c> |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a_b #1 50% {x}", r"a\_b \#1 50\% \{x\}"),
        ("x\\y ~ ^", r"x\textbackslash{}y \textasciitilde{} \textasciicircum{}"),
        ("1 ± 2 × −3 · –", r"1 $\pm$ 2 $\times$ $-$3 $\cdot$ --"),
        ("Δ drop", r"$\Delta$ drop"),
        ("a < b | c > d", r"a \textless{} b \textbar{} c \textgreater{} d"),
    ],
)
def test_latex_escapes(text: str, escaped: str) -> None:
    assert latex_text(text) == escaped


def test_latex_columns_are_as_wide_as_their_numbers(table: Table) -> None:
    (columns,) = re.findall(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}", to_latex(table))
    formats = re.findall(r"l|S\[table-format=([^]]*)\]", columns)
    # method, setting, ratio, n, top-1 with a spread of 0.71, drop with a sign, masked, ...
    assert formats == ["", "", "", "1", "2.2(2)", "-1.2(1)", "1.2", "2.2", "1.2", "2.1"]


def test_latex_intervals_are_text_at_the_right() -> None:
    rows = [{"seed": s, "accuracy": 90.0 + s} for s in range(3)]
    rows += [{"method": "x", "seed": s, "accuracy": 91.0 + 2 * s} for s in range(3)]
    text = to_latex(summary_table(few_runs(*rows)))
    assert re.search(r"tabular\}\{@\{\}.*\]rllS\[", text)
    assert "& 2.00 & [$-$0.48, 4.48] & unclear & a &" in text


def test_latex_rows_have_a_cell_per_column(table: Table) -> None:
    lines = [line for line in to_latex(table).splitlines() if line.endswith(r"\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {9}
    assert (
        r"l1 & default & 0.5 & 2 & 97.50 \pm 0.71 & 1.00 \pm 0.00 & {--} & {--} & 2.00 & 75.0"
        in (lines[2])
    )


@pytest.mark.parametrize(("n", "environment"), [(39, "tabular"), (45, "longtable")])
def test_latex_table_of_more_than_a_page_breaks(n: int, environment: str) -> None:
    text = to_latex(summary_table(few_runs(*({"setting": f"s{i}"} for i in range(n)))))
    begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert environment in begun
    assert sorted(begun) == sorted(ended)
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    assert "\n\n" not in text  # an empty line before a rule is an error


def has_latex() -> bool:
    if shutil.which("pdflatex") is None or shutil.which("kpsewhich") is None:
        return False
    return subprocess.run(["kpsewhich", "siunitx.sty"], capture_output=True).returncode == 0


@pytest.mark.skipif(not has_latex(), reason="pdflatex with siunitx is not installed")
@pytest.mark.parametrize("n", [2, 45])
def test_latex_compiles(table: Table, n: int, tmp_path: Path) -> None:
    settings = [{"method": f"m{i}", "setting": "a_b&<c>", "drop": -1e-7 * i} for i in range(n)]
    text = to_latex(summary_table(few_runs(*TWO_SEEDS, *settings), "50 % of <all>"))
    (tmp_path / "summary.tex").write_text(text, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "summary.tex"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert run.returncode == 0, run.stdout.decode(errors="replace")[-2000:]


def test_html_holds_the_table(table: Table) -> None:
    rows = Page(to_html(table)).rows
    assert rows[0][:5] == ["method", "setting", "ratio", "n", "top-1%"]
    assert rows[1][:7] == ["l1", "default", "0.5", "2", "97.50 ± 0.71", "1.00 ± 0.00", "–"]
    assert rows[2][:7] == ["_odd|name", "a_b&<c>", "0.5", "1", "98.00", "−0.25", "1.00"]


def test_html_needs_nothing_from_elsewhere(table: Table) -> None:
    text = to_html(table)
    assert Page(text).links == []
    assert not re.search(r"https?:|//\w|@import|url\(", text.split("<script>")[0])


def test_html_sorts_by_numbers_and_keeps_the_base_apart() -> None:
    text = to_html(
        summary_table(few_runs({}, {"method": "unpruned", "ratio": 0.0, "accuracy": 99.0}))
    )
    base, rest = re.findall(r"<tbody( class=\"base\")?>", text)
    assert (base, rest) == (' class="base"', "")
    assert '<td data-key="98.0">98.00</td>' in text


def test_an_unstable_cell_is_grey_in_html_and_text_elsewhere() -> None:
    names = ("speedup", "speedup_low", "speedup_high", "unstable")
    cells = zip(names, (1.6, 1.418, 1.75, 1), strict=True)
    unstable = {f"latency_{name}_cpu_b1": value for name, value in cells}
    stable = {"method": "x", "latency_speedup_cpu_b1": 2.0}
    table = summary_table(few_runs(unstable, stable))
    assert '<td class="unstable">(1.42–1.75×) <span class="spread">unstable</span></td>' in to_html(
        table
    )
    assert " (1.42–1.75×) unstable |" in to_markdown(table)
    latex = to_latex(table)
    assert r"& {(1.42--1.75)\textsuperscript{unstable}} \\" in latex
    # the number beside it alone decides about the digits
    assert re.search(r"S\[table-format=1\.2\]@\{\}\}", latex)
