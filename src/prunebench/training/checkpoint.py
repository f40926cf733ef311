"""Signals that ask a run to save itself.

The checkpoint of a run: written whole or not at all, loaded without executing anything.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from prunebench.core.files import replacing
from prunebench.methods.base import Method
from prunebench.training.optimizer import Optimizer
from prunebench.training.processes import ALONE, Alone
from prunebench.training.run import Records, RunState
from prunebench.training.step import Sums


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


FORMAT = 2
_POSITION = ("index", "begun", "clock", "epoch", "epochs")


class CheckpointFile:
    """resume.pt of one specification, and resume.previous.pt, the one before it.

    A file that is damaged, or of another specification, is set aside under another name.
    """

    def __init__(
        self, folder: Path, spec_hash: str, interval_s: float, say: Callable[[str], None]
    ) -> None:
        self.path, self.previous = folder / "resume.pt", folder / "resume.previous.pt"
        self.spec_hash, self.interval_s, self.say = spec_hash, interval_s, say
        self.written_at = time.monotonic()

    def is_due(self) -> bool:
        """Whether the interval has passed since the last one."""
        return time.monotonic() - self.written_at >= self.interval_s

    def write(self, content: dict[str, Any]) -> None:
        """Replace the checkpoint; the old one stays beside it."""
        content = {"format": FORMAT, "spec_hash": self.spec_hash, **content}
        with replacing(self.path) as temporary:
            torch.save(content, temporary)
            if self.path.exists():
                self.path.replace(self.previous)
        self.written_at = time.monotonic()

    def read(self) -> dict[str, Any] | None:
        """Return the newest valid checkpoint of this specification, or None."""
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                content = torch.load(path, map_location="cpu", weights_only=True)
                if content["format"] == FORMAT and content["spec_hash"] == self.spec_hash:
                    return dict(content)
                problem = "belongs to another specification"
            except Exception as error:  # whatever damage does to a pickle
                problem = f"is damaged ({type(error).__name__})"
            aside = path.with_suffix(f".{os.getpid()}.unused")
            path.replace(aside)
            self.say(f"{path}: {problem}; set aside as {aside.name}")
        return None

    def remove(self) -> None:
        """Delete the checkpoints of a finished run."""
        self.path.unlink(missing_ok=True)
        self.previous.unlink(missing_ok=True)


def pack(
    run: RunState,
    method: Method[Any],
    optimizer: Optimizer,
    sums: Sums,
    parallel: Alone = ALONE,
) -> dict[str, Any]:
    """Return everything that a resumed run needs, as tensors, numbers and containers.

    All processes call it together: each has its own sums.
    """
    records = {f.name: getattr(run.records, f.name) for f in fields(Records)}
    images = torch.tensor(sums.images, device=run.device)
    return {
        "position": {name: getattr(run, name) for name in _POSITION},
        "network": run.snapshot(),
        "slots": run.slots,
        "moments": asdict(optimizer.moments),
        "method": method.state,
        "sums": [parallel.gathered(t) for t in (sums.loss, sums.correct, images)],
        "records": records,
        "rng": _rng_state(run.device),
    }


def unpack(content: dict[str, Any], run: RunState, method: Method[Any]) -> None:
    """Put a run and its method where they were; the optimizer is made anew from the moments."""
    for name, value in content["position"].items():
        setattr(run, name, value)
    run.go_to(run.index)
    run.restore(content["network"])
    run.slots = _to(content["slots"], run.device)
    method.state = _to(content["method"], run.device)
    run.records = Records(**_to(content["records"], run.device))
    run.records.resumed_at.append([run.phase.name, run.clock])
    torch.set_rng_state(content["rng"]["cpu"])
    if run.device.type == "cuda" and "cuda" in content["rng"]:
        torch.cuda.set_rng_state(content["rng"]["cuda"], run.device)


def unpacked_sums(content: dict[str, Any], device: torch.device, parallel: Alone = ALONE) -> Sums:
    """Return this process's sums of the epoch that was under way.

    Where there were fewer or more processes, the first one takes all.
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
