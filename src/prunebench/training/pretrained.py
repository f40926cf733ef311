"""Base networks with imported weights: torchvision's by name, or a file.

A file is opened only after its checksum is confirmed, and nothing in it is executed: it is
safetensors, or a pickle of tensors only (PyTorch's `weights_only`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from prunebench.core.errors import ConfigError, ModelError, TrainingError
from prunebench.experiments.recipe import Recipe
from prunebench.models.base import not_finite
from prunebench.network import file_hash

FILES = (".pt", ".pth", ".safetensors")
# Keys of the weights in checkpoints of PyTorch's examples, OpenMMLab and timm.
CONTAINERS = ("state_dict", "model", "model_state_dict", "net")


def load_pretrained(model: nn.Module, recipe: Recipe, data_dir: Path) -> dict[str, str]:
    """Load the weights that a recipe names into `model`; return their source, for training.json.

    ConfigError for an entry or a file that does not exist, ModelError for weights that do not fit.
    """
    name = recipe.weights
    assert name is not None
    if name.endswith(FILES):
        path, record = data_dir / name, {"weights": name}
    else:
        path, record = torchvision_file(name)
    if not path.is_file():
        raise ConfigError(f"weights {name!r}: no such file: {path}")
    record["sha256"] = file_hash(path)
    if recipe.weights_sha256 not in (None, record["sha256"]):
        raise ModelError(f"{path}: SHA-256 is {record['sha256']}, expected {recipe.weights_sha256}")
    load_into(model, read_tensors(path), path)
    return record


def torchvision_file(name: str) -> tuple[Path, dict[str, str]]:
    """Return the file of an entry such as ResNet50_Weights.IMAGENET1K_V1, and its source.

    It is downloaded if PyTorch's folder does not have it. Its name ends in the first digits of its
    SHA-256, which are always compared.
    """
    from torchvision.models import get_weight

    try:
        entry = get_weight(name)
    except (ValueError, AttributeError, KeyError):
        raise ConfigError(
            f"weights {name!r}: neither an entry of torchvision, such as "
            f"ResNet50_Weights.IMAGENET1K_V1, nor a file {', '.join(FILES)}"
        ) from None
    path = fetch(entry.url)
    return path, {"weights": str(entry), "url": entry.url}


def fetch(url: str) -> Path:
    """Return the file of an address in PyTorch's folder, downloaded if missing, and checked."""
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    matched = re.search(r"-([0-9a-f]{8,})\.[^.]+$", path.name)
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except OSError as error:
            raise ConfigError(
                f"{url}: the download failed ({error}); put the file into {path.parent}"
            ) from None
    if matched and not file_hash(path).startswith(matched[1]):
        raise ModelError(
            f"{path}: SHA-256 is {file_hash(path)}, expected {matched[1]}...; delete the file "
            "to have it downloaded again"
        )
    return path


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; ModelError if it holds anything else."""
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{path}: cannot be loaded as tensors only ({reason})") from None
    for container in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ModelError(f"{path}: holds no tensors by name, at its top level or in {CONTAINERS}")
    # DataParallel puts "module." before each name
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load all of a network's parameters and buffers; ModelError names the first mismatch.

    `num_batches_tracked` may be missing, as in files older than PyTorch 0.4.1. A network whose
    layers have other names elsewhere translates those names by its method `own_name`.
    """
    own_name: Callable[[str], str] = getattr(model, "own_name", str)
    tensors = {own_name(name): tensor for name, tensor in tensors.items()}
    own = model.state_dict()
    for name, tensor in own.items():
        if name not in tensors and not name.endswith("num_batches_tracked"):
            raise ModelError(f"{path}: {name!r} of the network is missing")
        if name in tensors and tensors[name].shape != tensor.shape:
            found, wanted = tuple(tensors[name].shape), tuple(tensor.shape)
            raise ModelError(f"{path}: {name!r} has shape {found}, the network's has {wanted}")
    for name in tensors:
        if name not in own:
            raise ModelError(f"{path}: {name!r} does not belong to the network")
    if (bad := not_finite(tensors)) is not None:
        raise ModelError(f"{path}: {bad!r} holds a value that is not finite")
    model.load_state_dict(tensors, strict=False)


def check_accuracy(top1: float, recipe: Recipe, what: str) -> None:
    """Raise TrainingError if an accuracy in percent is not the one that the recipe expects."""
    if (expected := recipe.expected_top1) is None:
        return
    if abs(top1 - expected) > recipe.expected_within:
        raise TrainingError(
            f"{what} has {top1:.2f} % on the test split, and its recipe expects {expected:g} "
            f"± {recipe.expected_within:g} %; change expected_top1, or continue "
            "with check_base: false"
        )
