from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.core.errors import DataError
from prunebench.data import imagenet
from prunebench.data.dataset import load, prepare
from tests.data.conftest import write_image


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """ImageNet with two classes, in its layout."""
    monkeypatch.setattr(imagenet, "CLASSES", 2)
    for name in ("n01440764", "n01443537"):
        for k in range(3):
            write_image(
                tmp_path / "imagenet" / "train" / name / f"{name}_{k}.JPEG",
                (90, 90, 90),
                (300, 260),
            )
        write_image(tmp_path / "imagenet" / "val" / name / "v.JPEG", (90, 90, 90), (260, 300))
    return tmp_path


def test_images_are_cut_to_224_pixels(data_dir: Path) -> None:
    prepare("imagenet", data_dir, data_dir / "out.safetensors", validation=0.0)
    data = load(data_dir / "out.safetensors")
    assert data.info.num_classes == 2
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.shape == (3, 224, 224)


def test_a_missing_class_is_noticed(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "CLASSES", 1000)
    with pytest.raises(DataError, match="train: holds 2 folders, expected 1000"):
        prepare("imagenet", data_dir, data_dir / "out.safetensors")


def test_a_missing_folder_is_named(data_dir: Path) -> None:
    (data_dir / "imagenet" / "val").rename(data_dir / "imagenet" / "validation")
    with pytest.raises(DataError, match=r"val/n01440764: no such folder; every class needs one"):
        prepare("imagenet", data_dir, data_dir / "out.safetensors")
