from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from prunebench.data import conversion_progress
from prunebench.data.conversion_progress import counted
from prunebench.data.decoding import decode


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(counted(range(3), "read")) == [0, 1, 2]
    assert capsys.readouterr().out == ""


def test_a_log_has_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 4.0, 11.0, 11.0, 12.0])  # at the start and for each item, twice for a line
    monkeypatch.setattr(conversion_progress.time, "monotonic", lambda: next(clock))
    assert list(counted("abc", "read")) == ["a", "b", "c"]
    assert capsys.readouterr().out == "read       1 of 3\n"


def test_a_terminal_has_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(counted(range(3), "read")) == [0, 1, 2]
    assert "read" in capsys.readouterr().out


def test_decoding_counts_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(np.full((8, 8, 3), 7, np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr(conversion_progress, "SECONDS", 0.0)
    assert int(decode([tmp_path / "a.png"] * 2, 8).max()) == 7
    assert capsys.readouterr().out.splitlines() == ["read       0 of 2", "read       1 of 2"]
