from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from prunebench.training.checkpoint import listening


@contextmanager
def handled_by(number: int, handler: signal.Handlers) -> Iterator[None]:
    """Give a signal another handler within the block."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize(
    ("number", "ends"),
    [(signal.SIGTERM, True), (signal.SIGINT, True), (signal.SIGHUP, True), (signal.SIGUSR1, False)],
)
def test_signals_ask_for_a_checkpoint_and_some_for_the_end(number: int, ends: bool) -> None:
    with handled_by(number, signal.SIG_DFL), listening() as request:  # nohup ignores SIGHUP
        os.kill(os.getpid(), number)
        assert request.take_save()
        assert (request.signal == number) is ends
        assert request.take_save() is ends


def test_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with listening():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_job_that_ignores_a_closed_terminal_goes_on() -> None:
    with handled_by(signal.SIGHUP, signal.SIG_IGN), listening() as request:
        os.kill(os.getpid(), signal.SIGHUP)
        assert request.signal is None
