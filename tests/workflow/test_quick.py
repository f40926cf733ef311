"""The experiment `quick` from data to tables and figures, and the reruns after changes."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from tests.workflow.conftest import planned, quick_methods, snakemake

QUICK = ("--config", "experiments=quick")
AFTER_A_RUN = {
    "measure_cost": 1,
    "measure_latency": 1,
    "collect": 1,
    "write_tables": 1,
    "draw_figures": 1,
    "write_report": 1,
    "all": 1,
}


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text(encoding="utf-8")
    assert old in content
    path.write_text(content.replace(old, new), encoding="utf-8")


def test_the_run_ends_with_a_row_for_each_method(quick: Path) -> None:
    with (quick / "results/quick/runs.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert list(rows) == quick_methods()
    assert {row["architecture"] for row in rows.values()} == {"resnet20"}
    assert float(rows["unpruned"]["top1"]) > 90
    assert rows["l1"]["ratio"] == "0.5"
    assert int(rows["l1"]["macs"]) < int(rows["unpruned"]["macs"])


@pytest.mark.parametrize(
    "name",
    [
        "data/digits.safetensors",
        "resolved/quick.jsonl",
        "base/digits/resnet20/digits_base/seed0/model.safetensors",
        "quick/digits/resnet20/l1/default/0.5/seed0/model.safetensors",
        "quick/digits/resnet20/l1/default/0.5/seed0/structure.json",
        "quick/digits/resnet20/l1/default/0.5/seed0/training.json",
        "quick/digits/resnet20/l1/default/0.5/seed0/finished.json",
        "quick/digits/resnet20/l1/default/0.5/seed0/history.csv",
        "quick/digits/resnet20/l1/default/0.5/seed0/metrics.json",
        "quick/digits/resnet20/l1/default/0.5/seed0/latency.json",
        "quick/digits/resnet20/unpruned/default/0/seed0/training.json",
        "logs/quick/digits/resnet20/l1/default/0.5/seed0.log",
        "logs/quick/digits/resnet20/l1/default/0.5/seed0.job.log",
        "benchmarks/quick/digits/resnet20/measure_latency_0.tsv",
        "quick/runs.csv",
        "quick/tables/summary.csv",
        "quick/tables/summary.md",
        "quick/tables/summary_short.md",
        "quick/tables/fairness.md",
        "quick/tables/fairness.csv",
        "quick/tables/summary.tex",
        "quick/tables/summary.html",
        "quick/figures/accuracy_speedup.svg",
        "quick/figures/accuracy_speedup.png",
        "quick/figures/accuracy_latency.svg",
        "quick/figures/kept_width.svg",
        "quick/figures/accuracy_epochs.svg",
        "quick/figures/method_diagnostics.svg",
        "quick/figures/accuracy_without_training.svg",
        "quick/report/index.html",
        "quick/report/runs/charts.js",
        "quick/report/runs/digits-resnet20-l1-default-0.5.html",
    ],
)
def test_results_have_their_fixed_paths(quick: Path, name: str) -> None:
    assert (quick / "results" / name).stat().st_size > 0


def test_a_second_run_has_nothing_to_do(quick_copy: Path) -> None:
    done = snakemake(quick_copy, "-n", *QUICK)
    assert "Using workflow specific profile profiles/default" in done.stdout
    assert "Nothing to be done" in done.stdout


def test_planning_another_experiment_keeps_the_file_of_a_running_one(quick_copy: Path) -> None:
    resolved = quick_copy / "results/resolved/quick.jsonl"
    before = resolved.read_bytes()
    planned(quick_copy, "--config", "experiments=digits")
    assert resolved.read_bytes() == before


def test_another_ratio_trains_only_its_own_runs(quick_copy: Path) -> None:
    edit(quick_copy / "config/experiments/quick.yaml", "ratios: [0.5]", "ratios: [0.5, 0.25]")
    with_ratios = len(quick_methods()) - 1  # all but unpruned
    assert planned(quick_copy, *QUICK) == {"prune": with_ratios, **AFTER_A_RUN}


def test_only_a_deleted_run_is_run_again(quick_copy: Path) -> None:
    shutil.rmtree(quick_copy / "results/quick/digits/resnet20/l1")
    assert planned(quick_copy, *QUICK) == {"prune": 1, **AFTER_A_RUN}


def test_training_jobs_fork_from_a_server(quick_copy: Path) -> None:
    run = Path("results/quick/digits/resnet20/l1/default/0.5/seed0")
    shutil.rmtree(quick_copy / run)
    # Every Python that starts lists its imports in its log; what forks has imported before.
    env = {"PYTHONPROFILEIMPORTTIME": "1"}
    target = str(run / "finished.json")
    done = snakemake(quick_copy, target, "--cores", "1", *QUICK, env=env)
    assert done.returncode == 0, done.stdout
    log = quick_copy / "results/logs/quick/digits/resnet20/l1/default/0.5/seed0.job.log"
    imported = {line.split("|")[-1].strip() for line in log.read_text("utf-8").splitlines()}
    assert "prunebench.cli.forkserver" in imported
    assert imported.isdisjoint({"torch", "prunebench.cli.app"})


def test_a_deleted_table_is_collected_again(quick_copy: Path) -> None:
    (quick_copy / "results/quick/runs.csv").unlink()
    jobs = planned(quick_copy, *QUICK)
    assert jobs == {"collect": 1, "write_tables": 1, "draw_figures": 1, "write_report": 1, "all": 1}


def test_another_revision_of_a_method_reruns_only_that_method(
    quick_copy: Path, patched_package: Path
) -> None:
    source = patched_package / "prunebench/criteria/weights.py"
    source.write_text(source.read_text(encoding="utf-8") + "\n\nL1.revision += 1\n")
    jobs = planned(quick_copy, *QUICK, env={"PYTHONPATH": str(patched_package)})
    assert jobs == {"prune": 1, **AFTER_A_RUN}


def test_an_edit_of_training_code_reruns_nothing(quick_copy: Path, patched_package: Path) -> None:
    source = patched_package / "prunebench/training/loop.py"
    source.write_text(source.read_text(encoding="utf-8") + "\n# edited\n")
    assert planned(quick_copy, *QUICK, env={"PYTHONPATH": str(patched_package)}) == {}


def test_an_edit_of_a_plot_redraws_and_trains_nothing(
    quick_copy: Path, patched_package: Path
) -> None:
    source = patched_package / "prunebench/report/figures/style.py"
    source.write_text(source.read_text(encoding="utf-8") + "\n# edited\n")
    jobs = planned(quick_copy, *QUICK, env={"PYTHONPATH": str(patched_package)})
    assert jobs == {"write_tables": 1, "draw_figures": 1, "write_report": 1, "all": 1}


def test_another_device_or_data_folder_reruns_nothing(quick_copy: Path) -> None:
    assert planned(quick_copy, *QUICK, "device=cpu", "data_dir=elsewhere") == {}


def test_figures_tables_and_report_are_drawn_from_runs_csv_alone(
    quick: Path, workflow: Path
) -> None:
    table = workflow / "results/quick/runs.csv"
    table.parent.mkdir(parents=True)
    shutil.copy2(quick / "results/quick/runs.csv", table)
    jobs = planned(workflow, "figures", "tables", "reports", *QUICK)
    drawn = {"draw_figures": 1, "write_tables": 1, "write_report": 1}
    assert jobs == {**drawn, "figures": 1, "tables": 1, "reports": 1}
    assert not (workflow / "results/resolved").exists()


def test_the_report_is_one_page_with_captions(quick_copy: Path) -> None:
    done = snakemake(quick_copy, "--report", "report.html", *QUICK)
    assert done.returncode == 0, done.stdout
    page = (quick_copy / "report.html").read_text(encoding="utf-8")
    for name in ("accuracy_speedup", "kept_width", "accuracy_epochs"):
        assert f"figures/{name}.svg" in page
    assert "error bars are sample standard deviations over seeds" in page
