from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prunebench.core import lock
from prunebench.core.errors import ResultError
from prunebench.core.lock import LOCK_FILE, RECORD_FILE, only_writer, writer_of

HOLD = """
import sys, time
from pathlib import Path
from prunebench.core import lock
lock.LEASE_S = float(sys.argv[2])
with lock.only_writer(Path(sys.argv[1]), print, at_once=False):
    print("held", flush=True)
    time.sleep(60)
"""


@contextmanager
def holding(folder: Path, lease_s: float = 60.0, **env: str) -> Iterator[subprocess.Popen[str]]:
    """Hold the folder's lock in another process within the block."""
    command = [sys.executable, "-c", HOLD, str(folder), str(lease_s)]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env={**os.environ, **env}
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def lock_from_elsewhere(folder: Path, marker: str | None = None) -> None:
    """Write the lock of a process of another host, as filelock does, with a lease of 0.6 s."""
    own = "filelock/2\npid=1\nhost=here\nmode=lease\ntoken=1f\nduration=0.6\n"
    lines = (marker or own).split("\n")
    text = "\n".join("host=elsewhere" if line.startswith("host=") else line for line in lines)
    (folder / LOCK_FILE).write_text(text, encoding="utf-8")


def end(process: subprocess.Popen[str]) -> None:
    """Kill a process, and leave no zombie of it."""
    process.kill()
    process.wait()


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock is lost after 0.6 s without renewal."""
    monkeypatch.setattr(lock, "LEASE_S", 0.6)
    monkeypatch.setattr(lock, "POLL_S", 0.05)


def test_a_second_writer_waits_for_a_living_one_and_says_so_afterwards(tmp_path: Path) -> None:
    said: list[str] = []
    with holding(tmp_path, SLURM_JOB_ID="77") as process:
        threading.Timer(0.5, end, [process]).start()
        with only_writer(tmp_path, said.append, at_once=False) as waited:
            assert process.returncode != 0  # it got the lock when the first was gone
    assert waited
    assert len(said) == 1
    assert f"s for process {process.pid} on" in said[0]
    assert "SLURM job 77" in said[0]


def test_on_a_terminal_it_says_so_at_once(tmp_path: Path) -> None:
    said: list[str] = []
    with holding(tmp_path) as process:

        def say(text: str) -> None:
            said.append(text)
            end(process)

        with only_writer(tmp_path, say, at_once=True):
            pass
    assert "writes this run; waiting for it to end" in said[0]


def test_a_dead_writer_is_taken_over_from_at_once(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        end(process)
        with only_writer(tmp_path, print, at_once=False) as waited:
            assert not waited


def test_the_record_names_the_writer_and_goes_with_it(tmp_path: Path) -> None:
    with only_writer(tmp_path, print, at_once=False):
        writer = writer_of(tmp_path)
        assert writer is not None
        assert writer.is_alive
        assert writer.pid == os.getpid()
    assert writer_of(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_is_known_to_be_dead(tmp_path: Path) -> None:
    with holding(tmp_path) as process:
        end(process)
        writer = writer_of(tmp_path)
    assert writer is not None
    assert not writer.is_alive


def test_a_writer_of_another_host_lives_as_long_as_it_renews_its_lock(tmp_path: Path) -> None:
    with only_writer(tmp_path, print, at_once=False):
        record = json.loads((tmp_path / RECORD_FILE).read_text(encoding="utf-8"))
        (tmp_path / RECORD_FILE).write_text(
            json.dumps(record | {"host": "elsewhere", "pid": 999_999_999}), encoding="utf-8"
        )
        writer = writer_of(tmp_path)
        assert writer is not None
        assert writer.is_alive
        long_ago = time.time() - 1000
        os.utime(tmp_path / LOCK_FILE, (long_ago, long_ago))
        writer = writer_of(tmp_path)
        assert writer is not None
        assert not writer.is_alive


@pytest.mark.usefixtures("short_lease")
def test_another_host_is_taken_over_from_when_it_stops_renewing(tmp_path: Path) -> None:
    lock_from_elsewhere(tmp_path)
    started = time.monotonic()
    with only_writer(tmp_path, print, at_once=False) as waited:
        assert waited
        assert time.monotonic() - started > 0.5


@pytest.mark.usefixtures("short_lease")
def test_the_clock_of_another_host_does_not_matter(tmp_path: Path) -> None:
    lock_from_elsewhere(tmp_path)
    tomorrow = time.time() + 86_400
    os.utime(tmp_path / LOCK_FILE, (tomorrow, tomorrow))
    with only_writer(tmp_path, print, at_once=False) as waited:
        assert waited


@pytest.mark.usefixtures("short_lease")
def test_a_suspended_writer_that_lost_its_lock_ends_without_writing(tmp_path: Path) -> None:
    with holding(tmp_path, lease_s=0.6) as process:
        os.kill(process.pid, signal.SIGSTOP)
        lock_from_elsewhere(tmp_path, (tmp_path / LOCK_FILE).read_text(encoding="utf-8"))
        with only_writer(tmp_path, print, at_once=False):
            os.kill(process.pid, signal.SIGCONT)
            _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "the lock is lost" in errors


def test_no_lock_of_the_file_system_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    with only_writer(tmp_path, print, at_once=False) as waited:
        assert not waited


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("", encoding="utf-8")
    with (
        pytest.raises(ResultError, match="run: cannot be created"),
        only_writer(tmp_path / "run", print, at_once=False),
    ):
        pass


@pytest.mark.usefixtures("short_lease")
@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounting needs root"
)
def test_two_mounts_of_one_folder_have_one_lock(tmp_path: Path) -> None:
    """Two hosts see one folder at two places, under two host names."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    script = f"""
mount --bind {first} {second} && hostname elsewhere &&
exec {sys.executable} -c '{HOLD}' {second} 0.6
"""
    command = ["unshare", "--mount", "--uts", "sh", "-c", script]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        if other.stdout.readline() != "held\n":
            pytest.skip("this machine allows no mounts")
        writer = writer_of(first)
        assert writer is not None
        assert writer.host == "elsewhere"
        threading.Timer(0.5, other.terminate).start()
        with only_writer(first, print, at_once=False) as waited:
            assert waited
