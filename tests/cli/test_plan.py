"""`prunebench plan`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunebench.cli.experiment_plan import planned, stored_images
from prunebench.data.dataset import load
from prunebench.experiments.config import Config
from prunebench.experiments.machine import Machine
from prunebench.planning.durations import recorded_runs
from prunebench.planning.grid import resolve_experiment
from tests.cli.conftest import WriteConfig

ROOT = Path(__file__).parents[2]
STORED = ROOT / "results/reference/digits/runs.csv"


def test_the_hours_of_digits_are_near_the_recorded_ones(tmp_path: Path) -> None:
    runs = {run.path: run for run in resolve_experiment("digits", ROOT / "config")}
    settings, machine = Config(experiments=("digits",)), Machine(device="cpu")
    found = planned(runs, tmp_path, [STORED], settings, machine)
    stages = {stage.name: stage for stage in found.stages()}
    assert stages["prune"].jobs == 57
    assert (stages["data"].jobs, stages["base"].jobs) == (1, 3)
    seconds = sum(run.seconds for run in recorded_runs([STORED]))
    assert stages["prune"].seconds == pytest.approx(seconds, rel=0.01)
    # 16 epochs of each base network, whose seconds no row records: as long as other training.
    assert 10 < stages["base"].seconds < 100


def test_reused_rows_and_their_base_networks_are_not_run(tmp_path: Path) -> None:
    runs = {run.path: run for run in resolve_experiment("digits", ROOT / "config")}
    settings = Config(experiments=("digits",), reuse=(STORED,))
    found = planned(runs, tmp_path, [], settings, Machine(device="cpu"))
    stages = {stage.name: stage for stage in found.stages()}
    assert stages["prune"][1:] == (57, 57, 0)
    assert stages["base"][1:] == (0, 0, 0)


def test_the_plan_of_an_experiment_without_rows_measures_the_network(
    write_config: WriteConfig, call: Any
) -> None:
    write_config()
    status, out, error = call("plan", "--device", "cpu")
    assert status == 0, error
    assert re.search(r"^tiny · 2 runs · resnet20_x0_25 on synthetic$", out, flags=re.MULTILINE)
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert rows["base"][:2] == ["1", "0"]
    assert rows["prune"][:2] == ["2", "0"]
    assert float(rows["total"][2]) > 0
    assert "at the speed of the network measured here" in out


def test_finished_runs_are_done(workplace: Path, call: Any) -> None:
    status, out, error = call("plan", "--device", "cpu")
    assert status == 0, error
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines() if line}
    assert rows["prune"] == ["2", "2", "0"]
    assert rows["base"] == ["1", "1", "0"]
    assert rows["data"] == ["1", "1", "0"]
    assert re.search(r"memory: [\d,]+ MB per job, the most of 3 finished runs", out)
    file = workplace / "results/data/synthetic.safetensors"
    whole = load(file)
    assert stored_images(file) == (len(whole.train), len(whole.val), len(whole.test))


def test_recorded_rows_and_a_resolved_experiment_need_no_torch(tmp_path: Path) -> None:
    config = ROOT / "config/config.yaml"
    settings = ["--config", str(config), "--results", str(tmp_path)]
    subprocess.run([sys.executable, "-m", "prunebench", "resolve", *settings], check=True)
    code = (
        "import sys; sys.argv = ['prunebench', *sys.argv[1:]]\n"
        "from prunebench.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "sys.exit('torch' in sys.modules)"
    )
    arguments = ["plan", "digits", "--device", "cpu", "--recorded", str(STORED), *settings]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", ["digits", "synthetic"])
def test_described_numbers_of_images_are_those_of_the_source(name: str, tmp_path: Path) -> None:
    from prunebench.data.registry import dataset_info

    info = dataset_info(name)
    raw: Any = info.read(tmp_path)
    assert info.counts == (len(raw.train_labels), len(raw.test_labels))
