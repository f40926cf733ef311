"""`prunebench costs` and `prunebench published`, and the status of every printed cell."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunebench.papers.cost_audit import STATUSES as STATUS_ORDER
from prunebench.papers.published import COST_COLUMNS, published_dir
from prunebench.papers.structures import structures_dir

ROOT = Path(__file__).parents[2]
# Of the five cost columns; memory and sparsity, printed beside them, are counted below.
STATUSES = {
    "epruner": {"agree": 148, "explained": 12, "undetermined": 110, "unexplained": 14},
    "greg": {"agree": 62, "explained": 11, "undetermined": 14},
    "group_fisher": {"agree": 90, "explained": 21, "undetermined": 79, "unexplained": 1},
    "increg": {"explained": 8, "undetermined": 3},
    "orthoreg": {"agree": 30},
    "srfp": {"agree": 89, "explained": 15, "undetermined": 6, "unexplained": 1},
}
NOTED = {
    "group_fisher": {"agree": 18, "undetermined": 44, "unexplained": 1},
    "orthoreg": {"agree": 24, "explained": 6},
}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def tallied(cells: list[dict[str, str]]) -> dict[str, dict[str, int]]:
    counts: dict[str, Counter[str]] = {}
    for cell in cells:
        counts.setdefault(cell["paper"], Counter())[cell["status"]] += 1
    return {paper: dict(by_status) for paper, by_status in counts.items()}


@pytest.mark.parametrize("paper", ["greg", "increg", "orthoreg"])
def test_cells_of_a_paper(call: Any, tmp_path: Path, paper: str) -> None:
    code, out, err = call("costs", "--paper", paper, "--out", str(tmp_path))
    assert (code, err) == (0, "")
    cells = [c for c in read(tmp_path / "costs.csv") if c["column"] in COST_COLUMNS]
    assert tallied(cells) == {paper: STATUSES[paper]}
    written = ("costs.csv", "costs.md", "costs.html", "costs_bases.csv")
    assert out.splitlines()[-4:] == [str(tmp_path / name) for name in written]
    assert {base["paper"] for base in read(tmp_path / "costs_bases.csv")} == {paper}


@pytest.mark.slow
def test_cells_of_all_papers(call: Any, tmp_path: Path) -> None:
    code, _, err = call("costs", "--workers", "2", "--out", str(tmp_path))
    assert (code, err) == (0, "")
    cells = read(tmp_path / "costs.csv")
    assert tallied([c for c in cells if c["column"] in COST_COLUMNS]) == STATUSES
    assert tallied([c for c in cells if c["column"] not in COST_COLUMNS]) == NOTED
    assert cells == read(ROOT / "results" / "reference" / "costs" / "costs.csv")
    # what is left open, so that a change of it is noticed
    left = Counter(
        (c["paper"], c["architecture"], c["method"], c["column"], c["printed"])
        for c in cells
        if c["status"] == "unexplained"
    )
    assert left == {
        ("epruner", "googlenet", "epruner", "params_reduction_pct", "64.20"): 3,
        ("epruner", "resnet18", "epruner", "params_reduction_pct", "48.52"): 3,
        ("epruner", "resnet34", "epruner", "params_reduction_pct", "53.24"): 3,
        ("epruner", "vgg16", "hrank", "flops_m", "108.61"): 1,
        ("epruner", "vgg16", "hrank", "params_m", "2.64"): 1,
        ("epruner", "resnet110", "hrank", "params_m", "1.04"): 1,
        ("epruner", "resnet110", "filtersketch", "flops_m", "92.84"): 1,
        ("epruner", "resnet110", "filtersketch", "params_m", "0.69"): 1,
        ("group_fisher", "mobilenet_v2_x0_7", "baseline", "memory_m", "5.26"): 1,
        ("group_fisher", "mobilenet_v2", "baseline", "params_m", "3.51"): 1,
        ("srfp", "resnet32", "mil", "flops_reduction_pct", "31.2"): 1,
    }


@pytest.fixture
def folders(tmp_path: Path) -> Callable[..., list[str]]:
    """A function that writes one paper's rows and entries, and returns the options for them."""

    def write(paper: str, rows: str, entries: str) -> list[str]:
        published, structures = tmp_path / "published", tmp_path / "structures"
        published.mkdir()
        structures.mkdir()
        (published / f"{paper}.csv").write_text(rows, encoding="utf-8")
        (structures / f"{paper}.yaml").write_text(entries, encoding="utf-8")
        return ["--published", str(published), "--structures", str(structures)]

    return write


def test_a_new_row_of_a_known_table_needs_a_line_only(
    call: Any, folders: Callable[..., list[str]], tmp_path: Path
) -> None:
    lines = (published_dir() / "greg.csv").read_text(encoding="utf-8").splitlines()
    new = (
        "greg,Table 1,classification,cifar10,resnet56,taylor,one_shot,50,filters_per_layer,"
        ",,,,,,,,,,49.82,1.98,,typed from the PDF,arXiv:2012.09243 Table 1"
    )
    entries = (structures_dir() / "greg.yaml").read_text(encoding="utf-8")
    options = folders("greg", "\n".join([lines[0], new]) + "\n", entries)
    code, _, err = call("costs", *options, "--out", str(tmp_path))
    assert (code, err) == (0, "")
    cells = [
        (c["method"], c["printed"], c["computed"], c["status"])
        for c in read(tmp_path / "costs.csv")
    ]
    assert cells == [
        ("taylor", "49.82", "49.8242", "agree"),
        # 0.251 / 0.126 = 1.992
        ("taylor", "1.98", "1.9921", "unexplained"),
    ]


