from __future__ import annotations

import re
from pathlib import Path

import pytest

from prunebench.papers.comparison_table import printed_part
from prunebench.report.pages.report_page import write_report
from prunebench.report.runs_csv import read_runs

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "results" / "reference"


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_same_runs_give_the_same_bytes(report: Path, runs_csv: Path, tmp_path: Path) -> None:
    write_report(read_runs(runs_csv), tmp_path)
    files = sorted(path.relative_to(report) for path in report.rglob("*") if path.is_file())
    again = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert files == again
    for name in files:
        assert (report / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_every_accuracy_links_to_the_page_of_its_cell(report: Path) -> None:
    links = re.findall(r'<td[^>]*><a href="([^"]+)">', text_of(report / "index.html"))
    assert len(links) == len(set(links)) == 62
    assert all((report / link).is_file() for link in links)


def test_pages_load_nothing_from_elsewhere(report: Path) -> None:
    for page in report.rglob("*.html"):
        elements = re.sub(r"(?s)(<script[^>]*>).*?(?=</script>)", r"\1", text_of(page))
        loaded = re.findall(r'<(?!a )\w+ [^>]*?(?:src|href)="([^"]*)"', elements)
        assert loaded == ([] if page.name == "index.html" else ["charts.js"])
        assert "@import" not in elements
        assert "url(" not in elements


def test_the_report_allows_no_request(report: Path) -> None:
    policy = re.search(
        r'Content-Security-Policy" content="([^"]*)"', text_of(report / "index.html")
    )
    assert policy is not None
    assert policy[1].startswith("default-src 'none';")


def test_verdicts_come_first(report: Path) -> None:
    page = text_of(report / "index.html")
    places = [page.index(f'<section id="{name}"') for name in ("verdicts", "figures", "tables")]
    assert places == sorted(places)
    assert "No method is ranked: with 2 seeds" in page


def test_a_printed_table_stands_in_the_report(runs_csv: Path, tmp_path: Path) -> None:
    frame = read_runs(REFERENCE / "epruner_bases" / "runs.csv")
    assert printed_part(frame) is None
    frame = read_runs(runs_csv)
    frame = frame[frame["method"].isin(["unpruned", "l1"])]
    name = '{"architecture":"resnet56","method":"l1","setting":"","ratio":"0.5"}'
    is_l1 = (frame["method"] == "l1") & (frame["ratio"] == 0.5)
    frame = frame.assign(paper="greg", table="Table 1", printed=None)
    frame.loc[is_l1, "printed"] = name
    printed = printed_part(frame)
    assert printed is not None
    write_report(frame, tmp_path, printed=printed)
    page = text_of(tmp_path / "index.html")
    assert str(printed) in page
    assert "<h2>Comparison · greg, Table 1</h2>" in page


@pytest.mark.parametrize(
    "name",
    [
        "detection_digits",
        "epruner_bases",
        pytest.param("cifar10_no_training", marks=pytest.mark.slow),  # 210 runs
    ],
)
def test_stored_runs_have_a_report(name: str, tmp_path: Path) -> None:
    frame = read_runs(REFERENCE / name / "runs.csv")
    index, runs = write_report(frame, tmp_path)
    links = re.findall(r'<a href="(runs/[^"]+)">', text_of(index))
    pages = {path.name for path in runs.glob("*.html")}
    assert {link.removeprefix("runs/") for link in links} == pages
