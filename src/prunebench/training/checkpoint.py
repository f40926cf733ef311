"""Checkpoints of a run, and the signals that ask for one.

A checkpoint is written completely or not at all, and loading it executes nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from prunebench.core.errors import ResultError, cannot
from prunebench.core.files import remove, replacing
from prunebench.methods.base import Method
from prunebench.training.optimizer import Optimizer
from prunebench.training.processes import ALONE, Alone
from prunebench.training.run import Records, RunState
from prunebench.training.step import Sums


@dataclass
class StopRequest:
    """The request of the signals received so far; the loop checks it before each step.

    SIGUSR1 (a scheduler's warning) asks for a checkpoint, SIGTERM, SIGINT and SIGHUP (a closed
    terminal) for a checkpoint and the end of the run. A run that stops raises RunStoppedError, and
    the command exits with 128 plus the number of the signal (`cli.command`).
    """

    save: bool = False
    signal: int | None = None  # the one that ends the run

    def take_save(self) -> bool:
        """Return whether a checkpoint is asked for, and clear the request."""
        asked, self.save = self.save, False
        return asked or self.signal is not None


@contextmanager
def listening() -> Iterator[StopRequest]:
    """Turn signals into a request within the block, and restore their handlers after it."""
    request = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        request.save = True
        if number != signal.SIGUSR1:
            request.signal = number

    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


FORMAT = 2
_POSITION = ("index", "begun", "clock", "epoch", "epochs")


class CheckpointFile:
    """The files resume.pt and resume.previous.pt, the checkpoint before it, of one specification.

    A file that is damaged or belongs to another specification is renamed.
    """

    def __init__(
        self, folder: Path, spec_hash: str, interval_s: float, say: Callable[[str], None]
    ) -> None:
        self.path, self.previous = folder / "resume.pt", folder / "resume.previous.pt"
        self.spec_hash, self.interval_s, self.say = spec_hash, interval_s, say
        self.written_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether the interval has passed since the last checkpoint."""
        return time.monotonic() - self.written_at >= self.interval_s

    def write(self, content: dict[str, Any]) -> None:
        """Replace the checkpoint, and keep the previous one.

        If it cannot be written, as on a full disk, the earlier ones stay and training goes on.
        """
        content = {"format": FORMAT, "spec_hash": self.spec_hash, **content}
        try:
            with replacing(self.path) as temporary:
                with temporary.open("wb") as file:
                    torch.save(content, file)
                if self.path.exists():
                    self.path.replace(self.previous)
        except ResultError as error:
            self.say(
                f"{error}; training goes on, and an earlier checkpoint, if there is one, stays"
            )
        self.written_at = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the newest valid checkpoint of this specification, or None.

        ResultError if a checkpoint cannot be read: it may be whole.
        """
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
                if content["format"] == FORMAT and content["spec_hash"] == self.spec_hash:
                    return dict(content)
                problem = "belongs to another specification"
            except OSError as error:
                raise ResultError(f"{path}: {cannot('be read', error)}") from None
            except Exception as error:  # a damaged pickle may raise anything
                problem = f"is damaged ({type(error).__name__})"
            aside = path.with_suffix(f".{os.getpid()}.unused")
            path.replace(aside)
            self.say(f"{path}: {problem}; set aside as {aside.name}")
        return None

    @contextmanager
    def offered(self) -> Iterator[None]:
        """Let a ResultError of the block say that the run can continue from its checkpoint."""
        try:
            yield
        except ResultError as error:
            if not self.path.exists():
                raise
            then = "the same command then goes on from the last checkpoint"
            raise ResultError(f"{error}; {then}") from error

    def remove(self) -> None:
        """Delete the checkpoints of a finished run, and those that were set aside."""
        aside = self.path.parent.glob("resume*.unused")
        for path in (self.path, self.previous, *aside):
            remove(path)


def pack(
    run: RunState,
    method: Method[Any],
    optimizer: Optimizer,
    sums: Sums,
    parallel: Alone = ALONE,
) -> dict[str, Any]:
    """Return everything that a resumed run needs, as tensors, numbers and containers.

    All processes call it together, since each has its own sums.
    """
    images = torch.tensor(sums.images, device=run.device)
    return {
        "position": {name: getattr(run, name) for name in _POSITION},
        "network": run.snapshot(),
        "slots": run.slots,
        "moments": asdict(optimizer.moments),
        "method": method.state,
        "sums": [parallel.gathered(t) for t in (sums.loss, sums.correct, images)],
        "records": run.records.packed(),
        "rng": _rng_state(run.device),
    }


def unpack(content: dict[str, Any], run: RunState, method: Method[Any]) -> None:
    """Restore a run and its method; the optimizer is made from the moments later."""
    for name, value in content["position"].items():
        setattr(run, name, value)
    run.go_to(run.index)
    run.restore(content["network"])
    run.slots = _to(content["slots"], run.device)
    method.state = _to(content["method"], run.device)
    run.records = Records.unpacked(_to(content["records"], run.device))
    run.records.resumed_at.append((run.phase.name, run.clock))
    torch.set_rng_state(content["rng"]["cpu"])
    if run.device.type == "cuda" and "cuda" in content["rng"]:
        torch.cuda.set_rng_state(content["rng"]["cuda"], run.device)


def unpacked_sums(content: dict[str, Any], device: torch.device, parallel: Alone = ALONE) -> Sums:
    """Return this process's sums of the interrupted epoch.

    If the number of processes has changed, the first one takes all.
    """
    loss, correct, images = content["sums"]
    if len(images) != parallel.world:
        loss, correct, images = (
            torch.cat((t.sum(0, keepdim=True), t.new_zeros(parallel.world - 1)))
            for t in (loss, correct, images)
        )
    own = parallel.rank
    return Sums(loss[own].to(device), correct[own].to(device), int(images[own]))


def _rng_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def _to(value: Any, device: torch.device) -> Any:
    """Move the tensors within containers."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _to(inner, device) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_to(inner, device) for inner in value)
    return value
