from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from prunebench.core.errors import ConfigError, ModelError, TrainingError
from prunebench.experiments.metric import METRICS
from prunebench.models.registry import build
from prunebench.models.vgg import VGGImageNet
from prunebench.training.pretrained import (
    cast_lines,
    check_accuracy,
    fetch,
    load_pretrained,
    read_tensors,
    tensors_hash,
)
from tests.training.conftest import recipe


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


def other() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))


SAVES: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "plain.pt": torch.save,
    "weights.safetensors": safetensors.torch.save_file,
    "example.pth": lambda state, path: torch.save({"epoch": 3, "state_dict": state}, path),
    "parallel.pth": lambda state, path: torch.save(
        {"model": {f"module.{name}": tensor for name, tensor in state.items()}}, path
    ),
}


@pytest.mark.parametrize("name", SAVES)
def test_a_file_of_weights_is_loaded(name: str, tmp_path: Path) -> None:
    expected, model = network().state_dict(), other()
    SAVES[name](expected, tmp_path / name)
    record = load_pretrained(model, recipe(weights=name), tmp_path)
    assert all(torch.equal(model.state_dict()[key], expected[key]) for key in expected)
    assert record == {
        "weights": name,
        "sha256": hashlib.sha256((tmp_path / name).read_bytes()).hexdigest(),
        "tensors_sha256": tensors_hash(expected),  # the same in every form of file
        "names": {},
    }


def test_a_network_with_other_names_elsewhere_takes_that_file_too(tmp_path: Path) -> None:
    theirs = torchvision.models.resnet18(num_classes=3)
    torch.save(theirs.state_dict(), tmp_path / "resnet18.pth")
    model = build("resnet18", num_classes=3)
    load_pretrained(model, recipe(weights="resnet18.pth"), tmp_path)
    projection = model.get_parameter("stages.1.0.shortcut.0.weight")
    assert torch.equal(projection, theirs.get_parameter("layer2.0.downsample.0.weight"))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("mobilenet_v2", torchvision.models.mobilenet_v2),
        ("regnetx_0_8gf", torchvision.models.regnet_x_800mf),
    ],
)
def test_torchvisions_tensors_make_the_same_network(
    name: str, theirs: Callable[..., nn.Module], tmp_path: Path
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        source, images = theirs(num_classes=3), torch.randn(2, 3, 64, 64)
        for module in source.modules():  # batch norms that differ from layer to layer
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias)
    torch.save(source.state_dict(), tmp_path / "theirs.pth")
    model = build(name, num_classes=3)
    load_pretrained(model, recipe(weights="theirs.pth"), tmp_path)
    with torch.inference_mode():
        expected, found = source.eval()(images), model.eval()(images)
    assert expected.std() > 0
    assert torch.allclose(found, expected, atol=1e-5)


def test_vgg16_takes_torchvision_s_file(tmp_path: Path) -> None:
    with torch.device("meta"):
        theirs = {n: t.shape for n, t in torchvision.models.vgg16(num_classes=3).named_parameters()}
        model = build("vgg16_imagenet", num_classes=3)
    own = {name: parameter.shape for name, parameter in model.named_parameters()}
    assert {VGGImageNet.own_name(name): shape for name, shape in theirs.items()} == own
    # conv3_2 and conv5_3, as its authors count
    assert VGGImageNet.own_name("features.12.weight") == "stages.2.1.conv.weight"
    assert VGGImageNet.own_name("features.28.bias") == "stages.4.2.conv.bias"


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return print, ("executed",)

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(ModelError, match=r"evil.pt: cannot be loaded as tensors only"):
        load_pretrained(other(), recipe(weights="evil.pt"), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("1.bias"),
            r"unmatched in the file: nothing; unmatched in the network: 1.bias 2$",
        ),
        (
            lambda s: s.update(head=torch.zeros(1)),
            r"unmatched in the file: head 1; unmatched in the network: nothing$",
        ),
        (
            lambda s: s.update({"1.bias": torch.tensor([0.0, torch.nan])}),
            "'1.bias' holds a value that is not finite",
        ),
        (
            lambda s: s.update({"1.bias": torch.tensor([0.0, 1e300], dtype=torch.float64)}),
            "'1.bias' holds a value that is not finite",  # as float32
        ),
        (
            lambda s: s.update({"1.bias": torch.tensor([0, 1], dtype=torch.int8)}),
            "'1.bias' is of type int8, and the network's float32",
        ),
        (
            lambda s: s.update({"1.bias": torch.zeros(2).to_sparse()}),
            "w.pt: '1.bias' is sparse or quantized",
        ),
        (
            lambda s: s.update({"0.weight": torch.zeros(3, 3, 1, 1)}),
            r"in the file: 0.weight 3×3×1×1; unmatched in the network: 0.weight 2×3×1×1$",
        ),
    ],
)
def test_weights_of_another_network_are_named(
    change: Callable[[dict[str, Any]], Any], message: str, tmp_path: Path
) -> None:
    state = dict(network().state_dict())
    change(state)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=message):
        load_pretrained(other(), recipe(weights="w.pt"), tmp_path)


