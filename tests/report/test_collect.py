from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ResultError
from prunebench.core.files import file_hash
from prunebench.experiments.results import HistoryRow, LatencyEntry, PlanResult, write_history
from prunebench.experiments.spec import RunSpec
from prunebench.report.collect import collect, collect_to_csv, finished, write_rows
from prunebench.report.runs_csv import RunRow, read_rows
from tests.stored_files import change

from .conftest import latency

HISTORY_HEAD = ",".join(HistoryRow._fields).replace("accuracy", "top1") + "\n"
OneRun = tuple[Path, RunSpec]


def collect_one(run: OneRun) -> RunRow:
    (row,) = collect(run[0], [run[1]])
    return row


def test_accuracy_is_percent_and_the_drop_is_against_the_base_of_the_seed(one_run: OneRun) -> None:
    results, spec = one_run
    change(results / spec.base.path / "training.json", top1=98.5)
    change(results / spec.path / "training.json", top1=98.0)
    row = collect_one(one_run)
    assert (row.base_top1, row.top1, row.drop) == (98.5, 98.0, 0.5)


def test_speedups_and_reductions_follow_from_the_counts(one_run: OneRun) -> None:
    results, spec = one_run
    counts = {"macs": 40, "macs_theoretical": 25, "base_macs": 100, "params": 30}
    change(results / spec.path / "metrics.json", **counts, base_params=120, sparsity=0.9)
    row = collect_one(one_run)
    assert row.speedup_macs == 2.5
    assert row.speedup_theoretical == 4.0  # zeros left in place do not count
    assert row.flops_reduction_pct == pytest.approx(60.0)
    assert row.params_reduction_pct == pytest.approx(75.0)
    assert row.flops_m == 40e-6
    assert row.sparsity_pct == 90.0


def test_specification_stands_beside_the_results(one_run: OneRun) -> None:
    row = collect_one(one_run)
    assert (row.method, row.ratio, row.ratio_kind) == ("l1", 0.5, "units_per_group")
    assert (row.seed, row.start, row.fine_tune_epochs) == (0, "base", 12)
    assert json.loads(row.recipes)["fine_tune"]["name"] == "digits_fine_tune"
    assert row.base_hash == one_run[1].base.hash


def test_the_origin_of_a_result_stands_beside_it(one_run: OneRun) -> None:
    results, spec = one_run
    origin = {"data_sha256": "d1", "processor": "AMD EPYC", "date": "2026-11-30"}
    change(results / spec.path / "training.json", **origin)
    row = collect_one(one_run)
    assert (row.data_hash, row.processor, row.date) == ("d1", "AMD EPYC", "2026-11-30")


def test_the_complete_options_stand_beside_the_recipes(one_run: OneRun) -> None:
    results, spec = one_run
    change(results / spec.path / "training.json", options={"rounds": 1, "layers": None})
    assert collect_one(one_run).options == '{"rounds":1,"layers":null}'
    change(results / spec.path / "training.json", options=None)
    assert collect_one(one_run).options is None


def test_the_accuracy_after_the_last_removal_stands_beside_the_final_one(one_run: OneRun) -> None:
    results, spec = one_run
    plan = PlanResult(
        phase="select",
        val_accuracy_before=None,
        test_accuracy_before=90.0,
        val_accuracy_after=None,
        test_accuracy_after=20.0,
        macs=1,
        params=1,
        selection_seconds=0.0,
        masked_removed_difference=None,
    ).model_dump()
    change(
        results / spec.path / "training.json", plans=[plan, plan | {"test_accuracy_after": 10.0}]
    )
    assert collect_one(one_run).accuracy_after_removal == 10.0
    change(results / spec.path / "training.json", plans=[])
    assert collect_one(one_run).accuracy_after_removal is None


def test_widths_keep_the_network_order_and_stages_go_along(one_run: OneRun) -> None:
    results, spec = one_run
    layers = {"z": {"kept": 3, "full": 4, "stage": None}, "a": {"kept": 1, "full": 8, "stage": 1}}
    change(results / spec.path / "structure.json", layers=layers)
    row = collect_one(one_run)
    assert (row.widths, row.stages) == ('{"z":[3,4],"a":[1,8]}', "[null,1]")


