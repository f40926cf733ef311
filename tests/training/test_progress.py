from __future__ import annotations

import pytest

from prunebench.experiments.results import HistoryRow
from prunebench.training.progress import BarProgress, PlainProgress, Progress, make_progress

ROW = HistoryRow(
    phase="fine_tune",
    epoch=3,
    step=24,
    train_loss=0.12345,
    train_accuracy=96.123,
    val_accuracy=95.0,
    test_accuracy=94.5,
)


def report(progress: Progress) -> None:
    progress.phase("fine_tune", 48, 0)
    progress.step(24)
    progress.epoch(ROW)
    progress.pruned((160, 320), 2_530_000, 1_270_000, None)
    progress.close()


def test_a_log_has_a_plain_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    report(PlainProgress())
    lines = capsys.readouterr().out.splitlines()
    figures = "loss 0.1235 · train 96.12 % · val 95.00 % · test 94.50 %"
    assert lines[0] == f"fine_tune  epoch   3 · step 24/48 · {figures} · 0:00 left of the phase"
    assert lines[1] == "remove     160 of 320 units · MACs 2.53 M → 1.27 M (1.99×)"


def test_without_a_validation_split_no_word_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    PlainProgress().epoch(ROW._replace(val_accuracy=None))
    assert "val" not in capsys.readouterr().out


def test_a_terminal_has_bars(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    report(BarProgress())
    shown = capsys.readouterr().out
    assert "remove     160 of 320 units" in shown
    assert "24/48" in shown


def test_a_pipe_gets_plain_lines() -> None:
    with make_progress() as progress:
        assert isinstance(progress, PlainProgress)