def test_casts_are_counted_by_type(tmp_path: Path) -> None:
    state = {name: tensor.double() for name, tensor in network().state_dict().items()}
    torch.save(state | {"1.bias": state["1.bias"].bfloat16()}, tmp_path / "w.pt")
    model = other()
    record = load_pretrained(model, recipe(weights="w.pt"), tmp_path)
    assert record["casts"] == {"float64 to float32": "5", "bfloat16 to float32": "1"}
    assert list(cast_lines(record)) == [
        "5 tensors of w.pt are cast from float64 to float32",
        "1 tensors of w.pt are cast from bfloat16 to float32",
    ]
    assert model.state_dict()["0.weight"].dtype == torch.float32


def test_counts_of_batches_may_be_missing(tmp_path: Path) -> None:
    state = dict(network().state_dict())
    del state["1.num_batches_tracked"]
    torch.save(state, tmp_path / "old.pt")
    load_pretrained(other(), recipe(weights="old.pt"), tmp_path)


def test_other_weights_than_the_expected_ones_are_refused(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "w.pt")
    model = other()
    before = model.state_dict()["0.weight"].clone()
    with pytest.raises(ModelError, match=r"SHA-256 is .*, over the tensors .*, expected 0000"):
        load_pretrained(model, recipe(weights="w.pt", weights_sha256="0" * 64), tmp_path)
    assert torch.equal(model.state_dict()["0.weight"], before)


def test_a_pickle_and_a_safetensors_copy_have_one_hash(tmp_path: Path) -> None:
    state = network().state_dict()
    torch.save({"state_dict": {f"module.{n}": t for n, t in state.items()}}, tmp_path / "w.th")
    plain = {n: t for n, t in state.items() if not n.endswith("num_batches_tracked")}
    safetensors.torch.save_file(plain, tmp_path / "w.safetensors")
    one = tensors_hash(state)
    for name in ("w.th", "w.safetensors"):
        load_pretrained(other(), recipe(weights=name, weights_sha256=one), tmp_path)


def test_an_address_is_read_from_the_data_folder_if_it_is_there(tmp_path: Path) -> None:
    plain = {n: t.clone() for n, t in network().state_dict().items()}
    safetensors.torch.save_file(plain, tmp_path / "net-12fca82f.safetensors")
    url = "https://127.0.0.1:1/net-12fca82f.th"  # nobody answers there
    record = load_pretrained(other(), recipe(weights=url), tmp_path)
    assert record["weights"] == url


def test_names_of_another_project_are_matched_and_recorded(tmp_path: Path) -> None:
    model = build("resnet20_projection_x0_25", num_classes=3)
    theirs = {
        re.sub(r"^stages\.(\d)", lambda m: f"layer{int(m[1]) + 1}", name)
        .replace("shortcut", "downsample")
        .replace("fc.", "linear."): tensor.clone()
        for name, tensor in model.state_dict().items()
    }
    safetensors.torch.save_file(theirs, tmp_path / "theirs.safetensors")
    fresh = build("resnet20_projection_x0_25", num_classes=3)
    record = load_pretrained(fresh, recipe(weights="theirs.safetensors"), tmp_path)
    assert record["names"]["layer2.0.downsample.0.weight"] == "stages.1.0.shortcut.0.weight"
    assert record["names"]["linear.bias"] == "fc.bias"
    assert all(torch.equal(t, fresh.state_dict()[n]) for n, t in model.state_dict().items())


