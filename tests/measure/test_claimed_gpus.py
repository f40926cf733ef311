"""Jobs that share a machine: the environment and stand-ins for torch.cuda say what they see."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from prunebench.core.errors import ConfigError
from prunebench.measure import claimed_gpus as module
from prunebench.measure.claimed_gpus import claimed_device, claimed_gpus, visible_gpus
from prunebench.measure.stored_runs import measure_runs


def wait_in_vain(words: str) -> None:
    """Stand for a job that nobody lets go on."""
    pytest.fail(f"waits: {words}")


@pytest.fixture
def lock_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "locks"
    monkeypatch.setattr(module, "LOCK_FOLDER", folder)
    return folder


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch, lock_folder: Path) -> None:
    """A machine with GPUs of the UUIDs 0 to 3, of which CUDA_VISIBLE_DEVICES shows some."""

    def shown() -> list[str]:
        return os.environ["CUDA_VISIBLE_DEVICES"].split(",")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(shown()))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid=shown()[index])
    )


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


@pytest.mark.usefixtures("four_gpus")
def test_the_cpu_may_be_asked_for() -> None:
    with claimed_device("cpu") as found:
        assert found.type == "cpu"


@pytest.mark.usefixtures("four_gpus")
def test_each_job_of_a_machine_gets_a_gpu_of_its_own() -> None:
    with claimed_device("auto") as first, claimed_device("cuda") as second:
        assert [first.index, second.index] == [0, 1]
    with claimed_device("auto") as again:
        assert again.index == 0


@pytest.mark.usefixtures("four_gpus")
def test_a_claimed_gpu_is_the_current_device(monkeypatch: pytest.MonkeyPatch) -> None:
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    with claimed_gpus(["GPU-0"], 1), claimed_device("auto") as found:
        assert current == [found] == [torch.device("cuda", 1)]


@pytest.mark.usefixtures("four_gpus")
def test_jobs_to_which_slurm_has_given_other_gpus_do_not_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    with claimed_device("auto", wait_in_vain) as one:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
        with claimed_device("auto", wait_in_vain) as other:
            assert one == other == torch.device("cuda", 0)  # as PyTorch numbers them


@pytest.mark.usefixtures("four_gpus")
def test_a_gpu_has_one_job_even_if_jobs_number_it_differently(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    with claimed_device("auto") as first:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
        with claimed_device("auto") as second:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,1,3")
            with claimed_device("auto") as third:
                assert [first.index, second.index, third.index] == [0, 0, 2]


@pytest.mark.usefixtures("four_gpus")
def test_parts_of_one_gpu_are_claimed_by_their_own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda index: SimpleNamespace(uuid="of-the-whole")
    )
    for part in ("MIG-a", "MIG-b"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", part)
        assert visible_gpus() == [part]


@pytest.fixture
def other_job(monkeypatch: pytest.MonkeyPatch, lock_folder: Path) -> Iterator[ExitStack]:
    """A job that holds what the test enters, until another one has waited for a second."""
    with ExitStack() as held:
        monkeypatch.setattr(module.time, "sleep", lambda seconds: held.close())
        yield held


def test_a_job_says_once_that_it_waits_and_goes_on_when_a_gpu_is_free(
    other_job: ExitStack,
) -> None:
    said: list[str] = []
    other_job.enter_context(claimed_gpus(["a", "b"], 2))
    with claimed_gpus(["a", "b"], 1, said.append) as found:
        assert found == ["a"]
    assert said == ["other jobs use the GPUs of this machine; waiting for 1 of 2"]


def test_a_job_that_waits_for_two_gpus_holds_none(other_job: ExitStack) -> None:
    def others_are_free(words: str) -> None:
        with claimed_gpus(["a", "c"], 2, wait_in_vain):
            pass

    other_job.enter_context(claimed_gpus(["b"], 1))
    with claimed_gpus(["a", "b", "c"], 3, others_are_free) as found:
        assert found == ["a", "b", "c"]


def test_a_job_takes_no_more_gpus_than_it_needs(lock_folder: Path) -> None:
    with (
        claimed_gpus(["a", "b", "c"], 2) as first,
        claimed_gpus(["a", "b", "c"], 1, wait_in_vain) as second,
    ):
        assert (first, second) == (["a", "b"], ["c"])


@pytest.mark.usefixtures("four_gpus")
def test_timing_waits_for_a_gpu_that_no_training_uses(
    other_job: ExitStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    other_job.enter_context(claimed_device("auto"))
    assert list(measure_runs([], Path("results"), only="cost", device="auto")) == []
    assert capsys.readouterr().out == ""
    assert list(measure_runs([], Path("results"), only="latency", device="auto")) == []
    assert "other jobs use the GPUs of this machine" in capsys.readouterr().out


def test_locks_are_for_all_users_whatever_the_umask(lock_folder: Path) -> None:
    before = os.umask(0o077)
    try:
        with claimed_gpus(["a"], 1):
            pass
    finally:
        assert os.umask(before) == 0o077
    assert stat.S_IMODE(lock_folder.stat().st_mode) == 0o1777
    assert stat.S_IMODE((lock_folder / "a.lock").stat().st_mode) == 0o666


@pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")
def test_another_user_sees_the_claims_and_makes_some(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(module, "LOCK_FOLDER", Path(folder) / "locks")
        with claimed_gpus(["a"], 1), claimed_gpus(["free"], 1):
            pass
        with claimed_gpus(["a"], 1):
            child = os.fork()
            if child == 0:
                try:
                    os.setuid(65534)
                    with claimed_gpus(["a", "free", "new"], 2) as found:
                        os._exit(found != ["free", "new"])
                finally:
                    os._exit(2)
            assert os.waitpid(child, 0)[1] == 0


def test_a_folder_that_cannot_be_written_to_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(module, "LOCK_FOLDER", tmp_path / "file" / "locks")
    with pytest.raises(ConfigError) as caught, claimed_gpus(["a"], 1):
        pass
    assert str(caught.value) == (
        f"{tmp_path}/file/locks/a.lock: Not a directory; jobs claim GPUs by files in this folder: "
        "set TMPDIR to a folder that can be written to"
    )
