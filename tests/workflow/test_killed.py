"""A killed main process of Snakemake: jobs that live on lose nothing, and are not repeated."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from prunebench.core.files import read_json
from tests.workflow.conftest import snakemake

RUN = Path("results/quick/digits/resnet20/l1/default/0.5/seed0")
TARGET = (str(RUN / "finished.json"), "--cores", "1", "--config", "experiments=quick")


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Start Snakemake for one run, and return when its job has begun."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    main = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *TARGET],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for((folder / RUN / ".writer.lock").exists)
    return main


def wait_for(holds: Callable[[], bool]) -> None:
    for _ in range(2400):
        if holds():
            return
        time.sleep(0.05)
    raise AssertionError("waited for two minutes")


def again(folder: Path) -> str:
    """Start Snakemake once more, as its message says, and return the log of the run."""
    assert snakemake(folder, "--unlock", *TARGET[1:]).returncode == 0
    done = snakemake(folder, *TARGET)
    assert done.returncode == 0, done.stdout
    log = folder / "results/logs/quick/digits/resnet20/l1/default/0.5/seed0.log"
    return log.read_text(encoding="utf-8")


def test_a_job_that_finished_alone_is_not_repeated(quick_copy: Path) -> None:
    shutil.rmtree(quick_copy / RUN)
    main = start(quick_copy)
    main.send_signal(signal.SIGKILL)
    main.wait()
    training = quick_copy / RUN / "training.json"
    wait_for(training.exists)
    wait_for((quick_copy / RUN / "finished.json").exists)
    before = training.stat().st_mtime_ns
    assert f"{RUN}: finished already" in again(quick_copy)
    assert training.stat().st_mtime_ns == before
    assert read_json(training)["resumed_at"] == []
