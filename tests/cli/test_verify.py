"""`prunebench verify`: stored runs are recomputed and compared."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

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
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | changed))

    return edit


def other_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


def another_base(folder: Path) -> None:
    other_weights(BASE)


def other_options(folder: Path) -> None:
    path = folder / "training.json"
    training = json.loads(path.read_text())
    training["spec"]["seed"] = 1
    path.write_text(json.dumps(training))


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
    path.write_text(json.dumps(training | {"processor": "Other CPU"}))
    code, out, _ = call("verify", str(L1))
    assert code == 0
    assert f"recomputed on {here}, stored on Other CPU" in out
    assert "recomputed" not in call("verify", str(BASE))[1]


def test_results_of_earlier_versions_name_no_processor(call: Any, workplace: Path) -> None:
    path = L1 / "training.json"
    training = json.loads(path.read_text())
    del training["processor"], training["test_images"]
    path.write_text(json.dumps(training))
    code, out, _ = call("verify", str(L1))
    assert code == 0
    assert "recomputed" not in out


def test_collect_says_how_to_repeat_runs_by_other_code(call: Any, workplace: Path) -> None:
    assert call("measure", "--only", "cost")[0] == 0
    assert "snakemake" not in call("collect")[2]
    path = L1 / "training.json"
    training = json.loads(path.read_text())
    assert len(training["code"]) == 64
    path.write_text(json.dumps(training | {"code": "0" * 64}))
    code, _, err = call("collect")
    assert code == 0
    assert err.count("training.json") == 1
    assert err.rstrip().endswith(f"--config experiments=tiny --forcerun {path}")
    assert call("tables", "--runs-csv", "results/tiny/runs.csv", "--out", "tables")[2] == err
    assert "other" in Path("tables/summary.md").read_text()
