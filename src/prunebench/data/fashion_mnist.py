"""Fashion-MNIST: 70 000 grayscale images of clothes, 28x28 pixels.

Xiao, Rasul, Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning
Algorithms, arXiv 1708.07747. The four files are searched in `fashion_mnist` and `FashionMNIST/raw`
(torchvision's folder) below the data folder and in the folder of Debian's package
dataset-fashion-mnist; otherwise torchvision downloads them. Debian recompresses the files, so the
checksums are those of the decompressed content.
"""

from __future__ import annotations

import gzip
import hashlib
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunebench.core.errors import DataError
from prunebench.data import normalization
from prunebench.data.info import DatasetInfo, RawSplits

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
# SHA-256 of the decompressed files. The training images have the published mean of 0.28604.
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def read(data_dir: Path) -> RawSplits:
    """Read the four files; raise DataError that names a missing or damaged one."""
    folder = find_folder(data_dir) or download(data_dir)
    arrays = {name: read_idx(folder / f"{name}.gz", sha256) for name, sha256 in SHA256.items()}
    return RawSplits(
        train_images=arrays["train-images-idx3-ubyte"][:, None],
        train_labels=arrays["train-labels-idx1-ubyte"].astype(np.int64),
        test_images=arrays["t10k-images-idx3-ubyte"][:, None],
        test_labels=arrays["t10k-labels-idx1-ubyte"].astype(np.int64),
    )


def folders(data_dir: Path) -> tuple[Path, Path, Path]:
    """Return the folders that may hold the files, in order of search."""
    return data_dir / "fashion_mnist", data_dir / "FashionMNIST" / "raw", DEBIAN_FOLDER


def find_folder(data_dir: Path) -> Path | None:
    """Return the first folder that holds any of the files.

    torchvision's folder must hold all of them, so that an interrupted download continues.
    """
    own, downloaded, debian = folders(data_dir)
    for folder, enough in ((own, any), (downloaded, all), (debian, any)):
        if enough((folder / f"{name}.gz").exists() for name in SHA256):
            return folder
    return None


def download(data_dir: Path) -> Path:
    """Download the files through torchvision, which checks them; return their folder."""
    from torchvision.datasets import FashionMNIST  # seconds, and torch

    own, downloaded, debian = folders(data_dir)
    try:
        FashionMNIST(data_dir, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"Fashion-MNIST is not in {own}, {downloaded} or {debian}, and its download failed "
            f"({' '.join(str(error).split())}); put its four .gz files into {own} or install "
            "Debian's package dataset-fashion-mnist"
        ) from None
    return downloaded


def read_idx(path: Path, sha256: str) -> NDArray[np.uint8]:
    """Read a gzip file of bytes in MNIST's idx format.

    The header is two zeros, the type (8: bytes), the number of dimensions, and the size of each
    dimension as a big-endian 32-bit integer.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError:
        raise DataError(
            f"{path.parent}: {path.name} is missing; put all four files of Fashion-MNIST there, "
            "or none to have them downloaded"
        ) from None
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be decompressed ({error}); download the file again"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise DataError(
            f"{path}: the decompressed file has SHA-256 {found}, expected {sha256}; "
            "download the file again"
        )
    n_dims = content[3]
    shape = np.frombuffer(content, dtype=">i4", count=n_dims, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * n_dims).reshape(shape)


CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
FASHION_MNIST = DatasetInfo(
    name="fashion_mnist",
    title="Fashion-MNIST",
    num_classes=len(CLASSES),
    shape=(1, 28, 28),
    mean=normalization.FASHION_MNIST.mean,
    std=normalization.FASHION_MNIST.std,
    validation=0.1,
    source="Zalando's four idx files",
    split="the official 10 000 test images",
    read=read,
    counts=(60_000, 10_000),
    classes=CLASSES,
)
