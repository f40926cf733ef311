from __future__ import annotations

import pytest
import torch

from prunebench.data.dataset import Split
from prunebench.data.images import evaluation_batch_size, evaluation_batches


@pytest.mark.parametrize(
    ("device", "side", "images"),
    [("cuda", 32, 512), ("cuda", 64, 512), ("cuda", 65, 128), ("cpu", 32, 128), ("cpu", 5000, 1)],
)
def test_batches_of_an_evaluation_are_those_that_are_fastest(
    device: str, side: int, images: int
) -> None:
    assert evaluation_batch_size((3, side, side), torch.device(device)) == images


def test_evaluation_takes_such_batches() -> None:
    split = Split(torch.zeros(300, 1, 32, 32, dtype=torch.uint8), torch.arange(300) % 10)
    batches = list(evaluation_batches(split, mean=(0.0,), std=(1.0,)))
    assert [len(labels) for _, labels in batches] == [128, 128, 44]
    assert torch.equal(torch.cat([labels for _, labels in batches]), split.labels)
