"""Processes of a launch that meet, and share the GPUs of their machines: each is a thread here."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from torch.distributed import HashStore

from prunebench.core.errors import ConfigError, PrunebenchError, TrainingError
from prunebench.measure import claimed_gpus as claims
from prunebench.measure.claimed_gpus import claimed_gpus
from prunebench.training import processes, rendezvous
from prunebench.training.launch import Launch
from prunebench.training.processes import device_of
from prunebench.training.rendezvous import Group, joined

SEEN = threading.local()  # the GPUs that a process sees
Seen = list[list[str]]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine on which each thread sees its own GPUs."""
    monkeypatch.setattr(claims, "LOCK_FOLDER", tmp_path / "locks")
    monkeypatch.setattr(claims, "visible_gpus", lambda: SEEN.gpus)
    monkeypatch.setattr(claims, "usable_gpus", lambda name: len(SEEN.gpus))
    monkeypatch.setattr(processes, "visible_gpus", lambda: SEEN.gpus)
    monkeypatch.setattr(processes, "usable_gpus", lambda name: len(SEEN.gpus))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)


def place(rank: int, world: int, machines: int = 1) -> Launch:
    local = world // machines
    return Launch(
        rank=rank,
        world=world,
        local_rank=rank % local,
        local_world=local,
        machine=rank // local,
        address="127.0.0.1",
        port=0,
    )


def gpus_of(
    seen: Seen, machines: int = 1, say: Callable[[str], None] = pytest.fail
) -> list[str | PrunebenchError]:
    """Return the GPU or "cpu" that each of several processes takes, or its error."""
    store, together = HashStore(), threading.Barrier(len(seen))

    def taken(rank: int) -> str | PrunebenchError:
        SEEN.gpus = seen[rank]
        try:
            with device_of("auto", Group(place(rank, len(seen), machines), store), say) as device:
                together.wait(10)
                return "cpu" if device.type == "cpu" else seen[rank][device.index]
        except PrunebenchError as error:
            return error

    with ThreadPoolExecutor(len(seen)) as threads:
        return list(threads.map(taken, range(len(seen))))


def test_processes_that_see_the_same_gpus_take_one_each() -> None:
    assert gpus_of([["a", "b"], ["a", "b"]]) == ["a", "b"]


def test_two_launches_on_one_machine_share_its_gpus() -> None:
    all_four = ["a", "b", "c", "d"]
    with claimed_gpus(["a", "c"], 2):
        assert gpus_of([all_four, all_four]) == ["b", "d"]


def test_a_launch_waits_until_enough_gpus_are_free_at_once() -> None:
    with ExitStack() as held:
        held.enter_context(claimed_gpus(["b"], 1))
        found = gpus_of([["a", "b"], ["a", "b"]], say=lambda words: held.close())
    assert found == ["a", "b"]


def test_processes_to_which_slurm_has_given_one_gpu_each_take_it() -> None:
    assert gpus_of([["a"], ["b"]]) == ["a", "b"]


def test_processes_of_two_machines_take_those_of_their_own() -> None:
    seen = [["a", "b"], ["a", "b"], ["c", "d"], ["c", "d"]]
    assert gpus_of(seen, machines=2) == ["a", "b", "c", "d"]


def test_without_gpus_all_compute_on_the_cpu() -> None:
    assert gpus_of([[], []]) == ["cpu", "cpu"]


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ([["a"], ["a"]], "2 processes on this machine need a GPU each and see 1; start fewer"),
        ([["a"], []], "some of the processes see GPUs and others see none"),
    ],
)
def test_all_processes_report_too_few_gpus(seen: Seen, words: str) -> None:
    errors = gpus_of(seen)
    assert [type(error) for error in errors] == [ConfigError, ConfigError]
    assert all(words in str(error) for error in errors)


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_whose_others_do_not_start_gives_up(
    monkeypatch: pytest.MonkeyPatch, unused_port: int, rank: int
) -> None:
    alone = Launch(**{**vars(place(rank, 2)), "port": unused_port})
    monkeypatch.setattr(rendezvous, "launch", lambda: alone)
    monkeypatch.setattr(rendezvous, "ARRIVAL", rendezvous.timedelta(seconds=0.2))
    monkeypatch.setenv("MASTER_ADDR", "")
    monkeypatch.setenv("MASTER_PORT", "")
    with pytest.raises(TrainingError, match=f"process {rank} of 2 did not meet the others at 127"):
        joined()
