from __future__ import annotations

import json
import random
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from prunebench.core.errors import DataError
from prunebench.data import bccd
from prunebench.data.boxes import BoxedImages
from prunebench.data.coco import parse, with_paths
from prunebench.data.dataset import Dataset, load, prepare, summary
from prunebench.data.voc import convert
from tests.data.coco_files import pixels
from tests.data.test_voc import Box, write_voc

SMALL: dict[str, dict[str, tuple[int, int, list[Box]]]] = {
    "train": {
        "c1": (640, 480, [("WBC", 100, 50, 200, 150), ("RBC", 0, 0, 640, 480)]),
        "c0": (0, 0, [("RBC", 10, 20, 30, 60), ("RBC", 5, 5, 5, 5)]),
    },
    "val": {"c2": (640, 480, [("Platelets", 1, 2, 3, 4)])},
    "test": {"c3": (640, 480, [("RBC", 10, 20, 30, 60)])},
}


@pytest.fixture
def original(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with `BCCD` as in the repository: the four images of `SMALL`."""
    root = tmp_path / "data" / "BCCD"
    facts = {}
    for split, images in SMALL.items():
        write_voc(root, split, images)
        for name in images:
            image = Image.fromarray(pixels(640, 480, int(name[1])))
            image.save(root / "JPEGImages" / f"{name}.jpg")
        content = convert(root, split, bccd.CLASSES, bccd.SIZE)
        found = with_paths(parse(content, split), [root / "JPEGImages"], split)
        digests = bccd.image_digests(found, content)
        facts[split] = (len(digests), bccd.fingerprint(digests))
    monkeypatch.setattr(bccd, "ORIGINALS", facts)
    return tmp_path / "data"


def as_coco(original: Path, folder: Path, *, shuffled: bool = False) -> Path:
    """Write the same data set in COCO's format into `folder`/bccd; return `folder`."""
    root = folder / "bccd"
    (root / "annotations").mkdir(parents=True)
    shutil.copytree(original / "BCCD" / "JPEGImages", root / "images")
    for split in SMALL:
        content = convert(original / "BCCD", split, bccd.CLASSES, bccd.SIZE)
        if shuffled:
            for entries in (content["images"], content["annotations"]):
                random.Random(1).shuffle(entries)
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return folder


def zipped(folder: Path, name: str) -> Path:
    """Replace the only folder below `folder` by a zip file called `name`; return `folder`."""
    (content,) = folder.iterdir()
    with zipfile.ZipFile(folder / name, "w") as file:
        for path in sorted(content.rglob("*")):
            file.write(path, path.relative_to(folder))
    shutil.rmtree(content)
    return folder


def loaded(data_dir: Path) -> Dataset:
    out = data_dir.parent / "out.safetensors"
    prepare("bccd", data_dir, out)
    return load(out)


def boxed(split: Any) -> BoxedImages:
    assert isinstance(split, BoxedImages)
    return split


def test_images_are_halved_and_padded(original: Path) -> None:
    data = loaded(original)
    assert (len(data.train), len(data.val), len(data.test)) == (2, 1, 1)
    assert data.info.classes == ("RBC", "WBC", "Platelets")
    assert data.train.shape == (3, 256, 320)
    test = boxed(data.test)
    assert test.valid.tolist() == [[240, 320]]
    assert test.boxes.tolist() == [[[10, 20, 30, 60]]]
    assert test.targets(test.valid[:, 0] * 0).tolist() == [[[0, 5, 10, 15, 30]]]
    assert summary(original.parent / "out.safetensors")["boxes"] == (
        "0 clipped to their image, 1 skipped"
    )


def test_every_copy_gives_the_same_tensors(original: Path, tmp_path: Path) -> None:
    expected = loaded(original).sha256
    copies = [
        as_coco(original, tmp_path / "coco"),
        as_coco(original, tmp_path / "shuffled", shuffled=True),
        zipped(as_coco(original, tmp_path / "zip"), "bccd.zip"),
    ]
    (tmp_path / "repository" / "BCCD_Dataset-master").mkdir(parents=True)
    shutil.copytree(original / "BCCD", tmp_path / "repository" / "BCCD_Dataset-master" / "BCCD")
    copies.append(zipped(tmp_path / "repository", "BCCD_Dataset-master.zip"))
    assert [loaded(copy).sha256 for copy in copies] == [expected] * 4


def change_box(root: Path) -> None:
    path = root / "Annotations/c1.xml"
    path.write_text(path.read_text().replace("<xmin>100<", "<xmin>101<"))


def change_image(root: Path) -> None:
    Image.fromarray(pixels(640, 480, 9)).save(root / "JPEGImages/c1.jpg")


def drop_image(root: Path) -> None:
    (root / "ImageSets/Main/train.txt").write_text("c1\n")


@pytest.mark.parametrize(("change", "count"), [(change_box, 2), (change_image, 2), (drop_image, 1)])
def test_another_copy_is_refused_in_one_line(original: Path, change: Any, count: int) -> None:
    change(original / "BCCD")
    expected = rf"^{original}/BCCD: train: found {count} of 2 images with the fingerprint .{{8}}…, "
    with pytest.raises(DataError, match=expected) as raised:
        loaded(original)
    assert "\n" not in str(raised.value)


def test_a_folder_without_annotations_is_named(original: Path) -> None:
    shutil.rmtree(original / "BCCD" / "ImageSets")
    with pytest.raises(DataError, match=r"BCCD: holds neither annotations/instances_"):
        loaded(original)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    (tmp_path / "bccd.zip").write_bytes(b"x")
    with pytest.raises(DataError, match=r"bccd.zip: not a valid zip file"):
        prepare("bccd", tmp_path, tmp_path / "out.safetensors")


def test_an_archive_is_unpacked_into_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with zipfile.ZipFile(tmp_path / "bccd.zip", "w") as file:
        file.writestr("../escaped.txt", "x")
    with bccd.unpacked_folder(tmp_path / "bccd.zip") as folder:
        assert (folder / "escaped.txt").is_file()
        assert not (tmp_path / "escaped.txt").exists()


def test_an_archive_that_cannot_be_unpacked_is_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bccd.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.txt", "x" * 1000)
    content = bytearray((tmp_path / "bccd.zip").read_bytes())
    content[35] ^= 0xFF  # the first byte of the compressed text
    (tmp_path / "bccd.zip").write_bytes(content)
    with pytest.raises(DataError, match=r"bccd.zip: cannot be unpacked \(Error -3 while decompres"):
        prepare("bccd", tmp_path, tmp_path / "out.safetensors")


def test_a_missing_data_set_is_named_with_the_places_searched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"BCCD is in none of {tmp_path}/bccd, .*put a copy of"):
        prepare("bccd", tmp_path, tmp_path / "out.safetensors")
