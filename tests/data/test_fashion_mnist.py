from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torchvision

from prunebench.core.errors import DataError
from prunebench.data import fashion_mnist
from prunebench.data.dataset import load, prepare


def test_files_in_the_data_folder_are_read(small_fashion_mnist: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    prepare("fashion_mnist", small_fashion_mnist, out, validation=0.25)
    data = load(out)
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 20)
    assert data.test.images.shape == (20, 1, 28, 28)
    assert data.test.images[:, 0, 5, 5].tolist() == list(range(20))
    assert data.test.labels.tolist() == [i % 10 for i in range(20)]
    # pixel and label of an image still belong together
    assert (data.train.images[:, 0, 0, 0] % 10 == data.train.labels).all()


def test_debians_files_are_found(
    small_fashion_mnist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", small_fashion_mnist / "fashion_mnist")
    assert fashion_mnist.read(tmp_path / "empty").train_images.shape == (40, 1, 28, 28)


def test_files_are_downloaded_where_there_are_none(
    small_fashion_mnist: Path, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = torchvision.datasets.FashionMNIST
    resources = [(f"{name}.gz", None) for name in fashion_mnist.SHA256]
    monkeypatch.setattr(source, "mirrors", [f"{mirror}data/fashion_mnist/"])
    monkeypatch.setattr(source, "resources", resources)
    raw = fashion_mnist.read(tmp_path / "empty")
    assert raw.test_labels.tolist() == [i % 10 for i in range(20)]
    assert fashion_mnist.find_folder(tmp_path / "empty") == tmp_path / "empty/FashionMNIST/raw"


def test_a_failed_download_says_where_files_belong(
    small_fashion_mnist: Path, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [f"{mirror}none/"])
    with pytest.raises(DataError, match=r"put its four .gz files into .*empty/fashion_mnist or"):
        fashion_mnist.read(tmp_path / "empty")


def test_an_interrupted_download_is_not_taken_for_a_whole_one(
    small_fashion_mnist: Path,
) -> None:
    partial = small_fashion_mnist / "FashionMNIST" / "raw"
    partial.mkdir(parents=True)
    (small_fashion_mnist / "fashion_mnist" / "train-images-idx3-ubyte.gz").rename(
        partial / "train-images-idx3-ubyte.gz"
    )
    for file in (small_fashion_mnist / "fashion_mnist").iterdir():
        file.unlink()
    assert fashion_mnist.find_folder(small_fashion_mnist) is None


def test_a_missing_file_is_named(small_fashion_mnist: Path) -> None:
    (small_fashion_mnist / "fashion_mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(DataError, match=r"fashion_mnist: t10k-labels-idx1-ubyte.gz is missing"):
        fashion_mnist.read(small_fashion_mnist)


@pytest.mark.parametrize(
    "damage",
    [b"", b"not gzip", gzip.compress(b"1234567890", mtime=0)[:-9]],
    ids=["empty", "other", "cut off"],
)
def test_a_file_that_cannot_be_unpacked_is_named(small_fashion_mnist: Path, damage: bytes) -> None:
    (small_fashion_mnist / "fashion_mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(damage)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz: .*; download the file again"):
        fashion_mnist.read(small_fashion_mnist)


def test_a_changed_file_is_named_with_both_checksums(small_fashion_mnist: Path) -> None:
    path = small_fashion_mnist / "fashion_mnist" / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(b"other"))
    with pytest.raises(DataError, match=r"SHA-256 d9298a10.*, expected [0-9a-f]{64}"):
        fashion_mnist.read(small_fashion_mnist)


@pytest.mark.skipif(
    not fashion_mnist.DEBIAN_FOLDER.is_dir(), reason="dataset-fashion-mnist is not installed"
)
def test_debians_package_is_the_published_data(tmp_path: Path) -> None:
    raw = fashion_mnist.read(tmp_path)
    assert raw.train_images.shape == (60_000, 1, 28, 28)
    assert np.bincount(raw.test_labels).tolist() == [1000] * 10
    # mean and deviation as many projects print them
    assert np.mean(raw.train_images / 255) == pytest.approx(0.2860405969887955, abs=1e-12)
    assert np.std(raw.train_images / 255) == pytest.approx(0.3530242445149223, abs=1e-12)
