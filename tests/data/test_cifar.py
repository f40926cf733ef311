from __future__ import annotations

import hashlib
import io
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torchvision
from PIL import Image

from prunebench.core.errors import DataError
from prunebench.data import cifar
from prunebench.data.dataset import load, prepare
from tests.data.conftest import SMALL_CIFAR10, small_cifar10_split

ONE_HASH = "b687dd4d4f4889016f7a31b6f90fcdb0fbe3a5f3b6c01af4e6ccf3e34450e8f7"
FORMATS = ("torchvision", "folder", "zip", "zip with a top folder", "parquet")


def as_png(pixels: np.ndarray, suffix: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, {"jpg": "JPEG"}.get(suffix, "PNG"))
    return buffer.getvalue()


def write_images(root: Path, suffix: str = "png") -> Path:
    """Write the small CIFAR-10 as image files below `root`; names are in no particular order."""
    for split in SMALL_CIFAR10:
        for i, (image, label) in enumerate(zip(*small_cifar10_split(split), strict=True)):
            path = root / split / f"class{label}" / f"{997 * i % 100:02d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(as_png(image, suffix))
    return root


def write_copy(form: str, folder: Path) -> Path:
    """Write the small CIFAR-10 in a form other than torchvision's."""
    if form == "folder":
        write_images(folder / "cifar10")
    elif form == "parquet":
        (folder / "cifar10" / "plain_text").mkdir(parents=True)
        for split in SMALL_CIFAR10:
            pixels, labels = small_cifar10_split(split)
            images = [{"bytes": as_png(image), "path": None} for image in pixels]
            table = pd.DataFrame({"img": images, "label": labels})
            table.to_parquet(folder / f"cifar10/plain_text/{split}-00000-of-00001.parquet")
    else:
        top = "cifar10/" if "top" in form else ""
        source = write_images(folder / "source")
        with zipfile.ZipFile(folder / "cifar10.zip", "w") as file:
            for path in sorted(source.rglob("*.png"), reverse=True):
                file.write(path, f"{top}{path.relative_to(source).as_posix()}")
    return folder


@pytest.mark.parametrize("form", FORMATS)
def test_every_copy_becomes_the_same_tensors(
    small_cifar10: Path, tmp_path: Path, form: str
) -> None:
    if form == "parquet":
        pytest.importorskip("pyarrow")
    folder = small_cifar10 if form == "torchvision" else write_copy(form, tmp_path / "copy")
    out = tmp_path / "out.safetensors"
    prepare("cifar10", folder, out, validation=0.25)
    data = load(out)
    assert (len(data.train), len(data.val), len(data.test)) == (30, 10, 20)
    assert data.sha256 == ONE_HASH


def test_images_are_sorted_by_their_digests(small_cifar10: Path) -> None:
    raw = cifar.read(small_cifar10, "cifar10")
    images = raw.test_images.transpose(0, 2, 3, 1)
    digests = cifar.image_digests(images, raw.test_labels)
    assert digests == sorted(digests)
    seven = int(np.flatnonzero(raw.test_images[:, 0, 0, 0] == 7)[0])
    assert raw.test_images[seven, :, 31, 0].tolist() == [7, 100, 201]
    assert raw.test_labels[seven] == 7


def test_a_digest_is_of_the_label_and_the_pixels_row_by_row() -> None:
    image = np.arange(3072, dtype=np.int64).astype(np.uint8).reshape(1, 32, 32, 3)
    expected = hashlib.sha256(bytes([5]) + image.tobytes()).digest()
    assert cifar.image_digests(image, np.array([5])) == [expected]
    assert cifar.fingerprint([expected]) == hashlib.sha256(expected).hexdigest()


def test_a_jpeg_copy_is_refused_and_accepted_under_another_name(
    small_originals: None, tmp_path: Path
) -> None:
    write_images(tmp_path / "cifar10", "jpg")
    with pytest.raises(DataError) as caught:
        cifar.read(tmp_path, "cifar10")
    assert str(caught.value).startswith(
        f"{tmp_path / 'cifar10'}: train: found 40 of 40 images with the fingerprint "
    )
    assert str(caught.value).endswith(
        "these are not CIFAR-10's pixels and labels (a JPEG copy?); the data set cifar10_other "
        "accepts them"
    )
    prepare("cifar10_other", tmp_path, tmp_path / "out.safetensors", validation=0.25)
    assert load(tmp_path / "out.safetensors").info.title == "CIFAR-10 (other pixels)"


