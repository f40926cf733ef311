"""Jobs and main processes that are interrupted on SLURM: no run is lost, and no step repeated."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from prunebench.core.files import read_json
from tests import slow_run
from tests.slow_run import LOG, RUN, slurm_jobs, start_snakemake, unlock, wait_for
from tests.workflow.conftest import copy_workflow, snakemake

pytestmark = pytest.mark.slurm

TARGET = (f"results/{RUN}/finished.json", "--workflow-profile", "profiles/slurm-test")
WITHOUT_GPU = ("--set-resources", "prune:gpu=0", "prune:mem_mb=1500")


@pytest.fixture(scope="session")
def undisturbed(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workflow with a base network, and the slow run's results in the folder `whole`."""
    folder = copy_workflow(tmp_path_factory.mktemp("undisturbed"))
    slow_run.write_experiment(folder)
    slow_run.train_base(folder)
    shutil.copytree(folder / "results", folder / "whole")
    done = slow_run.prunebench(folder, *slow_run.PRUNE, "--results", "whole")
    assert done.returncode == 0, done.stdout
    return folder


@pytest.fixture
def place(undisturbed: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy in which the run is slow, and whose jobs end with the test."""
    folder = shutil.copytree(undisturbed, tmp_path / "place", symlinks=True)
    (folder / "slow").touch()
    yield folder
    for number in slurm_jobs(folder):
        subprocess.run(["scancel", number], check=False)


def start(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start Snakemake, and return when its job trains."""
    main = start_snakemake(folder, *TARGET, *options)
    log = folder / "results" / LOG
    wait_for("a job trains", lambda: log.exists() and "fine_tune" in log.read_text("utf-8"))
    return main


def kill(main: subprocess.Popen[bytes]) -> None:
    main.kill()
    main.wait()


def assert_trained_once(folder: Path) -> None:
    assert read_json(folder / "results" / RUN / "training.json")["resumed_at"] == []
    assert_undisturbed(folder)


def assert_second_job_waited(folder: Path) -> None:
    assert_trained_once(folder)
    log = (folder / "results" / LOG).read_text(encoding="utf-8")
    assert log.count(" UTC · ") == 1
    assert log.count("epoch   1") == 1
    assert log.endswith(f"results/{RUN}: finished already\n")


def assert_undisturbed(folder: Path) -> None:
    found, expected = (slow_run.outcome(folder / at / RUN) for at in ("results", "whole"))
    assert found == expected


def test_a_job_that_finished_alone_is_not_repeated(place: Path) -> None:
    kill(start(place))
    (place / "slow").unlink()
    wait_for("the job ends", lambda: not slurm_jobs(place))
    training = place / "results" / RUN / "training.json"
    before = training.stat().st_mtime_ns
    unlock(place)
    done = snakemake(place, *TARGET, env=slow_run.environment(place))
    assert done.returncode == 0, done.stdout
    assert training.stat().st_mtime_ns == before
    assert_trained_once(place)


@pytest.mark.parametrize(
    ("options", "states"),
    [((), ["PENDING", "RUNNING"]), (WITHOUT_GPU, ["RUNNING", "RUNNING"])],
    ids=["in_the_queue", "at_the_lock"],
)
def test_a_second_job_of_a_running_run_waits(
    place: Path, options: tuple[str, ...], states: list[str]
) -> None:
    kill(start(place, *options))
    unlock(place)
    main = start_snakemake(place, *TARGET, *options)
    wait_for("a second job", lambda: sorted(slurm_jobs(place).values()) == states)
    running = states.count("RUNNING")
    wait_for("it runs", lambda: len(slow_run.processes(place, "prune")) == running)
    (place / "slow").unlink()
    assert main.wait() == 0, (place / "main.log").read_text(encoding="utf-8")
    assert_second_job_waited(place)


@pytest.mark.slow
def test_a_killed_job_resumes(place: Path) -> None:
    (place / "config/config.yaml").write_text(
        "{experiments: disturbed, device: cpu, checkpoint_seconds: 1}", encoding="utf-8"
    )
    main = start(place)
    wait_for("a checkpoint", (place / "results" / RUN / "resume.pt").exists)
    (number,) = slurm_jobs(place)
    assert slow_run.kill_processes(place, "prune") == 1
    (place / "slow").unlink()
    wait_for("the job ends", lambda: number not in slurm_jobs(place))
    assert main.wait() == 0, (place / "main.log").read_text(encoding="utf-8")
    assert read_json(place / "results" / RUN / "training.json")["resumed_at"] != []
    assert_undisturbed(place)


@pytest.mark.slow
def test_a_cancelled_job_resumes(place: Path) -> None:
    main = start(place)
    (number,) = slurm_jobs(place)
    subprocess.run(["scancel", number], check=True)
    wait_for("the job ends", lambda: number not in slurm_jobs(place))
    (place / "slow").unlink()
    assert main.wait() == 0, (place / "main.log").read_text(encoding="utf-8")
    assert read_json(place / "results" / RUN / "training.json")["resumed_at"] != []
    assert_undisturbed(place)


@pytest.mark.slow  # SLURM's shortest walltime is a minute
def test_a_run_longer_than_its_walltime_resumes(place: Path) -> None:
    main = start(place, *WITHOUT_GPU, "prune:runtime=1", "--retries", "9")
    (number,) = slurm_jobs(place)
    wait_for("the job reaches its limit", lambda: number not in slurm_jobs(place))
    (place / "slow").unlink()
    assert main.wait() == 0, (place / "main.log").read_text(encoding="utf-8")
    assert read_json(place / "results" / RUN / "training.json")["resumed_at"] != []
    assert_undisturbed(place)


@pytest.mark.slow
def test_jobs_wait_for_a_drained_node(place: Path) -> None:
    node = subprocess.run(["hostname", "-s"], capture_output=True, text=True, check=True)
    name = f"nodename={node.stdout.strip()}"
    main = start(place)
    try:
        subprocess.run(
            ["scontrol", "update", name, "state=drain", "reason=test of prunebench"], check=True
        )
        kill(main)
        unlock(place)
        main = start_snakemake(place, *TARGET)
        wait_for("a job that waits", lambda: "PENDING" in slurm_jobs(place).values())
        (place / "slow").unlink()
        wait_for("the first one ends", lambda: [*slurm_jobs(place).values()] == ["PENDING"])
    finally:
        subprocess.run(["scontrol", "update", name, "state=resume"], check=True)
    assert main.wait() == 0, (place / "main.log").read_text(encoding="utf-8")
    assert_second_job_waited(place)
