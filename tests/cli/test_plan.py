"""`prunebench plan`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prunebench.data.dataset import load
from prunebench.planning.experiment_plan import stored_images
from tests.cli.conftest import WriteConfig

ROOT = Path(__file__).parents[2]
STORED = ROOT / "results/reference/digits/runs.csv"


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
