"""`prunebench verify`: stored runs are recomputed and compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from tests.stored_files import change

from .conftest import BASE, COLUMNS, L1


def test_runs_without_an_end_can_be_left_out_of_a_measurement(call: Any, workplace: Path) -> None:
    (COLUMNS / "training.json").unlink()
    (COLUMNS / "model.safetensors").unlink()
    assert call("measure", "--only", "cost")[0] == 1
    code, out, _ = call("measure", "--only", "cost", "--finished")
    assert (code, out.count("fewer MACs")) == (0, 1)


def test_a_verified_run_is_one_line(call: Any, workplace: Path) -> None:
    code, out, err = call("verify", str(L1))
    assert (code, err) == (0, "")
    training = json.loads((L1 / "training.json").read_text())
    assert out.startswith(f"{L1.relative_to('results')} · top-1 {training['top1']:.2f} % again (")
    for words in (
        "M MACs and ",
        "M parameters again · masked = removed to ",
        f"specification {training['spec_hash'][:8]}",
        f"weights {training['weights_sha256'][:8]}",
        f"base {training['base_hash'][:8]}",
        f"data {training['data_sha256'][:8]}",
    ):
        assert words in out


def test_all_runs_below_a_folder_are_checked(call: Any, workplace: Path) -> None:
    code, out, _ = call("verify", "results")
    assert code == 0
    assert [line.split(" · ")[0] for line in out.splitlines()] == [
        str(path.relative_to("results")) for path in (BASE, L1, COLUMNS)
    ]
    assert "masked entries are zero" in out.splitlines()[2]


def edited(file: str, **changed: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        change(folder / file, **changed)

    return edit


def other_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def another_base(folder: Path) -> None:
    other_weights(BASE)


def half_of_latencies(folder: Path) -> None:
    (folder / "latency.json").write_text('{"entries": [', encoding="utf-8")


def other_options(folder: Path) -> None:
    path = folder / "training.json"
    training = json.loads(path.read_text())
    change(path, spec=training["spec"] | {"seed": 1})


def no_specification(folder: Path) -> None:
    edited("training.json", spec={"experiment": "tiny"})(folder)


def masked_more(folder: Path) -> None:
    path = folder / "masks.safetensors"
    masks = safetensors.torch.load_file(path)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    name = next(iter(masks))
    masks[name] = masks[name] & (weights[name] == 0)
    safetensors.torch.save_file(masks, path)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (other_weights, "model.safetensors: SHA-256 is "),
        (another_base, "one_epoch/seed0/model.safetensors: SHA-256 is "),
        (edited("training.json", data_sha256="0"), "synthetic.safetensors: SHA-256 is "),
        (edited("training.json", top1=3.125), "top-1 is "),
        (edited("metrics.json", macs=7), "metrics.json: macs is 7, expected "),
        (half_of_latencies, "latency.json: not valid JSON"),
        (other_options, "training.json: spec_hash is "),
        (no_specification, "training.json: spec is not a specification of this version"),
        (masked_more, "masks.safetensors: "),
    ],
)
def test_a_difference_is_a_one_line_error(
    call: Any, workplace: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(COLUMNS)
    code, out, err = call("verify", str(COLUMNS), str(L1.parent))
    assert code == 1
    lines = err.splitlines()
    assert lines[0].startswith("prunebench: ")
    assert sentence in lines[0]
    if spoil is not another_base:  # on which the other run rests too
        assert out.count("\n") == 1  # that one holds
        assert lines[1:] == ["prunebench: 1 of 2 runs failed the check"]


def test_a_run_in_another_place_is_refused(call: Any, workplace: Path) -> None:
    shutil.copytree(L1, workplace / "elsewhere")
    code, _, err = call("verify", "elsewhere")
    assert code == 1
    assert "elsewhere: the run says that it lies at tiny/synthetic/" in err


def test_a_folder_without_runs_is_refused(call: Any, workplace: Path) -> None:
    code, _, err = call("verify", "config")
    assert (code, err) == (1, "prunebench: config: no finished run in this folder or below\n")


def test_recomputing_on_another_processor_is_said(call: Any, workplace: Path) -> None:
    path = L1 / "training.json"
    training = json.loads(path.read_text())
    here = training["processor"]
    assert here
    assert training["test_images"] > 0
    change(path, processor="Other CPU")
    code, out, _ = call("verify", str(L1))
    assert code == 0
    assert f"recomputed on {here}, stored on Other CPU" in out
    assert "recomputed" not in call("verify", str(BASE))[1]


def test_results_of_earlier_versions_name_no_processor(call: Any, workplace: Path) -> None:
    path = L1 / "training.json"
    change(path, without=("processor", "test_images"))
    code, out, _ = call("verify", str(L1))
    assert code == 0
    assert "recomputed" not in out


def test_collect_says_how_to_repeat_runs_by_other_code(call: Any, workplace: Path) -> None:
    assert call("measure", "--only", "cost")[0] == 0
    assert "snakemake" not in call("collect")[2]
    path = L1 / "training.json"
    training = json.loads(path.read_text())
    assert len(training["code"]) == 64
    change(path, code="0" * 64)
    code, _, err = call("collect")
    assert code == 0
    command = f"prunebench discard {L1} && snakemake --cores all --config experiments=tiny"
    assert err.rstrip().endswith(command)
    assert call("tables", "--runs-csv", "results/tiny/runs.csv", "--out", "tables")[2] == err
    assert "other" in Path("tables/summary.md").read_text()


def test_a_damaged_run_is_repaired_and_nothing_else(call: Any, workplace: Path) -> None:
    assert call("measure", "--only", "cost")[0] == 0
    base = (BASE / "training.json").stat().st_mtime_ns
    before = (L1 / "history.csv").read_bytes()
    (L1 / "history.csv").write_bytes(before[:-5])
    (L1 / "metrics.json").write_text("{")
    code, _, err = call("verify", str(L1))
    assert code == 1
    assert f"run `prunebench repair {L1}`" in err
    code, out, err = call("repair", str(L1))
    assert code == 0, err
    assert f"{L1}/history.csv: SHA-256 is" in out
    assert (L1 / "history.csv").read_text().count("\n") == before.decode().count("\n")
    assert (BASE / "training.json").stat().st_mtime_ns == base
    assert call("verify", str(L1))[0] == 0


def test_damaged_measurements_are_repaired_without_training(call: Any, workplace: Path) -> None:
    assert call("measure", "--only", "cost")[0] == 0
    trained = (L1 / "training.json").stat().st_mtime_ns
    whole = (L1 / "metrics.json").read_bytes()
    (L1 / "metrics.json").write_bytes(whole.replace(b'"macs": 1', b'"macs": 2'))
    assert call("repair", str(L1))[0] == 0
    assert (L1 / "metrics.json").read_bytes() == whole
    assert (L1 / "training.json").stat().st_mtime_ns == trained


def test_a_run_without_its_specification_is_not_repaired(call: Any, workplace: Path) -> None:
    (L1 / "training.json").write_text("{")
    code, _, err = call("repair", str(L1))
    assert code == 1
    assert "not valid JSON" in err
    assert "its specification is not in " in err
    assert call("resolve")[0] == 0
    code, _, err = call("repair", str(L1))
    assert code == 0, err
    assert call("verify", str(L1))[0] == 0


def test_a_discarded_run_is_no_longer_finished(call: Any, workplace: Path) -> None:
    code, out, _ = call("discard", str(L1))
    assert (code, out) == (0, f"{L1}: discarded\n")
    assert not (L1 / "training.json").exists()
    code, _, err = call("discard", str(L1))
    assert (code, err) == (1, f"prunebench: {L1}: no finished run in this folder\n")


def test_a_shared_base_network_is_taken_in_another_results_folder(
    call: Any, workplace: Path
) -> None:
    code, out, _ = call("share", str(BASE), "--to", "shared")
    entry = f"shared/{json.loads((BASE / 'training.json').read_text())['spec_hash']}"
    assert (code, out) == (0, f"{BASE.relative_to('results')} · shared as {entry}\n")
    shutil.copytree("results/data", "other/data")
    options = ["--results", "other", "--shared-bases", "shared"]
    named = ["--dataset", "synthetic", "--architecture", "resnet20_x0_25", "--recipe", "one_epoch"]
    code, out, _ = call("base", *named, *options)
    own = f"other/{BASE.relative_to('results')}"
    assert (code, out) == (0, f"{own}: base network taken from {entry}\n")
    assert call("verify", own)[0] == 0
