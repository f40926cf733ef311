from __future__ import annotations

import pytest
import torch

from prunebench.core.recipe import Augment
from prunebench.data.stage import Dataset, Split
from prunebench.training.batches import EpochBatches, draw_epoch
from prunebench.training.seeds import generator

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def draw(split: Split, augment: Augment, epoch: int = 0, batch_size: int = 64) -> EpochBatches:
    return draw_epoch(
        split,
        augment,
        mean=MEAN,
        std=STD,
        batch_size=batch_size,
        generator=generator(0, 0, "epoch", epoch),
    )


def test_an_epoch_shows_every_image_once(dataset: Dataset) -> None:
    batches = draw(dataset.train, Augment())
    inputs, labels = zip(*(batches.batch(i) for i in range(8)), strict=True)
    assert [len(x) for x in inputs] == [64] * 7 + [32]
    shown = (torch.cat(inputs) * 0.25 + 0.5) * 255
    original = dataset.train.images.float()[batches.order]
    torch.testing.assert_close(shown, original, atol=1e-3, rtol=0)
    assert torch.equal(torch.cat(labels), dataset.train.labels[batches.order])


def test_epochs_differ_and_repeat(dataset: Dataset) -> None:
    first, again, second = (draw(dataset.train, Augment(), epoch) for epoch in (0, 0, 1))
    assert torch.equal(first.order, again.order)
    assert not torch.equal(first.order, second.order)


@pytest.mark.parametrize("change", [{"flip": True}, {"cutout": 2}])
def test_switching_an_augmentation_on_leaves_the_order_as_it_was(
    change: dict[str, int], dataset: Dataset
) -> None:
    plain, changed = draw(dataset.train, Augment()), draw(dataset.train, Augment(**change))
    assert torch.equal(plain.order, changed.order)
    assert not torch.equal(plain.batch(0)[0], changed.batch(0)[0])
