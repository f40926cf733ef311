"""Base networks with imported weights: torchvision's by name, or a file.

Nothing in a file is executed: it is safetensors, or a pickle of tensors only (PyTorch's
`weights_only`). Its checksum is that of the file, or the hash over its tensors, which is the same
for a pickle and for a safetensors copy of it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from prunebench.core.errors import ConfigError, ModelError, TrainingError
from prunebench.core.files import file_hash
from prunebench.data.dataset import content_hash
from prunebench.data.info import DatasetInfo
from prunebench.experiments.metric import Metric
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.spec import BaseSpec
from prunebench.models.base import not_finite
from prunebench.models.registry import build
from prunebench.models.resnet import ResNet
from prunebench.training.weight_names import UNUSED, match_names

PICKLES = (".pt", ".pth", ".th", ".tar")
FILES = (*PICKLES, ".safetensors")
CLASSIFIER = ("fc.", "linear.")  # beginnings of a classifier's last layer
Pretrained = dict[str, str | dict[str, str]]
# Keys of the weights in checkpoints of PyTorch's examples, OpenMMLab and timm.
CONTAINERS = ("state_dict", "model", "model_state_dict", "net")


def load_pretrained(model: nn.Module, recipe: Recipe, data_dir: Path) -> Pretrained:
    """Load the weights that a recipe names into `model`; return their source, for training.json.

    The source has the hashes of file and tensors, under "names" our name of each tensor that has
    another name in the file, and under "casts" the number of tensors by type, such as "float16 to
    float32", if the file has another type. ConfigError for an entry or a file that does not exist,
    ModelError for weights that do not fit.
    """
    assert recipe.weights is not None
    tensors, path, record = named_tensors(recipe.weights, recipe, data_dir)
    names = load_into(model, tensors, path)
    record["names"] = {theirs: own for theirs, own in names.items() if theirs != own}
    return record | casts(model, tensors, names)


def load_backbone(model: nn.Module, recipe: Recipe, data_dir: Path) -> Pretrained:
    """Load the classifier that a recipe names into a detector's backbone; return its source.

    ModelError if the network has no backbone, or the classifier does not fit it.
    """
    assert recipe.backbone is not None
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, ResNet):
        raise ModelError(f"backbone {recipe.backbone!r}: the network has no ResNet as its backbone")
    tensors, path, record = named_tensors(recipe.backbone, recipe, data_dir)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(CLASSIFIER)}
    return record | casts(backbone, kept, load_into(backbone, kept, path))


def casts(
    model: nn.Module, tensors: Mapping[str, Tensor], names: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Return the entry "casts" of a source; nothing if all tensors have the network's types.

    `names` has our name of each tensor of the file.
    """
    state = model.state_dict()
    types = [(tensors[theirs].dtype, state[own].dtype) for theirs, own in names.items()]
    counts = Counter(f"{_plain(a)} to {_plain(b)}" for a, b in types if a != b)
    return {"casts": {what: str(n) for what, n in counts.items()}} if counts else {}


def cast_lines(record: Pretrained) -> Iterator[str]:
    """Yield a line for each cast of imported weights."""
    found = record.get("casts", {})
    assert isinstance(found, dict)
    for what, n in found.items():
        yield f"{n} tensors of {record['weights']} are cast from {what}"


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def named_tensors(
    name: str, recipe: Recipe, data_dir: Path
) -> tuple[dict[str, Tensor], Path, Pretrained]:
    """Return the tensors of weights by their name in a recipe, their file and their source."""
    record: Pretrained
    if name.startswith(("https://", "http://")):
        path, record = address_file(name, data_dir), {"weights": name}
    elif name.endswith(FILES):
        path, record = data_dir / name, {"weights": name}
    else:
        path, record = torchvision_file(name)
    if not path.is_file():
        raise ConfigError(f"weights {name!r}: no such file: {path}")
    tensors = read_tensors(path)
    record |= {"sha256": file_hash(path), "tensors_sha256": tensors_hash(tensors)}
    if recipe.weights_sha256 not in (None, record["sha256"], record["tensors_sha256"]):
        raise ModelError(
            f"{path}: SHA-256 is {record['sha256']}, over the tensors {record['tensors_sha256']}, "
            f"expected {recipe.weights_sha256}"
        )
    return tensors, path, record


