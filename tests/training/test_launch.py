"""Launches as torchrun and SLURM describe them in the environment, without either of them."""

from __future__ import annotations

import os

import pytest

from prunebench.cli import forkserver
from prunebench.core.errors import ConfigError
from prunebench.training.launch import (
    SRUN,
    TORCHRUN,
    Launch,
    is_first_process,
    is_one_of_several,
    launch,
)

# As `sbatch --ntasks=4` sets it for its script, on two machines.
BATCH = {
    "SLURM_JOB_ID": "1234",
    "SLURM_NTASKS": "4",
    "SLURM_NPROCS": "4",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_GTIDS": "0",
}
# As `srun` sets it for the last of four tasks.
TASK = BATCH | {
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_NODEID": "1",
    "SLURM_GTIDS": "2,3",
}
PORT = 15_000 + (97 * 1234 + 2) % 16_000
LAST = Launch(rank=3, world=4, local_rank=1, local_world=2, machine=1, address="gpu07", port=PORT)
# As `torchrun --nproc-per-node=2` sets it for its second process.
SECOND = {
    "RANK": "1",
    "WORLD_SIZE": "2",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "0",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


@pytest.fixture(autouse=True)
def no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without a terminal that nothing has launched."""
    for name in (*SRUN, *TORCHRUN, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "isatty", lambda file: False)


def set_all(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


def test_a_task_of_a_step_finds_its_place_and_the_first_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_all(monkeypatch, TASK)
    assert launch() == LAST
    assert not is_first_process()


def test_tasks_of_one_machine_meet_without_the_name_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_all(monkeypatch, TASK | {"SLURM_STEP_NUM_NODES": "1", "SLURM_STEP_NODELIST": "gpu07"})
    assert launch().address == "127.0.0.1"


def test_an_address_and_a_port_that_are_set_count(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, TASK | {"MASTER_ADDR": "gpu07-ib", "MASTER_PORT": "4000"})
    assert (launch().address, launch().port) == ("gpu07-ib", 4000)


def test_a_script_may_set_the_number_of_processes_for_all_tasks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_all(monkeypatch, TASK | {"WORLD_SIZE": "4"})
    assert launch() == LAST


@pytest.mark.parametrize(
    "environment",
    [
        {},
        BATCH,
        TASK | {"SLURM_STEP_NUM_TASKS": "1"},
        SECOND | {"WORLD_SIZE": "1"},
        TASK | SECOND | {"WORLD_SIZE": "1"},
    ],
    ids=["plain", "batch script of four tasks", "srun -n1", "torchrun of one", "srun torchrun"],
)
def test_a_process_is_by_itself(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    set_all(monkeypatch, environment)
    assert launch() is None
    assert not is_one_of_several()
    assert is_first_process()


def test_a_terminal_within_a_step_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, TASK)
    monkeypatch.setattr(os, "isatty", lambda file: file == 0)
    assert launch() is None


@pytest.mark.parametrize("around", [{}, TASK], ids=["alone", "in a step of SLURM"])
def test_torchrun_names_the_place_of_its_processes(
    monkeypatch: pytest.MonkeyPatch, around: dict[str, str]
) -> None:
    set_all(monkeypatch, around | SECOND)
    assert launch() == Launch(
        rank=1,
        world=2,
        local_rank=1,
        local_world=2,
        machine=0,
        address="localhost",
        port=29500,
    )


@pytest.mark.parametrize(
    ("environment", "lacking", "words"),
    [
        (TASK, "SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS is 4 and SLURM_STEP_ID not set; start"),
        (SECOND, "RANK", "WORLD_SIZE is 2 and RANK not set; start"),
        (SECOND, "MASTER_PORT", "WORLD_SIZE is 2 and MASTER_PORT not set; start"),
    ],
)
def test_an_incomplete_environment_is_an_error(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], lacking: str, words: str
) -> None:
    set_all(monkeypatch, environment)
    monkeypatch.delenv(lacking)
    with pytest.raises(ConfigError, match=words):
        launch()


@pytest.mark.parametrize("environment", [TASK, SECOND], ids=["srun", "torchrun"])
def test_one_of_several_does_not_hand_itself_over_to_the_fork_server(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> None:
    asked: list[object] = []
    monkeypatch.setenv(forkserver.FOLDER, "somewhere")
    monkeypatch.setattr(forkserver, "Client", lambda *where: asked.append(where))
    set_all(monkeypatch, environment)
    assert forkserver.run(["base", "--dataset", "digits"]) is None
    assert asked == []