def test_a_missing_image_and_a_wrong_label_are_noticed(
    small_originals: None, tmp_path: Path
) -> None:
    train = write_images(tmp_path / "cifar10") / "train"
    moved = next((train / "class3").iterdir())
    moved.rename(train / "class4" / f"moved_{moved.name}")
    with pytest.raises(DataError, match="train: found 40 of 40 images with"):
        cifar.read(tmp_path, "cifar10")
    (train / "class4" / f"moved_{moved.name}").unlink()
    with pytest.raises(DataError, match="train: found 39 of 40 images with"):
        cifar.read(tmp_path, "cifar10")


def test_a_missing_class_is_counted(small_originals: None, tmp_path: Path) -> None:
    shutil.rmtree(write_images(tmp_path / "cifar10") / "test" / "class9")
    with pytest.raises(DataError, match="test has 9 class folders with images, expected 10"):
        cifar.read(tmp_path, "cifar10")


def test_a_truncated_image_is_named(small_originals: None, tmp_path: Path) -> None:
    path = next((write_images(tmp_path / "cifar10") / "train" / "class2").iterdir())
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=rf"train/class2/{path.name} cannot be decoded"):
        cifar.read(tmp_path, "cifar10")


def test_an_image_of_another_size_is_named(small_originals: None, tmp_path: Path) -> None:
    path = next((write_images(tmp_path / "cifar10") / "train" / "class2").iterdir())
    path.write_bytes(as_png(np.zeros((64, 48, 3), np.uint8)))
    with pytest.raises(DataError, match=rf"{path.name} has 64x48 pixels, expected 32x32"):
        cifar.read(tmp_path, "cifar10")


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "cifar10.zip").write_bytes(b"PK\x03\x04 not an archive")
    with pytest.raises(DataError, match=r"cifar10.zip: not a valid zip file"):
        cifar.read(tmp_path, "cifar10")


def test_a_parquet_file_without_images_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "cifar10").mkdir()
    for split in SMALL_CIFAR10:
        pd.DataFrame({"text": ["a"]}).to_parquet(tmp_path / f"cifar10/{split}.parquet")
    with pytest.raises(DataError, match=r"train.parquet: cannot be read as CIFAR of the hub"):
        cifar.read(tmp_path, "cifar10")


def test_cifar100_has_its_fine_labels(small_cifar100: Path) -> None:
    raw = cifar.read(small_cifar100, "cifar100")
    assert raw.train_images.shape == (200, 3, 32, 32)
    assert sorted(raw.test_labels.tolist()) == list(range(100))


def test_a_missing_folder_is_downloaded(
    small_cifar10: Path, mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = torchvision.datasets.CIFAR10
    archive = tmp_path / source.filename
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(small_cifar10 / source.base_folder, arcname=source.base_folder)
    monkeypatch.setattr(source, "url", f"{mirror}{archive.name}")
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    assert cifar.read(tmp_path / "empty", "cifar10").train_images.shape == (40, 3, 32, 32)


def test_a_failed_download_says_where_the_folder_belongs(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{mirror}none.tar.gz")
    with pytest.raises(DataError, match=r"CIFAR10 is not in .*put the folder cifar-10-batches-py"):
        cifar.read(tmp_path / "empty", "cifar10")


def test_a_download_with_another_checksum_is_refused(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fake.tar.gz").write_bytes(b"not the archive")
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", f"{mirror}fake.tar.gz")
    with pytest.raises(DataError, match="its download failed"):
        cifar.read(tmp_path / "empty", "cifar10")


def test_a_missing_file_is_named(small_cifar10: Path) -> None:
    (small_cifar10 / "cifar-10-batches-py" / "data_batch_2").unlink()
    with pytest.raises(DataError, match=r"cifar-10-batches-py: data_batch_2 is missing; delete"):
        cifar.read(small_cifar10, "cifar10")


class Bomb:
    """A pickle of it breaks when it is opened."""

    def __reduce__(self) -> tuple[object, tuple[int, int]]:
        return divmod, (1, 0)


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "batches.meta"])
def test_a_changed_pickle_is_named_and_never_opened(small_cifar10: Path, name: str) -> None:
    path = small_cifar10 / "cifar-10-batches-py" / name
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=rf"{name}: MD5 is [0-9a-f]{{32}}, expected [0-9a-f]{{32}}"):
        cifar.read(small_cifar10, "cifar10")