@pytest.mark.parametrize("name", ["ResNet50_Weights.IMAGENET1K_V9", "resnet50", "Nothing.V1"])
def test_an_entry_that_torchvision_has_not_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"weights '{name}': neither an entry of torchvision"):
        load_pretrained(other(), recipe(weights=name), tmp_path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights 'w.pt': no such file: .*w.pt"):
        load_pretrained(other(), recipe(weights="w.pt"), tmp_path)


def test_a_file_without_tensors_by_name_is_refused(tmp_path: Path) -> None:
    torch.save([torch.zeros(1)], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="holds no tensors by name"):
        read_tensors(tmp_path / "list.pt")


@pytest.fixture
def address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a file named by its checksum; PyTorch's own folder is new."""
    source = tmp_path / "source.pth"
    torch.save(network().state_dict(), source)
    digits = hashlib.sha256(source.read_bytes()).hexdigest()[:8]
    named = source.rename(tmp_path / f"net-{digits}.pth")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return named.as_uri()


def test_an_entry_is_fetched_once_and_checked(address: str, tmp_path: Path) -> None:
    path = fetch(address)
    assert path.parent == tmp_path / "hub" / "checkpoints"
    assert read_tensors(path).keys() == network().state_dict().keys()
    (tmp_path / path.name).unlink()
    assert fetch(address) == path  # not asked for again
    path.write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"SHA-256 is .*\.\.\.; delete the file to have it"):
        fetch(address)


def test_a_failed_download_says_where_the_file_belongs(address: str, tmp_path: Path) -> None:
    (tmp_path / address.rpartition("/")[2]).unlink()
    with pytest.raises(ConfigError, match=r"the download failed .*; put the file into .*hub"):
        fetch(address)


def test_the_entry_and_its_address_are_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import ResNet18_Weights, resnet18

    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    entry = ResNet18_Weights.IMAGENET1K_V1
    state = resnet18().state_dict()
    torch.save(state, folder / entry.url.rpartition("/")[2])
    stand_in = "prunebench.training.pretrained.file_hash"
    monkeypatch.setattr(stand_in, lambda path: "f37072fd" + "0" * 56)  # as the file's name says
    record = load_pretrained(resnet18(), recipe(weights=str(entry)), tmp_path)
    assert record["weights"] == "ResNet18_Weights.IMAGENET1K_V1"
    assert record["url"] == "https://download.pytorch.org/models/resnet18-f37072fd.pth"


def test_a_base_far_from_what_is_expected_is_refused() -> None:
    expecting = recipe(expected_top1=93.0, expected_within=0.5)
    top1 = METRICS["classification"]
    check_accuracy(93.5, top1, expecting, "base")
    check_accuracy(10.0, top1, recipe(), "base")
    with pytest.raises(TrainingError, match=r"base has 92.40 % .* expects 93 ± 0.5 %"):
        check_accuracy(92.4, top1, expecting, "base")


def test_a_detector_is_compared_by_its_own_metric() -> None:
    ap = METRICS["detection"]
    check_accuracy(10.0, ap, recipe(expected_top1=93.0), "base")
    with pytest.raises(TrainingError, match="change expected_map"):
        check_accuracy(10.0, ap, recipe(expected_map=36.5), "base")


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_torchvisions_weights_compute_the_same_in_our_networks(name: str, tmp_path: Path) -> None:
    import torchvision

    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torchvision.models.get_model(name, weights=None)
        for buffer in theirs.buffers():  # two layers exchanged would be noticed
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
        ours = build(name, num_classes=1000)
        images = torch.rand(1, 3, 64, 64)
    torch.save(theirs.state_dict(), tmp_path / "w.pt")
    load_pretrained(ours, recipe(weights="w.pt"), tmp_path)
    with torch.inference_mode():
        torch.testing.assert_close(ours.eval()(images), theirs.eval()(images))
