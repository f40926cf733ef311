from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunebench.measure.accuracy import Correct, evaluate


class Brightest(nn.Module):
    """Logits are the channels' means; every mode and weight is checked by the tests."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.drop = nn.Dropout(0.9)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(x.mean(dim=(2, 3)) * self.scale)


@pytest.fixture
def images() -> Tensor:
    """Five images of two channels; the brighter channel is 0, 1, 1, 0, 1."""
    values = torch.tensor([[200, 10], [10, 200], [0, 255], [9, 8], [100, 101]], dtype=torch.uint8)
    return values[:, :, None, None].expand(5, 2, 3, 3)


@pytest.mark.parametrize("batch_size", [1, 2, 512])
def test_right_answers_are_counted_exactly(images: Tensor, batch_size: int) -> None:
    labels = torch.tensor([0, 1, 0, 0, 1])
    result = evaluate(
        Brightest(), images, labels, mean=(0.0, 0.0), std=(1.0, 1.0), batch_size=batch_size
    )
    assert result == Correct(correct=4, total=5)
    assert result.percent == 80.0


def test_images_are_normalized_per_channel(images: Tensor) -> None:
    # a mean of 1 in channel 1 takes it below channel 0 everywhere
    result = evaluate(
        Brightest(), images, torch.zeros(5, dtype=torch.int64), mean=(0.0, 1.0), std=(1.0, 1.0)
    )
    assert result.correct == 5


def test_each_module_keeps_its_mode(images: Tensor) -> None:
    model = Brightest()
    model.drop.eval()
    evaluate(model, images, torch.zeros(5, dtype=torch.int64), mean=(0.0, 0.0), std=(1.0, 1.0))
    assert model.training
    assert not model.drop.training


def test_labels_must_be_as_many_as_images(images: Tensor) -> None:
    with pytest.raises(ValueError, match="5 images and 4 labels"):
        evaluate(Brightest(), images, torch.zeros(4), mean=(0.0, 0.0), std=(1.0, 1.0))
