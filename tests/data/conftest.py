from __future__ import annotations

import gzip
import hashlib
import pickle
import struct
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision
from PIL import Image

from prunebench.data import cifar, fashion_mnist


def write_idx(path: Path, array: np.ndarray) -> str:
    """Write packed bytes in the idx format; return the SHA-256 of the unpacked file."""
    content = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
    content += array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content))
    return hashlib.sha256(content).hexdigest()


def write_pickle(path: Path, content: dict[str, Any]) -> str:
    """Write a pickle; return its MD5."""
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address, with a slash at the end, under which this machine serves `tmp_path`."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    handler = partial(QuietHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture
def small_fashion_mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with 40 training and 20 test images; image i is filled with i."""
    folder = tmp_path / "data" / "fashion_mnist"
    folder.mkdir(parents=True)
    table = {}
    for split, n in (("train", 40), ("t10k", 20)):
        images = np.broadcast_to(np.arange(n)[:, None, None], (n, 28, 28))
        for name, array in (
            (f"{split}-images-idx3-ubyte", images),
            (f"{split}-labels-idx1-ubyte", np.arange(n) % 10),
        ):
            table[name] = write_idx(folder / f"{name}.gz", array)
    monkeypatch.setattr(fashion_mnist, "SHA256", table)
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "debian")
    return tmp_path / "data"


SMALL_CIFAR10 = {"train": 40, "test": 20}


def small_cifar10_split(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (N, 32, 32, 3) and labels: red is the image's number, green 100, blue 200.

    Blue is 201 in the test images.
    """
    n = SMALL_CIFAR10[split]
    pixels = np.empty((n, 32, 32, 3), dtype=np.uint8)
    pixels[..., 0] = np.arange(n)[:, None, None]
    pixels[..., 1], pixels[..., 2] = 100, 200 if split == "train" else 201
    return pixels, np.arange(n) % 10


@pytest.fixture
def small_originals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `small_cifar10_split` the original CIFAR-10."""
    facts = {}
    for split in SMALL_CIFAR10:
        pixels, labels = small_cifar10_split(split)
        digests = cifar.image_digests(pixels, labels)
        facts[split] = (len(digests), cifar.fingerprint(digests))
    monkeypatch.setitem(cifar.ORIGINALS, "cifar10", facts)


@pytest.fixture
def small_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_originals: None) -> Path:
    """A data folder with two batches of 20 training images and 20 test images."""
    source = torchvision.datasets.CIFAR10
    folder = tmp_path / "data" / source.base_folder
    folder.mkdir(parents=True)

    def batch(name: str, split: str, rows: slice) -> list[str]:
        pixels, labels = small_cifar10_split(split)
        planes = pixels[rows].transpose(0, 3, 1, 2).reshape(-1, 3072)
        return [
            name,
            write_pickle(folder / name, {"data": planes, "labels": labels[rows].tolist()}),
        ]

    train = [
        batch("data_batch_1", "train", slice(0, 20)),
        batch("data_batch_2", "train", slice(20, 40)),
    ]
    meta = write_pickle(folder / "batches.meta", {"label_names": list("abcdefghij")})
    monkeypatch.setattr(source, "train_list", train)
    monkeypatch.setattr(source, "test_list", [batch("test_batch", "test", slice(0, 20))])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": meta})
    return tmp_path / "data"


@pytest.fixture
def small_cifar100(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with 200 training and 100 test images; coarse labels are all 0."""
    source = torchvision.datasets.CIFAR100
    folder = tmp_path / "data" / source.base_folder
    folder.mkdir(parents=True)
    table = []
    for name, n in (("train", 200), ("test", 100)):
        fine = [i % 100 for i in range(n)]
        content = {
            "data": np.zeros((n, 3072), dtype=np.uint8),
            "fine_labels": fine,
            "coarse_labels": [0] * n,
        }
        table.append([name, write_pickle(folder / name, content)])
    meta = write_pickle(folder / "meta", {"fine_label_names": [str(i) for i in range(100)]})
    digests = {
        name: cifar.image_digests(np.zeros((n, 32, 32, 3), np.uint8), np.arange(n) % 100)
        for name, n in (("train", 200), ("test", 100))
    }
    facts = {name: (len(own), cifar.fingerprint(own)) for name, own in digests.items()}
    monkeypatch.setitem(cifar.ORIGINALS, "cifar100", facts)
    monkeypatch.setattr(source, "train_list", table[:1])
    monkeypatch.setattr(source, "test_list", table[1:])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": meta})
    return tmp_path / "data"


def write_image(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (16, 12)) -> None:
    """Write an image of one color, width by height; its left half is darker by 40."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.broadcast_to(np.array(color, np.uint8), (size[1], size[0], 3)).copy()
    pixels[:, : size[0] // 2] -= 40
    Image.fromarray(pixels).save(path)


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """A data folder that holds `flowers`: 2 classes, 6 training and 2 test images of each."""
    root = tmp_path / "data" / "flowers"
    for label, name in enumerate(("rose", "tulip")):
        for k in range(6):
            color = (60 + 20 * k, 200 if label else 50, 100)
            write_image(root / "train" / name / f"{k}.png", color, (16 + k, 12 + k))
        for k in range(2):
            write_image(root / "val" / name / f"{k}.png", (200, 200 if label else 50, 40))
    (root / "dataset.yaml").write_text("{title: Flowers, size: 8, resize: 10}")
    return tmp_path / "data"
