"""Training jobs that fork from a server have the same results, signals and errors as others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prunebench.cli import forkserver
from prunebench.core.files import read_json
from prunebench.core.lock import writer_of
from prunebench.data.dataset import prepare

from .conftest import WriteConfig

LONG = {"epochs": 100, "batch_size": 64, "lr": 0.1, "weight_decay": 0.0}
# This process cannot import torch: only a child of the server can train.
WAITING = "import sys; sys.modules['torch'] = None\nfrom prunebench.__main__ import main; main()"


@pytest.fixture
def workplace(write_config: WriteConfig) -> Path:
    """A folder with a configuration and data."""
    write_config(files={"recipes/long.yaml": LONG})
    prepare("synthetic", Path("data"), Path("results/data/synthetic.safetensors"))
    return Path("results/base/synthetic/resnet20_x0_25")


@pytest.fixture
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs find no server, also after a test that starts one."""
    monkeypatch.setenv(forkserver.FOLDER, "")
    monkeypatch.delenv(forkserver.FOLDER)


@pytest.fixture
def server(no_server: None) -> Iterator[subprocess.Popen[bytes]]:
    """A server for the jobs of this test."""
    forkserver.start()
    folder = Path(os.environ[forkserver.FOLDER])
    process = forkserver.servers.pop()
    yield process
    process.stdin.close()
    assert process.wait(60) == 0
    assert not folder.exists()


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def base(recipe: str, code: str = WAITING) -> subprocess.Popen[str]:
    """Start the training of a base network in another process."""
    arguments = f"base --dataset synthetic --architecture resnet20_x0_25 --recipe {recipe}"
    options = "--device cpu --checkpoint-seconds 0.2"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments.split(), *options.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def without_time(said: tuple[str, str]) -> tuple[str, str]:
    """Leave out the first line, which tells when and where the training began."""
    return said[0].partition("\n")[2], said[1]


def is_free(folder: Path) -> bool:
    writer = writer_of(folder)
    return writer is None or not writer.is_alive


def test_a_job_of_the_server_has_the_results_and_the_output_of_an_ordinary_one(
    workplace: Path, server: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    forked = base("one_epoch")
    said = forked.communicate()
    assert forked.returncode == 0, said
    result = read_json(workplace / "one_epoch/seed0/training.json")
    shutil.rmtree(workplace)
    monkeypatch.delenv(forkserver.FOLDER)
    alone = base("one_epoch", WAITING.replace("sys.modules['torch'] = None", ""))
    assert without_time(alone.communicate()) == without_time(said)
    again = read_json(workplace / "one_epoch/seed0/training.json")
    for one in (result, again):
        one["files"].pop("history.csv")  # it holds times
    for key in result.keys() - {"seconds", "peak_memory_mb", "checksum"}:
        assert result[key] == again[key], key


def test_an_error_keeps_its_message_and_its_exit_status(
    workplace: Path, server: subprocess.Popen[bytes]
) -> None:
    wrong = base("one_epok")
    _, words = wrong.communicate()
    assert wrong.returncode == 1
    assert words.startswith("prunebench: ")
    assert "one_epok" in words
    assert len(words.splitlines()) == 1
    wrong = base("one_epoch --sead 1")
    _, words = wrong.communicate()
    assert wrong.returncode == 2
    assert "--sead" in words


def test_a_signal_reaches_the_child_which_saves_a_checkpoint(
    workplace: Path, server: subprocess.Popen[bytes]
) -> None:
    job = base("long")
    wait_until((workplace / "long/seed0/resume.pt").exists)
    job.terminate()
    _, words = job.communicate()
    assert job.returncode == 128 + 15
    assert "prunebench: " in words
    assert is_free(workplace / "long/seed0")


def test_a_child_ends_when_the_waiting_job_is_killed(
    workplace: Path, server: subprocess.Popen[bytes]
) -> None:
    job = base("long")
    wait_until((workplace / "long/seed0/resume.pt").exists)
    job.kill()
    job.communicate()
    wait_until(lambda: is_free(workplace / "long/seed0"), 5.0)
    assert not (workplace / "long/seed0/training.json").exists()


def test_running_jobs_continue_when_the_server_ends(
    workplace: Path, server: subprocess.Popen[bytes]
) -> None:
    job = base("long")
    wait_until((workplace / "long/seed0/resume.pt").exists)
    server.stdin.close()
    job.communicate()
    assert job.returncode == 0


@pytest.mark.parametrize("folder", ["", "missing"])
def test_a_job_without_a_server_runs_in_its_own_process(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.setenv(forkserver.FOLDER, folder)
    assert forkserver.run(["base", "--dataset", "synthetic"]) is None


def test_jobs_do_not_find_the_server_after_an_edit_of_the_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "package/cli/forkserver.py"
    module.parent.mkdir(parents=True)
    module.touch()
    monkeypatch.setattr(forkserver, "__file__", str(module))
    before = forkserver.address("servers")
    assert forkserver.address("servers") == before
    os.utime(module, (0, time.time() + 1))
    assert forkserver.address("servers") != before


def test_jobs_of_slurm_do_not_find_a_server_outside_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    addresses = {forkserver.address("servers")}
    for job in ("1", "2"):
        monkeypatch.setenv("SLURM_JOB_ID", job)
        addresses.add(forkserver.address("servers"))
    assert len(addresses) == 3


def test_no_server_starts_if_the_path_is_too_long_for_a_socket(
    no_server: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    forkserver.start()
    assert forkserver.FOLDER not in os.environ
    assert "each job runs in its own process" in capsys.readouterr().err
    assert list(folder.iterdir()) == []


def test_no_server_starts_if_the_variable_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(forkserver.FOLDER, "missing")
    forkserver.start()
    assert os.environ[forkserver.FOLDER] == "missing"
    assert forkserver.servers == []