def matched_weights(spec: BaseSpec, info: DatasetInfo, data_dir: Path) -> Iterator[str]:
    """Yield the tensors that a base network would import, with our names; nothing is stored."""
    if spec.recipe.weights is None:
        yield f"{spec.path}: trained for {spec.recipe.epochs} epochs; no weights are imported"
        return
    with torch.random.fork_rng(devices=[]):
        model = build(spec.architecture, num_classes=info.num_classes, in_channels=info.shape[0])
    record = load_pretrained(model, spec.recipe, data_dir)
    renamed = record["names"]
    assert isinstance(renamed, dict)
    yield f"{spec.path}: imports {record['weights']}"
    yield f"SHA-256 {record['sha256']}, over the tensors {record['tensors_sha256']}"
    yield from (f"{theirs} -> {own}" for theirs, own in renamed.items())
    yield from cast_lines(record)
    yield f"{len(model.state_dict())} tensors, {len(renamed)} of them renamed"


def tensors_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over names, types, shapes and values, without `num_batches_tracked`."""
    plain = {name: t.contiguous() for name, t in tensors.items() if not name.endswith(UNUSED)}
    return content_hash(plain)


def address_file(url: str, data_dir: Path) -> Path:
    """Return the file of an address: from `data_dir` if it is there, else downloaded.

    In `data_dir` it may also be a safetensors copy with the same stem.
    """
    name = Path(url.rpartition("/")[2])
    local = [data_dir / name, data_dir / name.with_suffix(".safetensors")]
    return next((path for path in local if path.is_file()), None) or fetch(url)


def torchvision_file(name: str) -> tuple[Path, Pretrained]:
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
            f"ResNet50_Weights.IMAGENET1K_V1, nor an address or a file {', '.join(FILES)}"
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
    for name, tensor in content.items():
        if tensor.layout is not torch.strided or tensor.is_quantized:
            raise ModelError(f"{path}: {str(name)!r} is sparse or quantized")
    # DataParallel puts "module." before each name
    return {str(name).removeprefix("module."): tensor for name, tensor in content.items()}


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> dict[str, str]:
    """Load all of a network's parameters and buffers; return our name of each tensor of the file.

    A network whose layers have other names in torchvision translates them by its method
    `own_name`; other projects' names are matched by `weight_names.match_names`. ModelError if a
    tensor is missing, left over, ambiguous, of another shape, or not of floating-point numbers
    where the network's are. Others are cast to the network's type.
    """
    own_name: Callable[[str], str] = getattr(model, "own_name", str)
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    translated = {name: own_name(name) for name in tensors}
    theirs = {translated[name]: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        matched = match_names(theirs, own, is_ordered=path.suffix in PICKLES)
    except ValueError as error:
        raise ModelError(f"{path}: does not fit the network; {error}") from None
    names = {name: matched[form] for name, form in translated.items() if form in matched}
    state = model.state_dict()
    for name, ours in names.items():
        if tensors[name].is_floating_point() != state[ours].is_floating_point():
            found, expected = _plain(tensors[name].dtype), _plain(state[ours].dtype)
            raise ModelError(f"{path}: {name!r} is of type {found}, and the network's {expected}")
    cast = {name: tensors[name].to(state[ours].dtype) for name, ours in names.items()}
    if (bad := not_finite(cast)) is not None:
        raise ModelError(f"{path}: {bad!r} holds a value that is not finite")
    model.load_state_dict({names[name]: tensor for name, tensor in cast.items()}, strict=False)
    return names


def check_accuracy(accuracy: float, metric: Metric, recipe: Recipe, what: str) -> None:
    """Raise TrainingError if an accuracy in percent is not the one that the recipe expects."""
    key = f"expected_{metric.name}"
    expected: float | None = getattr(recipe, key)
    if expected is None:
        return
    if abs(accuracy - expected) > recipe.expected_within:
        raise TrainingError(
            f"{what} has {accuracy:.2f} % on the test split, and its recipe expects {expected:g} "
            f"± {recipe.expected_within:g} %; change {key}, or continue with check_base: false"
        )