def test_rows_come_in_the_order_of_the_specifications(
    results: tuple[Path, list[RunSpec]],
) -> None:
    folder, specs = results
    some = [specs[40], specs[3], specs[0]]
    assert [row.spec_hash for row in collect(folder, some)] == [spec.hash for spec in some]


@pytest.mark.parametrize("name", ["training.json", "metrics.json", "latency.json"])
def test_result_of_another_specification_is_stale(one_run: OneRun, name: str) -> None:
    results, spec = one_run
    change(results / spec.path / name, spec_hash="0123")
    with pytest.raises(ResultError, match=rf"seed0/{name}: stale .* 0123, expected {spec.hash}"):
        collect_one(one_run)


def test_base_of_another_specification_is_stale(one_run: OneRun) -> None:
    results, spec = one_run
    change(results / spec.base.path / "training.json", spec_hash="0123")
    with pytest.raises(ResultError, match=r"base/digits/.*training\.json: stale"):
        collect_one(one_run)


@pytest.mark.parametrize(
    "name", ["training.json", "metrics.json", "structure.json", "history.csv", "diagnostics.csv"]
)
def test_missing_file_is_named(one_run: OneRun, name: str) -> None:
    results, spec = one_run
    (results / spec.path / name).unlink()
    with pytest.raises(ResultError, match=rf"seed0/{name}: no such file"):
        collect_one(one_run)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("training.json", '{"top1": ', "not valid JSON"),
        ("training.json", "[]", "the file is damaged or from another version"),
        ("structure.json", "{}", "not the structure of a network"),
        ("structure.json", '{"layers": {"a": 3}}', "not the structure of a network"),
        ("history.csv", "", "the column 'phase' is missing"),
        (
            "history.csv",
            HISTORY_HEAD + "x,1,18,,much,,,,,,,\n",
            "train_loss is 'much', not a number",
        ),
        ("history.csv", HISTORY_HEAD + "x,1,18\n", "row 1 has 3 cells, expected 12"),
    ],
)
def test_damaged_file_is_named(one_run: OneRun, name: str, text: str, message: str) -> None:
    results, spec = one_run
    (results / spec.path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ResultError, match=rf"seed0/{name}: .*{message}"):
        collect_one(one_run)


RECORDED = ("structure.json", "history.csv", "diagnostics.csv", "masks.safetensors")


@pytest.fixture
def recorded_run(one_run: OneRun) -> OneRun:
    """A run that has recorded the hashes of its files."""
    folder = one_run[0] / one_run[1].path
    (folder / "masks.safetensors").write_bytes(bytes(16))
    change(folder / "training.json", files={name: file_hash(folder / name) for name in RECORDED})
    return one_run


@pytest.mark.parametrize("name", RECORDED)
def test_a_file_with_one_changed_bit_is_named(recorded_run: OneRun, name: str) -> None:
    collect_one(recorded_run)
    path = recorded_run[0] / recorded_run[1].path / name
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ResultError, match=rf"{name}: SHA-256 is .*; the file is damaged: run"):
        collect_one(recorded_run)


@pytest.mark.parametrize("key", ["top1", "seconds", "versions"])
def test_missing_key_is_named(one_run: OneRun, key: str) -> None:
    path = one_run[0] / one_run[1].path / "training.json"
    change(path, without=(key,))
    with pytest.raises(ResultError, match=rf"training\.json: the key '{key}' is missing"):
        collect_one(one_run)


def test_history_holds_nothing_for_empty_and_infinite_cells(one_run: OneRun) -> None:
    results, spec = one_run
    pruned = HistoryRow("select", 0, 0, val_accuracy=40.5, event="pruned")
    epoch = HistoryRow(
        "fine_tune", 1, 18, 0.1, train_loss=math.nan, val_accuracy=96.0, test_accuracy=math.inf
    )
    write_history(results / spec.path, [pruned, epoch])
    assert json.loads(collect_one(one_run).history) == {
        "phase": ["select", "fine_tune"],
        "epoch": [0.0, 1.0],
        "event": ["pruned", ""],
        "lr": [None, 0.1],
        "train_loss": [None, None],
        "val_top1": [40.5, 96.0],
        "test_top1": [None, None],
    }


