"""Signals that ask a run to save itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType


@dataclass
class StopRequest:
    """What the signals have asked for; the loop looks before each step.

    SIGUSR1 (a scheduler's warning) asks for a checkpoint, SIGTERM and SIGINT for a checkpoint and
    the end.
    """

    save: bool = False
    signal: int | None = None  # of the end

    def take_save(self) -> bool:
        """Say whether a checkpoint is asked for, once."""
        asked, self.save = self.save, False
        return asked or self.signal is not None


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Turn the signals into a request, and put their handlers back afterwards."""
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        request.save = True
        if number != signal.SIGUSR1:
            request.signal = number

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
