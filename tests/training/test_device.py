from __future__ import annotations

from pathlib import Path

import pytest
import torch

from prunebench.core.errors import ConfigError
from prunebench.training import processes as device
from prunebench.training.processes import claimed_device


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(device, "LOCK_FOLDER", tmp_path / "locks")


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("name", ["auto", "cpu"])
def test_without_a_gpu_the_cpu_computes(name: str) -> None:
    with claimed_device(name) as found:
        assert found.type == "cpu"


@pytest.mark.usefixtures("no_gpu")
def test_a_gpu_that_is_not_there_is_an_error() -> None:
    with (
        pytest.raises(ConfigError, match="device: 'cuda', but this machine has no GPU"),
        claimed_device("cuda"),
    ):
        pass


@pytest.mark.usefixtures("two_gpus")
def test_each_job_gets_a_gpu_of_its_own() -> None:
    with claimed_device("auto") as first, claimed_device("cuda") as second:
        assert [first.index, second.index] == [0, 1]
    with claimed_device("auto") as again:
        assert again.index == 0


@pytest.mark.usefixtures("two_gpus")
def test_the_cpu_may_be_asked_for() -> None:
    with claimed_device("cpu") as found:
        assert found.type == "cpu"