def test_a_new_table_of_a_new_paper_needs_a_line_and_an_entry_only(
    call: Any, folders: Callable[..., list[str]], tmp_path: Path
) -> None:
    header = (published_dir() / "greg.csv").read_text(encoding="utf-8").splitlines()[0]
    row = (
        "newpaper,Table 7,classification,cifar10,resnet20,halver,default,50,filters_per_layer,"
        ",,,,,,,20.50,,,,,,halves the first convolution of each block,arXiv:0000.00000 Table 7"
    )
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (entries,) = re.findall(r"```yml\n(.*?)```", page, flags=re.DOTALL)
    options = folders("newpaper", f"{header}\n{row}\n", entries)
    code, _, err = call("costs", *options, "--out", str(tmp_path))
    assert (code, err) == (0, "")
    (cell,) = read(tmp_path / "costs.csv")
    # stem 442 368, classifier 640, half of the blocks' 40 108 032
    assert (cell["computed"], cell["status"]) == ("20.4970", "agree")


def test_an_unknown_paper_is_named(call: Any, tmp_path: Path) -> None:
    for command in ("costs", "published"):
        code, _, err = call(command, "--paper", "gerg", "--out", str(tmp_path / "x.csv"))
        assert code == 1
        assert "--paper: unknown paper 'gerg'; did you mean greg?" in err


def test_published_rows_are_listed_and_counted(
    call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # no experiments
    code, out, _ = call("published", "--paper", "greg", "--table", "Table 3", "--method", "greg_2")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == (
        "greg · Table 3 · imagenet resnet34 · greg_2 filter_pruning · 1.32 speedup · top-1 73.61"
    )
    assert lines[-1] == "6 of 439 rows"


def test_rows_from_elsewhere_are_marked_or_excluded(call: Any) -> None:
    _, everything, _ = call("published", "--paper", "srfp", "--dataset", "cifar10")
    assert everything.startswith("context srfp · FPGM Table 1")
    _, own, _ = call("published", "--paper", "srfp", "--own")
    assert own.splitlines() == [
        "srfp · Abstract · imagenet resnet34 · asrfp · 40 params · srfp_imagenet_resnet34, not run",
        "1 of 439 rows",
    ]


def test_rows_are_exported(call: Any, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    _, out, _ = call(
        "published", "--paper", "increg", "--architecture", "vgg16", "--out", str(path)
    )
    assert out == f"14 of 439 rows · {path}\n"
    assert {row["architecture"] for row in read(path)} == {"vgg16"}
    assert {row["own"] for row in read(path)} == {"yes", "no"}


def test_a_row_names_its_experiment(call: Any, tmp_path: Path) -> None:
    folder = tmp_path / "results" / "greg_table1_vgg19" / "cifar100" / "vgg19" / "l1" / "default"
    (folder / "0.9" / "seed0").mkdir(parents=True)
    (folder / "0.9" / "seed0" / "training.json").write_text("{}")
    options = [
        "--config",
        str(ROOT / "config" / "config.yaml"),
        "--results",
        str(folder.parents[4]),
    ]
    choice = ["--paper", "greg", "--table", "Table 1", "--architecture", "vgg19", "--method", "l1"]
    _, out, _ = call("published", *choice, *options)
    ends = [line.rpartition(" · ")[2] for line in out.splitlines()[:-1]]
    assert ends == ["greg_table1_vgg19, not run"] * 4 + ["greg_table1_vgg19, run on cifar100 (1)"]


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['prunebench', 'published']; sys.modules['torch'] = None\n"
        "from prunebench.__main__ import main; main()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_every_paper_has_its_entries() -> None:
    assert {path.stem for path in structures_dir().glob("*.yaml")} == set(STATUSES)


def test_the_counts_of_the_documentation_are_these() -> None:
    text = (ROOT / "docs" / "costs.md").read_text(encoding="utf-8")
    for paper, counts in STATUSES.items():
        numbers = [counts.get(status, 0) for status in STATUS_ORDER]
        (line,) = re.findall(rf"^\| {paper} .*$", text, flags=re.MULTILINE)
        assert [int(n) for n in re.findall(r"\d+", line)] == [*numbers, sum(numbers)]
    totals = [sum(found.get(status, 0) for found in STATUSES.values()) for status in STATUS_ORDER]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"^Of 714 printed operations.*$", readme, flags=re.MULTILINE)
    assert [int(n) for n in re.findall(r"\b\d+\b", sentence)] == [sum(totals), *totals]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--architecture", "ResNet56"], "--architecture: unknown architecture 'ResNet56'; did yo"),
        (["--dataset", "CIFAR-10"], "--dataset: unknown dataset 'CIFAR-10'; did you mean cifar10"),
        (["--table", "table 1"], "--table: unknown table 'table 1'; did you mean Table 1"),
        (["--method", "gerg_1"], "--method: unknown method 'gerg_1'; did you mean greg_1"),
        (
            ["--paper", "greg", "--architecture", "resnet56", "--dataset", "imagenet"],
            "--dataset: unknown dataset 'imagenet' (allowed: cifar10) among the rows of greg, resn",
        ),
        (
            ["--architecture", "ResNet56", "--dataset", "cifar"],
            "--dataset: unknown dataset 'cifar'; did",
        ),
    ],
)
def test_options_that_no_row_fits_are_named(call: Any, options: list[str], words: str) -> None:
    code, out, err = call("published", *options)
    assert (code, out) == (1, "")
    assert err.startswith(f"prunebench: {words}")
    assert err.count("\n") == 1
