from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from prunebench.core.errors import ConfigError, TrainingError
from prunebench.experiments.phases import Phase, Steps
from prunebench.methods.base import Run
from prunebench.training.cuda import WORKSPACE, deterministic
from tests.training.conftest import MakeLoop, Phases, recipe


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of cuBLAS, and none left behind."""
    monkeypatch.setenv(WORKSPACE, "")  # so that it is put back
    monkeypatch.delenv(WORKSPACE)


def flags() -> tuple[bool, bool, bool]:
    cudnn = torch.backends.cudnn
    return torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark


def test_the_switches_are_set_and_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    before = flags()
    with deterministic(True):
        assert flags() == (True, True, False)
        assert os.environ[WORKSPACE] == ":4096:8"
    assert flags() == before
    with deterministic(False):
        assert flags() == before


def test_a_workspace_of_the_user_s_is_kept_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE, ":16:8")
    with deterministic(True):
        pass
    monkeypatch.setenv(WORKSPACE, ":0:0")
    with (
        pytest.raises(ConfigError, match=r"one of :4096:8, :16:8, and the environment has ':0:0'"),
        deterministic(True),
    ):
        pass
    assert not torch.are_deterministic_algorithms_enabled()


class Putting(Phases):
    """Changes weights by an operation that PyTorch has no deterministic algorithm for."""

    def after_optimizer_step(self, run: Run) -> None:
        with torch.no_grad():
            run.params["conv1.weight"].put_(torch.tensor([0]), torch.ones(1))


def test_an_operation_without_a_deterministic_algorithm_names_the_setting(
    make_loop: MakeLoop,
) -> None:
    phase = Phase(
        name="p", recipe=recipe(), length=Steps(2), hooks=frozenset({"after_optimizer_step"})
    )
    make_loop(Putting([phase]), [phase]).train()  # without the setting it goes on
    with (
        pytest.raises(TrainingError, match=r"^put_ has no deterministic .* deterministic: false"),
        deterministic(True),
    ):
        make_loop(Putting([phase]), [phase]).train()
    assert not torch.are_deterministic_algorithms_enabled()


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match=r"^another$"), deterministic(True):
        raise RuntimeError("another")


@pytest.mark.gpu
def test_a_gpu_repeats_its_bits() -> None:
    code = """
import hashlib, torch
from prunebench.models.registry import build
from prunebench.training.cuda import deterministic
with deterministic(True):
    torch.manual_seed(0)
    net = build("resnet20", num_classes=10).cuda()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for _ in range(20):
        x, y = torch.randn(64, 3, 32, 32).cuda(), torch.randint(10, (64,)).cuda()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    bits = b"".join(p.detach().cpu().numpy().tobytes() for p in net.parameters())
    print(hashlib.sha256(bits).hexdigest())
"""
    found = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert found[0].stdout == found[1].stdout
