from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest

from prunebench.report.pages.report_page import write_report
from tests.report.conftest import few_runs

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
    plain = {
        "base_params": 8,
        "params": 2,
        "base_macs": 100,
        "activations": 7,
        "training_seconds": 1.0,
        "versions": '{"prunebench":"0.1.0"}',
        "recipes": '{"fine_tune":{"name":"short","lr":0.01,"schedule":{"kind":"constant"}}}',
        "device": "cpu",
        "processor": "some processor",
        "date": "2026-11-30",
    }
    write_report(few_runs(plain | columns), tmp_path)
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
