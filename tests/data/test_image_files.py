"""Batches from files are copied to a GPU from pinned memory, without waiting."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prunebench.data.image_files import FileReader, FileSplit
from prunebench.data.images import Order


class FakeLabels:
    """Labels on a device that this machine may not have."""

    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind)

    def __len__(self) -> int:
        return 2


def reader_on(kind: str) -> FileReader:
    none = torch.zeros(2, 1, dtype=torch.uint8)
    labels: Any = FakeLabels(kind)
    split = FileSplit(Path(), none, torch.zeros(2), labels, (3, 4, 4), 4)
    return FileReader(split, Order(torch.arange(2), lambda k: slice(k, k + 1), 2), None)


@pytest.mark.parametrize(("kind", "pinned"), [("cuda", True), ("cpu", False)])
def test_workers_pin_the_batches_of_a_gpu(kind: str, pinned: bool) -> None:
    assert reader_on(kind)._loader(0).pin_memory == pinned


def test_the_copy_to_a_gpu_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, Any]] = []

    def to(device: torch.device, non_blocking: bool = False) -> None:
        asked.append((device.type, non_blocking))

    reader = reader_on("cuda")
    monkeypatch.setattr(reader, "_loader", lambda first: [SimpleNamespace(to=to)])
    reader.read(0)
    assert asked == [("cuda", True)]
