"""Errors of the operating system that no stage has named itself."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
from typing import Any

import pytest
import typer

from prunebench.cli import command
from prunebench.training.progress import PlainProgress


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            PermissionError(errno.EACCES, "Permission denied", "runs.csv"),
            "runs.csv: cannot be used (Permission denied); change its permissions or its owner",
        ),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            "output: cannot be used (No space left on device); free some space",
        ),
    ],
)
def test_an_error_of_the_system_is_one_line(
    monkeypatch: pytest.MonkeyPatch, error: OSError, words: str
) -> None:
    def refused(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(command, "app", refused)
    with pytest.raises(SystemExit) as ended:
        command.run(["list"])
    assert ended.value.code == f"prunebench: {words}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_outside_of_training_says_that_it_was_stopped(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`status` tells by this line that a job was stopped and has not failed."""

    def wait() -> None:
        os.kill(os.getpid(), number)

    stage = typer.Typer()
    stage.command()(wait)
    monkeypatch.setattr(command, "app", stage)
    interrupted = signal.signal(signal.SIGINT, signal.default_int_handler)  # may be ignored here
    before = signal.getsignal(number)
    try:
        with pytest.raises(SystemExit) as ended:
            command.run(["--"])
        assert signal.getsignal(number) is before
    finally:
        signal.signal(signal.SIGINT, interrupted)
    assert ended.value.code == 128 + number
    assert capsys.readouterr().err == "prunebench: stopped\n"


def test_output_that_cannot_be_written_is_an_error() -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "prunebench", "list", "datasets"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr.startswith("prunebench: output: cannot be used (No space left on device)")
    assert done.stderr.count("\n") == 1


class Full(io.StringIO):
    """A log on a full disk."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_log_that_cannot_be_written_ends_no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    PlainProgress().say("a line")
