"""The time line of a run, from its history in runs.csv: epochs, events and phases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from prunebench.report.figures.accuracy_epochs import Split
from prunebench.report.table import DASH


@dataclass(frozen=True)
class Moment:
    """A row of the history: an epoch, or the network right after an event."""

    epoch: int  # over all phases; an event has the number of the epoch before it
    phase: str
    event: str  # empty: an epoch
    lr: float | None
    train_loss: float | None
    val_accuracy: float | None
    test_accuracy: float | None

    def accuracy(self, split: Split) -> float | None:
        """Return the accuracy on a split; None: not evaluated."""
        return self.test_accuracy if split == "test_accuracy" else self.val_accuracy


@dataclass(frozen=True)
class Span:
    """A phase between its first and its last epoch; it has no epoch if nothing was trained."""

    phase: str
    start: int  # the epochs before it
    end: int
    events: tuple[str, ...]
    lr: tuple[float, float] | None  # of the first and of the last epoch; None: not recorded

    @property
    def epochs(self) -> int:
        """Return the number of its epochs; a part of an epoch counts as one."""
        return self.end - self.start


def moments_of(history: Mapping[str, Sequence[Any]] | None) -> list[Moment]:
    """Return the rows of a history; files of earlier versions have no learning rates."""
    if history is None:
        return []
    lrs = history.get("lr", [None] * len(history["phase"]))
    columns = [
        history[name] for name in ("phase", "event", "train_loss", "val_accuracy", "test_accuracy")
    ]
    moments = []
    epoch = 0
    for lr, phase, event, loss, val, test in zip(lrs, *columns, strict=True):
        epoch += not event
        moments.append(Moment(epoch, phase, event, lr, loss, val, test))
    return moments


def spans_of(moments: Sequence[Moment]) -> list[Span]:
    """Return the phases in their order; a phase that comes back has several spans."""
    spans = []
    end = 0
    for phase, group in groupby(moments, key=lambda moment: moment.phase):
        rows = list(group)
        lrs = [row.lr for row in rows if not row.event and row.lr is not None]
        start, end = end, rows[-1].epoch
        events = tuple(row.event for row in rows if row.event)
        spans.append(Span(phase, start, end, events, (lrs[0], lrs[-1]) if lrs else None))
    return spans


def lr_words(span: Span, recipes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return a phase's learning rate: of its epochs, else of the recipe with the phase's name.

    >>> lr_words(Span("fine_tune", 0, 8, (), (0.05, 0.0005)), {})
    '0.05 → 0.0005'
    >>> lr_words(Span("train", 0, 8, (), None), {})
    'not recorded'
    """
    if not span.epochs:
        return DASH
    if span.lr is not None:
        first, last = (f"{lr:.3g}" for lr in span.lr)
        return first if first == last else f"{first} → {last}"
    recipe = recipes.get(span.phase)
    if recipe is None:
        return "not recorded"
    return f"{recipe['lr']:g}, schedule {recipe['schedule']['kind']}"
