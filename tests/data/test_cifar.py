from __future__ import annotations

import hashlib
import pickle
import tarfile
from pathlib import Path

import pytest
import torchvision

from prunebench.core.errors import DataError
from prunebench.data import cifar
from prunebench.data.dataset import load, prepare


def test_a_folder_of_cifar10_is_read(small_cifar10: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    prepare("cifar10", small_cifar10, out, validation=0.25)
    data = load(out)
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 20)
    assert data.test.images[7, :, 0, 31].tolist() == [7, 100, 200]
    assert data.test.images[7, :, 31, 0].tolist() == [7, 100, 200]
    assert data.test.labels[7] == 7


def test_cifar100_has_its_fine_labels(small_cifar100: Path) -> None:
    raw = cifar.read_cifar100(small_cifar100)
    assert raw.train_images.shape == (200, 3, 32, 32)
    assert raw.test_labels.tolist() == list(range(100))


def test_a_missing_folder_is_downloaded(
    small_cifar10: Path, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = torchvision.datasets.CIFAR10
    archive = tmp_path / source.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(small_cifar10 / source.base_folder, arcname=source.base_folder)
    monkeypatch.setattr(source, "url", f"{mirror}{archive.name}")
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    assert cifar.read_cifar10(tmp_path / "empty").train_images.shape == (40, 3, 32, 32)


def test_a_failed_download_says_where_the_folder_belongs(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{mirror}none.tar.gz")
    with pytest.raises(DataError, match=r"CIFAR10 is not in .*put the folder cifar-10-batches-py"):
        cifar.read_cifar10(tmp_path / "empty")


def test_a_download_with_another_checksum_is_refused(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fake.tar.gz").write_bytes(b"not the archive")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{mirror}fake.tar.gz")
    with pytest.raises(DataError, match="its download failed"):
        cifar.read_cifar10(tmp_path / "empty")


def test_a_missing_file_is_named(small_cifar10: Path) -> None:
    (small_cifar10 / "cifar-10-batches-py" / "data_batch_2").unlink()
    with pytest.raises(DataError, match=r"cifar-10-batches-py: data_batch_2 is missing; delete"):
        cifar.read_cifar10(small_cifar10)


class Bomb:
    """A pickle of it breaks when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[int, int]]:
        return divmod, (1, 0)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_changed_pickle_is_named_and_never_opened(small_cifar10: Path, name: str) -> None:
    path = small_cifar10 / "cifar-10-batches-py" / name
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=rf"{name}: MD5 is [0-9a-f]{{32}}, expected [0-9a-f]{{32}}"):
        cifar.read_cifar10(small_cifar10)
