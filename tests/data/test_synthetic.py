from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from prunebench.core.errors import ConfigError
from prunebench.data.augment import normalize
from prunebench.data.dataset import Dataset, load, prepare
from prunebench.data.registry import dataset_info
from prunebench.data.synthetic import read


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("synthetic") / "synthetic.safetensors"
    prepare("synthetic", Path("nowhere"), out)
    return load(out)


def test_classes_are_balanced(synthetic: Dataset) -> None:
    assert synthetic.train.labels.bincount().tolist() == [120] * 4
    assert synthetic.val.labels.bincount().tolist() == [30] * 4
    assert synthetic.test.labels.bincount().tolist() == [50] * 4


def test_the_same_images_are_made_each_time(tmp_path: Path) -> None:
    assert np.array_equal(read(tmp_path).train_images, read(tmp_path).train_images)


def test_the_normalization_nearly_fits(synthetic: Dataset) -> None:
    info = synthetic.info
    normalized = normalize(synthetic.train.images, info.mean, info.std)
    assert normalized.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.0] * 3, abs=0.02)
    assert normalized.std(dim=(0, 2, 3)).tolist() == pytest.approx([1.0] * 3, abs=0.02)


@pytest.mark.parametrize("side", [32, 40])
def test_larger_images_are_a_handful(tmp_path: Path, side: int) -> None:
    prepare(f"synthetic_{side}", Path("nowhere"), tmp_path / "out.safetensors")
    data = load(tmp_path / "out.safetensors")
    assert data.train.shape == data.info.shape == (3, side, side)
    assert [len(split) for split in (data.train, data.val, data.test)] == [32, 8, 16]


@pytest.mark.parametrize("name", ["synthetic_", "synthetic_8", "synthetic_032", "synthetic_big"])
def test_a_side_is_a_number_of_pixels(name: str) -> None:
    with pytest.raises(ConfigError, match=f"data set '{name}': the side of its images must be"):
        dataset_info(name)


def test_a_small_network_learns_it_in_seconds(synthetic: Dataset) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 4),
    )  # fmt: skip
    info = synthetic.info
    x = normalize(synthetic.train.images, info.mean, info.std)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), synthetic.train.labels).backward()
        optimizer.step()
    answers = net(normalize(synthetic.test.images, info.mean, info.std)).argmax(dim=1)
    assert (answers == synthetic.test.labels).double().mean() > 0.9
