"""`prunebench doctor`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prunebench.cli import diagnosis
from prunebench.cli.cluster import Node
from prunebench.cli.diagnosis import Finding, findings
from tests.cli.conftest import RECIPE, WriteConfig, write_yaml

CONFIG, RESULTS = Path("config/config.yaml"), Path("results")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without GPU and SLURM, whose speed is not measured."""
    fast = SimpleNamespace(per_mac=3 / 60e9)
    monkeypatch.setattr(diagnosis, "time_passes", lambda *args: fast)
    monkeypatch.setattr(diagnosis.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(diagnosis, "gpu_name", lambda: None)
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: None)


def of(what: str) -> list[Finding]:
    return [one for one in findings(CONFIG, RESULTS) if one.what == what]


def test_a_machine_that_has_all_passes(write_config: WriteConfig, call: Any) -> None:
    write_config()
    status, out, error = call("doctor")
    assert status == 0, out + error
    lines = out.splitlines()
    assert lines[0].startswith("ok       packages   Python 3.")
    assert "ok       config     tiny: 2 runs" in lines
    assert "ok       speed      60 billion multiply-accumulates a second on one core" in lines
    assert "note     GPU        none; training runs on the CPU" in lines
    assert lines[-1] == "all is there"


def test_missing_data_end_with_status_1_and_say_what_to_do(
    write_config: WriteConfig, call: Any
) -> None:
    write_config({"datasets": ["folder_cats"]})
    status, out, _ = call("doctor")
    assert status == 1
    assert "missing  data       folder_cats: data/cats does not exist" in out
    assert "-> put it there, or set data_dir; the folder cats" in out
    assert out.splitlines()[-1] == "1 problem to mend"
    Path("data/cats").mkdir(parents=True)
    assert call("doctor")[0] == 0


def test_weights_that_are_not_there_are_missing(write_config: WriteConfig) -> None:
    write_config(files={"recipes/one_epoch.yaml": RECIPE | {"weights": "mine.safetensors"}})
    (found,) = of("weights")
    assert (found.state, found.words) == ("missing", "data/mine.safetensors: no such file")
    Path("data").mkdir()
    Path("data/mine.safetensors").touch()
    assert of("weights")[0].state == "ok"


def test_without_a_configuration_it_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (found,) = of("config")
    assert found.state == "missing"
    assert found.mend.startswith("run `prunebench init DIR`")


def test_an_invalid_experiment_is_one_line(write_config: WriteConfig) -> None:
    write_config({"methods": {"l9": {}}})
    (found,) = of("config")
    assert found.state == "missing"
    assert "unknown method 'l9'" in found.words


@pytest.mark.parametrize(
    ("device", "name", "cuda", "state", "words"),
    [
        ("auto", None, None, "note", "none; training runs on the CPU"),
        ("cuda", None, None, "missing", "none; training runs on the CPU"),
        ("auto", "H200", None, "missing", "H200, but this torch is a CPU build"),
        ("auto", "H200", "13.0", "missing", "H200, but torch cannot use it"),
    ],
)
def test_gpus_that_cannot_be_used_are_named(
    write_config: WriteConfig,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    name: str | None,
    cuda: str | None,
    state: str,
    words: str,
) -> None:
    write_config()
    write_yaml(CONFIG, {"experiments": ["tiny"], "device": device})
    monkeypatch.setattr(diagnosis, "gpu_name", lambda: name)
    monkeypatch.setattr(diagnosis.torch.version, "cuda", cuda)
    (found,) = of("GPU")
    assert (found.state, found.words) == (state, words)
    assert bool(found.mend) == (state == "missing")


def test_a_processor_without_bf16_and_a_missing_compiler_are_named(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(diagnosis, "multiplies_bf16", lambda device: False)
    recipe = RECIPE | {"precision": "bf16", "compile": True}
    write_config(files={"recipes/one_epoch.yaml": recipe})
    assert [one.state for one in (*of("bf16"), *of("compiler"))] == ["missing", "missing"]


def test_a_slow_core_is_a_note(write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    write_config()
    slow = SimpleNamespace(per_mac=3 / 1e9)
    monkeypatch.setattr(diagnosis, "time_passes", lambda *args: slow)
    (found,) = of("speed")
    assert found.state == "note"
    assert found.words.startswith("1 billion")


def test_a_package_of_another_version_is_named(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config()
    wanted = ["torch>=99", "no-such-package-at-all", "numpy", 'x; extra == "test"']
    monkeypatch.setattr(diagnosis, "requires", lambda name: wanted)
    (found,) = of("packages")
    assert found.state == "missing"
    assert "needed is >=99; no-such-package-at-all is not installed" in found.words


def test_a_cluster_that_cannot_run_the_jobs_is_a_note(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config()
    monkeypatch.setattr(diagnosis.shutil, "which", lambda name: f"/usr/bin/{name}")
    small = Node("main", True, cpus=2, mem_mb=1000, gpus=0, minutes=120)
    monkeypatch.setattr(diagnosis, "nodes", lambda: [small])
    monkeypatch.setattr(diagnosis, "find_plugin", lambda: None)
    first, plugin, problem = of("SLURM")
    assert (first.state, first.words) == ("ok", "1 nodes in the partitions main")
    assert plugin.mend == "pip install snakemake-executor-plugin-slurm"
    assert "4000 MB of memory, but the partition 'main' has at most 1000" in problem.words
    monkeypatch.setattr(diagnosis, "nodes", list)
    assert of("SLURM")[0].words == "sinfo lists no nodes"


def test_a_folder_of_results_without_space_is_missing(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config()
    full = SimpleNamespace(free=1e6)
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda place: full)
    (found,) = of("results")
    assert (found.state, found.words) == ("missing", "results: 0 GB free")
