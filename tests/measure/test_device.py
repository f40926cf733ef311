from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest
import torch

from prunebench.measure import device
from prunebench.measure.device import GpuState, gpu_state


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """An `nvidia-smi` for a GPU that is not there; set its exit code and its answer."""
    own = SimpleNamespace(returncode=0, stdout="570.1, 1980, 2619\n", asked=[])

    def run(command: list[str], **options: object) -> SimpleNamespace:
        own.asked.append(command)
        return own

    monkeypatch.setattr(device.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", run)
    properties = SimpleNamespace(uuid="1234-ab")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return own


def test_the_gpu_is_asked_by_its_uuid(smi: SimpleNamespace) -> None:
    assert gpu_state(torch.device("cuda")) == GpuState("570.1", 1980, 2619)
    assert smi.asked[0][:2] == ["nvidia-smi", "--id=GPU-1234-ab"]


def test_a_failed_question_leaves_the_state_unknown(smi: SimpleNamespace) -> None:
    smi.returncode = 6
    assert gpu_state(torch.device("cuda")) == GpuState(None, None, None)


def test_a_cpu_is_not_asked(smi: SimpleNamespace) -> None:
    assert gpu_state(torch.device("cpu")) == GpuState()
    assert smi.asked == []


@pytest.mark.gpu
def test_a_gpu_has_a_driver() -> None:
    assert gpu_state(torch.device("cuda")).driver is not None
