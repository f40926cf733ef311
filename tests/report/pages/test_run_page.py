from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from prunebench.report.pages.report_page import write_report
from tests.report.conftest import few_runs
from tests.report.pages.conftest import PLAIN

GREG = "digits-resnet20-greg_1-default-0.5.html"
EPRUNER = "digits-resnet20-epruner-beta0.73-auto.html"


@pytest.fixture(scope="session")
def greg(report: Path) -> str:
    return html.unescape((report / "runs" / GREG).read_text(encoding="utf-8"))


def charts(page: str) -> list[str]:
    return re.findall(r'<figure data-chart="(\w+)">', page)


def cells(page: str, first: str) -> list[str]:
    """Return the texts of the row that begins with a text."""
    row = next(row for row in re.findall(r"<tr>.*?</tr>", page) if f">{first}</td>" in row)
    return re.findall(r">([^<>]+)</td>", row)


def test_every_cell_has_a_page(report: Path) -> None:
    names = {path.name for path in (report / "runs").glob("*.html")}
    # resnet20 and vgg16_x0_25: unpruned, 9 methods at 3 ratios, 3 settings of epruner
    assert len(names) == 2 * (1 + 9 * 3 + 3)
    assert {GREG, EPRUNER, "digits-resnet20-unpruned-default-0.html"} <= names


def test_the_phases_have_their_learning_rates(greg: str) -> None:
    assert cells(greg, "regularize") == ["regularize", "0–8", "8", "0.01", "pruned"]
    assert cells(greg, "fine_tune") == ["fine_tune", "8–20", "12", "0.01", "–"]


def test_accuracy_loss_widths_and_diagnostics_are_drawn(greg: str) -> None:
    over_epochs = ["run_accuracy", "run_lr", "run_train_loss"]
    assert charts(greg) == [*over_epochs, "run_widths", "run_steps", "run_steps"]


def test_a_quantity_that_was_logged_once_is_drawn_over_the_layers(report: Path) -> None:
    page = (report / "runs" / EPRUNER).read_text(encoding="utf-8")
    assert charts(page)[-1] == "run_layers"


def test_the_recipe_shows_what_differs_from_the_defaults(greg: str) -> None:
    assert cells(greg, "batch_size") == ["batch_size", "64"]
    assert "label_smoothing" not in greg


def test_costs_stand_before_and_after(greg: str) -> None:
    # 2.53 M * (0.75 * 0.25 + 0.25 * 0.5) = 790,625
    assert cells(greg, "MACs") == ["MACs", "0, 1", "2,530,000", "790,625", "3.20×"]


def test_each_seed_has_its_column_to_link_to(greg: str) -> None:
    assert '<th scope="col" id="seed0">seed 0</th><th scope="col" id="seed1">seed 1</th>' in greg
    assert len(cells(greg, "specification")) == 3


def test_the_commands_repeat_the_runs(greg: str) -> None:
    run = "digits/digits/resnet20/greg_1/default/0.5"
    discard = f"prunebench discard results/{run}/seed0 results/{run}/seed1"
    everything = f"{discard} && snakemake --cores all --config experiments=digits"
    alone = (
        "prunebench prune --experiment digits --dataset digits --architecture resnet20 "
        "--method greg_1 --setting default --ratio 0.5 --seed 1"
    )
    assert f"<pre>{everything}</pre>" in greg
    assert f"<pre>{alone}</pre>" in greg


def test_the_log_has_a_row_per_epoch_and_event(greg: str) -> None:
    log = greg[greg.index("<summary>Seed 1</summary>") :]
    assert log.count("<td>") - log.count("<tr>") > 0
    assert len(re.findall(r'<td class="text">(?:regularize|fine_tune)</td>', log)) == 8 + 1 + 12


def test_the_output_of_the_jobs_is_named(greg: str, tmp_path: Path) -> None:
    run = "digits/digits/resnet20/greg_1/default/0.5/seed1"
    assert f"<code>results/logs/{run}.log</code>" in greg
    assert "<code>" not in page_of(tmp_path, reused="old.csv")


def page_of(tmp_path: Path, **columns: object) -> str:
    """Return the page of a run with some columns of its own."""
    write_report(few_runs(PLAIN | columns), tmp_path)
    (page,) = (tmp_path / "runs").glob("*.html")
    return html.unescape(page.read_text(encoding="utf-8"))


