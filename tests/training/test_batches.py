from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from prunebench.criteria.base import Needs
from prunebench.data.dataset import Dataset, Split
from prunebench.experiments.recipe import Augment
from prunebench.training.batches import Batching, EpochBatches, draw_epoch, sampled
from prunebench.training.run import generator

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def draw(split: Split, augment: Augment, epoch: int = 0, batch_size: int = 64) -> EpochBatches:
    return draw_epoch(
        split,
        augment,
        mean=MEAN,
        std=STD,
        batching=Batching(len(split), batch_size),
        generator=generator(0, 0, "epoch", epoch),
    )


def test_an_epoch_shows_every_image_once(dataset: Dataset) -> None:
    batches = draw(dataset.train, Augment())
    inputs, labels = zip(*(batches.chunk(i) for i in range(8)), strict=True)
    assert [len(x) for x in inputs] == [64] * 7 + [32]
    shown = (torch.cat(inputs) * 0.25 + 0.5) * 255
    original = dataset.train.images.float()[batches.order.index]
    torch.testing.assert_close(shown, original, atol=1e-3, rtol=0)
    assert torch.equal(torch.cat(labels), dataset.train.labels[batches.order.index])


def test_epochs_differ_and_repeat(dataset: Dataset) -> None:
    first, again, second = (draw(dataset.train, Augment(), epoch) for epoch in (0, 0, 1))
    assert torch.equal(first.order.index, again.order.index)
    assert not torch.equal(first.order.index, second.order.index)


@pytest.mark.parametrize("change", [{"flip": True}, {"cutout": 2}])
def test_switching_an_augmentation_on_leaves_the_order_as_it_was(
    change: dict[str, int], dataset: Dataset
) -> None:
    plain, changed = draw(dataset.train, Augment()), draw(dataset.train, Augment(**change))
    assert torch.equal(plain.order.index, changed.order.index)
    assert not torch.equal(plain.chunk(0)[0], changed.chunk(0)[0])


def take(split: Split, seed: int = 0, **needs: Any) -> list[tuple[Tensor, Tensor]]:
    own = generator(seed, 0, "samples")
    return list(sampled(split, Needs(**needs), Augment(), mean=MEAN, std=STD, generator=own))


def test_samples_come_in_batches_and_repeat(dataset: Dataset) -> None:
    first, again = (take(dataset.train, samples=70, batch=32) for _ in range(2))
    assert [len(labels) for _, labels in first] == [32, 32, 6]
    assert all(torch.equal(x, y) for (x, _), (y, _) in zip(first, again, strict=True))
    other = take(dataset.train, seed=1, samples=70, batch=32)
    assert not torch.equal(first[0][0], other[0][0])


def test_more_samples_than_images_are_all_images(dataset: Dataset) -> None:
    found = take(dataset.train, samples=10_000, batch=100)
    assert sum(len(labels) for _, labels in found) == len(dataset.train) == 480


def test_samples_by_class_hold_one_class_a_batch(dataset: Dataset) -> None:
    found = take(dataset.train, samples=20, batch=16, by_class=True)
    assert [len(labels) for _, labels in found] == [16, 4] * 4
    assert [labels.unique().tolist() for _, labels in found] == [
        [c] for c in (0, 0, 1, 1, 2, 2, 3, 3)
    ]