def test_unmeasured_latency_leaves_no_columns(one_run: OneRun) -> None:
    results, spec = one_run
    (results / spec.path / "latency.json").unlink()
    assert not collect_one(one_run).more


Stored = tuple[Path, RunSpec, Path]


@pytest.fixture
def stored(one_run: OneRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stored:
    """A results folder without its run, the run, and a runs.csv with its row."""
    results, spec = one_run
    whole = latency("cpu", 64, 6.0, 9.0).model_copy(update={"part": "whole"})
    both = entries(latency("cpu", 64, 4.0, 8.0), whole, latency("cuda", 64, 2.0, 8.0))
    change(results / spec.path / "latency.json", entries=both)
    change(results / spec.path / "training.json", code="c1")
    change(results / spec.base.path / "training.json", weights_sha256=spec.base.hash)
    devices = {entry["device_kind"]: entry["device"] for entry in both}
    monkeypatch.setattr("prunebench.report.collect.processor_name", lambda: devices["cpu"])
    monkeypatch.setattr("prunebench.report.collect.gpu_name", lambda: None)
    write_rows(tmp_path / "old.csv", collect(results, [spec]))
    shutil.rmtree(results / spec.path)
    return results, spec, tmp_path / "old.csv"


def test_a_reused_row_has_the_names_of_the_new_run(stored: Stored) -> None:
    results, spec, file = stored
    names = {role: "renamed" for role in spec.recipes}
    new = spec.model_copy(update={"experiment": "new", "setting": "b", "recipe_names": names})
    (row,) = collect(results, [new], None, lambda *_: "c2", [file])
    (old,) = read_rows(file)
    assert (row.experiment, row.setting, row.reused) == ("new", "b", str(file))
    assert json.loads(row.recipes)["fine_tune"]["name"] == "renamed"
    assert (row.top1, row.history, row.versions) == (old.top1, old.history, old.versions)
    assert (old.code, row.code) == (None, "other")  # the code has changed since


def test_latencies_of_other_devices_are_not_reused(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    results, spec, file = stored
    (here,) = collect(results, [spec], reuse=[file])
    assert {name for name in here.more if "latency" in name} == {
        f"latency_{quantity}_cpu_{where}"
        for quantity in ("ms", "base_ms", "speedup", "speedup_low", "speedup_high")
        for where in ("b64", "whole_b64")
    }
    assert list(json.loads(here.latency_devices)) == ["cpu"]
    monkeypatch.setattr("prunebench.report.collect.processor_name", lambda: "another")
    (there,) = collect(results, [spec], reuse=[file])
    assert not any("latency" in name for name in there.more)
    assert there.latency_devices == "{}"


def test_a_row_that_does_not_fit_any_more_is_named(stored: Stored) -> None:
    results, spec, file = stored
    change(results / spec.base.path / "training.json", weights_sha256="w2")
    with pytest.raises(
        ResultError, match=r"old\.csv: the row of .* has the base network .*; start"
    ):
        collect(results, [spec], reuse=[file])


def test_finished_runs_are_those_with_results_or_a_row(stored: Stored) -> None:
    results, spec, file = stored
    other = spec.model_copy(update={"seed": 7})
    assert finished(results, [spec, other], [file]) == [spec]
    assert finished(results, [spec, other]) == []


def entries(*some: LatencyEntry) -> list[dict[str, Any]]:
    return [entry.model_dump() for entry in some]


def test_latencies_of_cpu_and_gpu_never_share_a_column(one_run: OneRun) -> None:
    results, spec = one_run
    both = entries(latency("cpu", 64, 4.0, 8.0), latency("cuda", 64, 2.0, 8.0))
    change(results / spec.path / "latency.json", entries=both)
    row = collect_one(one_run)
    assert (row.more["latency_ms_cpu_b64"], row.more["latency_ms_cuda_b64"]) == (4.0, 2.0)
    assert (row.more["latency_speedup_cpu_b64"], row.more["latency_speedup_cuda_b64"]) == (2.0, 4.0)


def test_latencies_of_both_parts_of_a_detector_are_columns(one_run: OneRun) -> None:
    results, spec = one_run
    whole = latency("cpu", 64, 6.0, 9.0).model_copy(update={"part": "whole"})
    both = entries(latency("cpu", 64, 4.0, 8.0), whole)
    change(results / spec.path / "latency.json", entries=both)
    row = collect_one(one_run)
    assert (row.more["latency_ms_cpu_b64"], row.more["latency_ms_cpu_whole_b64"]) == (4.0, 6.0)
    assert row.more["latency_speedup_cpu_whole_b64"] == 1.5


@pytest.mark.parametrize(
    ("unstable", "cell"), [(None, None), ("", 0), ("two repetitions differ by 4.0 %", 1)]
)
def test_a_latency_has_the_range_of_its_speedup_and_says_if_it_is_unstable(
    one_run: OneRun, unstable: str | None, cell: int | None
) -> None:
    results, spec = one_run
    entry = latency("cpu", 64, 4.0, 8.0).model_copy(update={"unstable": unstable})
    graph = latency("cuda", 64, 2.0, 8.0).model_copy(update={"mode": "graph"})
    both = entries(entry, graph, latency("cuda", 64, 4.0, 8.0))
    change(results / spec.path / "latency.json", entries=both)
    more = collect_one(one_run).more
    assert more["latency_speedup_low_cpu_b64"] == 8.0 * 0.98 / (4.0 * 1.02)
    assert more["latency_speedup_high_cpu_b64"] == 8.0 * 1.02 / (4.0 * 0.98)
    assert more.get("latency_unstable_cpu_b64") == cell
    assert more["latency_speedup_cuda_graph_b64"] == 4.0
    assert more["latency_speedup_cuda_b64"] == 2.0


def test_two_latencies_for_one_column_are_refused(one_run: OneRun) -> None:
    results, spec = one_run
    both = entries(latency("cpu", 64, 4.0, 8.0), latency("cpu", 64, 2.0, 8.0))
    change(results / spec.path / "latency.json", entries=both)
    with pytest.raises(ResultError, match=r"latency\.json: two entries for latency_ms_cpu_b64"):
        collect_one(one_run)


def test_summary_figure_of_a_method_is_a_column(one_run: OneRun) -> None:
    results, spec = one_run
    change(results / spec.path / "training.json", summary={"mask_distance": 0.25})
    assert collect_one(one_run).more["mask_distance"] == 0.25


@pytest.mark.parametrize("name", ["top1", "latency_ms_cpu_b1"])
def test_summary_figure_may_not_take_a_column(one_run: OneRun, name: str) -> None:
    results, spec = one_run
    change(results / spec.path / "training.json", summary={name: 1.0})
    with pytest.raises(ResultError, match=f"training.json: .*'{name}' is already a column"):
        collect_one(one_run)


def test_absent_values_are_empty_cells(one_run: OneRun, tmp_path: Path) -> None:
    row = collect_one(one_run)
    path = tmp_path / "runs.csv"
    write_rows(path, [replace(row, ratio=None, more={}), replace(row, method="b", more={"x": 2})])
    with path.open(encoding="utf-8", newline="") as file:
        first, second = csv.DictReader(file)
    assert first["ratio"] == first["x"] == second["top1_std"] == ""
    assert (first["method"], second["method"], second["x"]) == ("l1", "b", "2")


def test_same_results_give_the_same_bytes(
    results: tuple[Path, list[RunSpec]], runs_csv: Path
) -> None:
    before = runs_csv.read_bytes()
    assert collect_to_csv(results[0], "digits", results[1]) == runs_csv
    assert runs_csv.read_bytes() == before


def test_experiment_without_runs_is_refused(one_run: OneRun) -> None:
    with pytest.raises(ResultError, match="no run belongs to the experiment 'digist'"):
        collect_to_csv(one_run[0], "digist", [one_run[1]])


def test_only_the_runs_of_the_experiment_are_collected(one_run: OneRun) -> None:
    results, spec = one_run
    other = spec.model_copy(update={"experiment": "other"})
    path = collect_to_csv(results, "digits", [other, spec])
    assert path == results / "digits" / "runs.csv"
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