def test_options_are_listed_or_said_to_be_missing(tmp_path: Path) -> None:
    options = json.dumps({"rounds": 3, "layers": None})
    page = page_of(tmp_path, options=options)
    assert cells(page, "option rounds") == ["option rounds", "3"]
    assert cells(page, "option layers") == ["option layers", "null"]
    assert "not recorded in this runs.csv" in page_of(tmp_path)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"capped": "prune;x"}, "Seed 0: prune, x reached its maximum length unfinished."),
        ({"code": "other"}, "Seed 0: computed by another version of the method's source code."),
        ({"reused": "old.csv"}, "Seed 0: reused from old.csv."),
    ],
)
def test_what_a_reader_must_know_is_a_warning(
    tmp_path: Path, columns: dict[str, object], words: str
) -> None:
    assert f'<p class="warning">{words}</p>' in page_of(tmp_path, **columns)


def test_zeroed_weights_have_a_cost_of_their_own(tmp_path: Path) -> None:
    page = page_of(tmp_path, macs=100, macs_theoretical=25)
    assert cells(page, "MACs without zeroed weights")[2:] == ["100", "25", "4.00×"]


def test_a_run_without_training_says_so(tmp_path: Path) -> None:
    page = page_of(tmp_path, recipes="{}", history=None)
    assert "The runs use no recipe: they train nothing." in page
    assert "Nothing was trained or removed: the runs have no history." in page
    assert charts(page) == ["run_widths", "run_steps"]


@pytest.fixture(scope="session")
def page_of_many(many: Path) -> str:
    (page,) = (many / "runs").glob("*.html")
    return html.unescape(page.read_text(encoding="utf-8"))


def points(page: str, chart: str) -> list[dict[str, object]]:
    """Return the data of a chart."""
    found = re.search(rf'data-chart="{chart}">.*?json">(.*?)</script>', page, re.DOTALL)
    assert found
    return list(json.loads(found[1])["points"])


def test_many_seeds_are_drawn_as_their_middle_half(page_of_many: str) -> None:
    over_epochs = ["run_accuracy_half", "run_train_loss_half"]
    assert charts(page_of_many) == [*over_epochs, "run_widths", "run_steps_half", "run_layers_half"]
    *_, last = points(page_of_many, "run_accuracy_half")
    assert (last["epoch"], last["event"], last["top-1"]) == (2, "", "93.00 %")
    assert (last["error"], last["low"], last["high"]) == (7.0, 9.0, 5.0)  # distances to 100 %
    assert last["quartiles"] == "91.00 to 95.00 %"
    assert [point["event"] for point in points(page_of_many, "run_accuracy_half")] == [
        "pruned",
        "",
        "",
    ]
    *_, loss = points(page_of_many, "run_train_loss_half")
    assert (loss["train_loss"], loss["quartiles"]) == (0.5, "0.300 to 0.700")
    *_, layer = points(page_of_many, "run_layers_half")
    assert (layer["layer name"], layer["value"], layer["low"], layer["high"]) == (
        "b",
        4.0,
        2.0,
        6.0,
    )


def test_the_results_of_many_seeds_are_their_quartiles(page_of_many: str) -> None:
    row = ["top-1", "9", "10.00", "91.00", "93.00", "95.00", "97.00"]
    assert cells(page_of_many, "top-1") == row
    assert cells(page_of_many, "processor") == ["processor", "some processor"]
    assert "seeds 0–8" in page_of_many


def test_each_of_many_seeds_has_a_row_to_link_to(page_of_many: str) -> None:
    assert "<summary>All 9 seeds</summary>" in page_of_many
    (row,) = re.findall(r'<tr id="seed8">(.*?)</tr>', page_of_many)
    texts = re.findall(r">([^<>]+)</td>", row)
    assert (texts[:2], texts[-1]) == (["8", "10.00"], "s8")


def test_costs_that_differ_between_many_seeds_are_a_range(page_of_many: str) -> None:
    assert cells(page_of_many, "MACs") == ["MACs", "0–8", "100", "50", "2.00×"]
    name = "latency in ms, CPU, one image"
    assert cells(page_of_many, name) == [name, "0–8", "4.00", "2.00 to 2.80", "1.43× to 2.00×"]


def test_the_logs_of_many_seeds_are_those_of_three(page_of_many: str) -> None:
    logs = re.findall(r"<summary>(Seed \d)</summary>", page_of_many)
    assert logs == ["Seed 8", "Seed 3", "Seed 7"]  # the lowest, the median, the highest accuracy
    folder = "results/logs/digits/digits/resnet20/l1/default/0.5"
    assert re.findall(r"<code>(results.*?)</code>", page_of_many) == [f"{folder}/seed*.log"]
