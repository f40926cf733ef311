"""Progress of a run: bars on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Protocol

from prunebench.experiments.results import HistoryRow


class Progress(Protocol):
    """Receives the reports of the training loop."""

    def say(self, text: str) -> None:
        """Report a line of text."""

    def phase(self, name: str, steps: int, done: int) -> None:
        """Report the start of a phase of `steps` steps, of which `done` are done."""

    def step(self, clock: int) -> None:
        """Report the number of steps done in the phase."""

    def epoch(self, row: HistoryRow) -> None:
        """Report the history row of an epoch."""

    def pruned(
        self, units: tuple[int, int], base_macs: int, macs: int, difference: float | None
    ) -> None:
        """Report a removal."""

    def close(self) -> None:
        """End the display."""


def removal_line(
    units: tuple[int, int], base_macs: int, macs: int, difference: float | None
) -> str:
    """Return the description of a removal.

    >>> removal_line((160, 320), 2_530_000, 1_270_000, 3e-15)
    '160 of 320 units · MACs 2.53 M → 1.27 M (1.99×) · masked = removed to 3e-15'
    """
    same = "" if difference is None else f" · masked = removed to {difference:.0e}"
    return (
        f"{units[0]} of {units[1]} units · MACs {base_macs / 1e6:.2f} M → {macs / 1e6:.2f} M "
        f"({base_macs / macs:.2f}×){same}"
    )


def epoch_figures(row: HistoryRow) -> str:
    """Return an epoch's loss and accuracies as text, without those that there are not."""
    found = {"train": row.train_accuracy, "val": row.val_accuracy, "test": row.test_accuracy}
    accuracies = [f" · {name} {value:.2f} %" for name, value in found.items() if value is not None]
    return f"loss {row.train_loss:.4f}{''.join(accuracies)}"


def minutes(seconds: float) -> str:
    """Return a duration as minutes and seconds, or hours, minutes and seconds.

    >>> minutes(9.4), minutes(75), minutes(3700)
    ('0:09', '1:15', '1:01:40')
    """
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    short = f"{rest // 60}:{rest % 60:02d}"
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else short


class PlainProgress:
    """A line per epoch, for logs and pipes."""

    def __init__(self) -> None:
        self.name, self.steps, self.first = "", 0, 0
        self.started = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line, if the disk of the log has space."""
        with suppress(OSError):  # a line that is lost ends no training
            print(text, flush=True)

    def phase(self, name: str, steps: int, done: int) -> None:
        """Store the position in the phase."""
        self.name, self.steps, self.first = name, steps, done
        self.started = time.monotonic()

    def step(self, clock: int) -> None:
        """Print nothing."""

    def epoch(self, row: HistoryRow) -> None:
        """Print an epoch's figures and the remaining time."""
        self.say(
            f"{self.name:<10} epoch {row.epoch:>3} · step {row.step}/{self.steps}"
            f" · {epoch_figures(row)} · {minutes(self._left(row.step))} left of the phase"
        )

    def pruned(
        self, units: tuple[int, int], base_macs: int, macs: int, difference: float | None
    ) -> None:
        """Print a removal."""
        self.say(f"{'remove':<10} {removal_line(units, base_macs, macs, difference)}")

    def close(self) -> None:
        """Do nothing."""

    def _left(self, clock: int) -> float:
        done = max(clock - self.first, 1)
        return (time.monotonic() - self.started) / done * (self.steps - clock)


class SilentProgress(PlainProgress):
    """No output, for all processes of a run but the first."""

    def say(self, text: str) -> None:
        """Print nothing."""


class BarProgress:
    """A bar per phase, for terminals."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bars

        self.bars = Bars(
            TextColumn("{task.description:<10}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self.bars.start()
        self.task = self.bars.add_task("", visible=False, figures="")

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        self.bars.console.print(text, highlight=False, markup=False)

    def phase(self, name: str, steps: int, done: int) -> None:
        """Begin a new bar."""
        self.task = self.bars.add_task(name, total=steps, completed=done, figures="")

    def step(self, clock: int) -> None:
        """Move the bar."""
        self.bars.update(self.task, completed=clock)

    def epoch(self, row: HistoryRow) -> None:
        """Show the epoch's figures after the bar."""
        self.bars.update(self.task, figures=epoch_figures(row))

    def pruned(
        self, units: tuple[int, int], base_macs: int, macs: int, difference: float | None
    ) -> None:
        """Print a removal."""
        self.say(f"{'remove':<10} {removal_line(units, base_macs, macs, difference)}")

    def close(self) -> None:
        """Leave the bars as they stand."""
        self.bars.stop()


@contextmanager
def make_progress() -> Iterator[Progress]:
    """Yield bars on a terminal, plain lines otherwise."""
    progress: Progress = BarProgress() if sys.stdout.isatty() else PlainProgress()
    try:
        yield progress
    finally:
        progress.close()
