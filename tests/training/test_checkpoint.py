from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import torch

from prunebench.core.errors import ResultError
from prunebench.experiments.phases import Phase, Steps
from prunebench.training.checkpoint import CheckpointFile, pack, unpack
from prunebench.training.optimizer import Optimizer
from prunebench.training.step import Sums
from tests.training.conftest import MakeLoop, Phases, recipe


class Says(list[str]):
    """Collects what is said."""

    def __call__(self, text: str) -> None:
        self.append(text)


@pytest.fixture
def said() -> Says:
    return Says()


@pytest.fixture
def file(tmp_path: Path, said: Says) -> CheckpointFile:
    return CheckpointFile(tmp_path, "abc", 60.0, said)


def test_the_newest_checkpoint_is_read(file: CheckpointFile) -> None:
    for step in (1, 2):
        file.write({"step": step})
    found = file.read()
    assert found is not None
    assert found["step"] == 2


@pytest.mark.parametrize("damage", [b"", b"no checkpoint", b"PK\x03\x04 half a zip"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(
    damage: bytes, file: CheckpointFile, said: Says, tmp_path: Path
) -> None:
    for step in (1, 2):
        file.write({"step": step})
    file.path.write_bytes(damage)
    found = file.read()
    assert found is not None
    assert found["step"] == 1
    assert f"{file.path}: is damaged" in said[0]
    assert [path.read_bytes() for path in tmp_path.glob("resume.*.unused")] == [damage]


def test_a_checkpoint_of_another_specification_is_set_aside(
    file: CheckpointFile, said: Says, tmp_path: Path
) -> None:
    CheckpointFile(tmp_path, "other", 60.0, said).write({"step": 1})
    assert file.read() is None
    assert "belongs to another specification; set aside as resume." in said[0]


def test_nothing_is_executed_on_loading(file: CheckpointFile, said: Says, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str, ...]]:
            return print, ("executed",)

    torch.save({"format": 1, "spec_hash": "abc", "evil": Evil()}, file.path)
    assert file.read() is None
    assert "is damaged (UnpicklingError)" in said[0]


def test_no_checkpoint_is_left_behind(file: CheckpointFile, tmp_path: Path) -> None:
    for step in (1, 2):
        file.write({"step": step})
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_that_were_set_aside_go_with_the_others(
    file: CheckpointFile, tmp_path: Path
) -> None:
    file.path.write_bytes(b"damaged")
    assert file.read() is None
    file.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_cannot_be_written_keeps_the_one_before(
    file: CheckpointFile, said: Says, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write({"step": 1})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        file.write({"step": 2})
    assert said == [
        f"{file.path}: cannot be written (No space left on device); free some space; training "
        "goes on, and an earlier checkpoint, if there is one, stays"
    ]
    found = file.read()
    assert found is not None
    assert found["step"] == 1


def test_a_checkpoint_that_cannot_be_read_is_not_set_aside(
    file: CheckpointFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write({"step": 1})

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(torch, "load", refused)
        with pytest.raises(ResultError, match=r"resume.pt: cannot be read \(Permission denied\)"):
            file.read()
    found = file.read()
    assert found is not None
    assert found["step"] == 1


def test_an_interval_of_zero_is_always_due(tmp_path: Path, said: Says) -> None:
    assert CheckpointFile(tmp_path, "abc", 0.0, said).is_due()
    assert not CheckpointFile(tmp_path, "abc", 60.0, said).is_due()


def test_a_checkpoint_holds_everything_of_a_run(make_loop: MakeLoop, tmp_path: Path) -> None:
    phases = [Phase(name="p", recipe=recipe(), length=Steps(3))]
    loop = make_loop(Phases(phases), phases)
    run = loop.run
    run.kept["stages.0.0.conv1"] = torch.tensor([0, 1, 2, 3])
    run.masks["conv1.weight"] = torch.ones(4, 3, 3, 3, dtype=torch.bool)
    run.keep("accepted")
    loop.method.state = {"penalty": {"a": torch.ones(2)}, "picked": ["b"], "count": 3}
    optimizer = Optimizer(run.params, recipe())
    file = CheckpointFile(tmp_path, "abc", 60.0, print)
    file.write(pack(run, loop.method, optimizer, Sums.zero(run.device)))
    other = make_loop(Phases(phases), phases)
    content = file.read()
    assert content is not None
    unpack(content, other.run, other.method)
    assert torch.equal(other.method.state["penalty"]["a"], torch.ones(2))
    assert other.method.state["picked"] == ["b"]
    assert other.run.masks.keys() == {"conv1.weight"}
    assert other.run.slots.keys() == {"accepted"}
