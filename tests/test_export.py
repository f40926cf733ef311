from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import safetensors
import timm
import torch
import torchvision
from torch import Tensor, nn

import prunebench as pb
from prunebench import export as exporting
from prunebench.core.errors import ConfigError, ModelError, ResultError
from prunebench.export import export
from prunebench.network import load_network
from tests.own_network.own_networks import Classifier, classifier, images, unet, unet_inputs

FAST = ["resnet18", "squeezenet1_1", "timm/resnet10t", "timm/test_convnext", "unet"]
SLOW = [
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "mnasnet0_5",
    "mobilenet_v2", "mobilenet_v3_small", "regnet_y_400mf", "resnext50_32x4d",
    "shufflenet_v2_x0_5", "vgg11_bn", "timm/dla46x_c", "timm/efficientnetv2_rw_t",
    "timm/fasternet_t0", "timm/ghostnet_050", "timm/hardcorenas_a", "timm/mobilenetv4_conv_small",
    "timm/repvgg_a0", "timm/resnest14d",
]  # fmt: skip


def network(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A network with fresh weights and an example; images are small."""
    torch.manual_seed(0)
    if name == "unet":
        return unet(), unet_inputs()
    if name.startswith("timm/"):
        return timm.create_model(name.removeprefix("timm/"), num_classes=10), _images(64)
    options = {"init_weights": True} if name == "googlenet" else {}
    return torchvision.models.get_model(name, num_classes=10, **options), _images(64)


def _images(side: int) -> tuple[Tensor]:
    return (torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1)),)


def through_onnx(name: str, path: Path) -> None:
    """Prune 40 % of a network's MACs, export it, and compare the outputs of onnxruntime."""
    model, example = network(name)
    result = pb.prune(model, example, ratio=0.4)
    assert result.achieved >= 0.4
    assert result.deviation < 1e-9
    assert result.export(path) < 1e-5
    session = onnxruntime.InferenceSession(path)
    for n in (1, 4):
        inputs = [torch.rand(n, *x.shape[1:]) for x in example]
        names = [one.name for one in session.get_inputs()]
        found = session.run(None, {k: x.numpy() for k, x in zip(names, inputs, strict=True)})
        with torch.no_grad():
            out = result.model(*inputs)
        for a, b in zip(out if isinstance(out, tuple) else (out,), found, strict=True):
            assert (a - torch.from_numpy(b)).abs().max() <= 1e-5 * a.abs().max()


@pytest.mark.parametrize("name", FAST)
def test_a_pruned_network_runs_in_onnxruntime(name: str, tmp_path: Path) -> None:
    through_onnx(name, tmp_path / "pruned.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_twenty_networks_run_in_onnxruntime(name: str, tmp_path: Path) -> None:
    through_onnx(name, tmp_path / "pruned.onnx")


@dataclass
class Scores:
    scores: Tensor
    features: list[Tensor]


class ReturningObjects(Classifier):
    def forward(self, x: Tensor) -> Scores:
        return Scores(super().forward(x), [self.stem(x)])


@pytest.mark.parametrize("suffix", [".onnx", ".pt2", ".safetensors"])
def test_the_tensors_of_a_data_class_are_exported(suffix: str, tmp_path: Path) -> None:
    result = pb.prune(ReturningObjects(), images(), ratio=0.4)
    path = tmp_path / f"pruned{suffix}"
    assert result.export(path) < 1e-5
    out = result.model(images())
    if suffix == ".onnx":
        found = onnxruntime.InferenceSession(path).run(None, {"x": images().numpy()})
        for a, b in zip([out.scores, *out.features], found, strict=True):
            assert torch.allclose(a, torch.from_numpy(b), atol=1e-5)
    assert isinstance(out, Scores)


MEAN, STD = (0.5, 0.25, 0.5), (0.25, 0.5, 0.5)


@pytest.fixture(scope="module")
def pruned() -> pb.Pruned:
    return pb.prune(
        classifier(), images(), ratio=0.5, normalization=(MEAN, STD), classes=["a", "b", "c", "d"]
    )


def check_structure(text: str) -> None:
    content = json.loads(text)
    assert content["normalization"] == {"mean": list(MEAN), "std": list(STD)}
    assert content["classes"] == ["a", "b", "c", "d"]
    assert len(content["groups"]["stem"]["kept"]) < content["groups"]["stem"]["units"]


def test_an_onnx_file_says_what_the_network_is(pruned: pb.Pruned, tmp_path: Path) -> None:
    pruned.export(tmp_path / "n.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx")
    check_structure(session.get_modelmeta().custom_metadata_map["structure.json"])
    (given,) = session.get_inputs()
    assert (given.name, given.shape) == ("x", ["batch", 3, 8, 8])


def test_a_torch_program_says_it_and_takes_any_batch(pruned: pb.Pruned, tmp_path: Path) -> None:
    pruned.export(str(tmp_path / "n.pt2"))
    more = {"structure.json": ""}
    program = torch.export.load(tmp_path / "n.pt2", extra_files=more).module()
    check_structure(more["structure.json"])
    for n in (1, 5):
        torch.testing.assert_close(program(images(n)), pruned.model(images(n)))


def test_a_file_of_weights_says_it(pruned: pb.Pruned, tmp_path: Path) -> None:
    pruned.export(tmp_path / "n.safetensors")
    with safetensors.safe_open(tmp_path / "n.safetensors", framework="pt") as file:
        check_structure(file.metadata()["structure.json"])
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert found.keys() == pruned.model.state_dict().keys()
    assert torch.equal(found["stem.weight"], pruned.model.stem.weight)


def test_exporting_leaves_the_network_as_it_is(pruned: pb.Pruned, tmp_path: Path) -> None:
    pruned.model.train()
    before = {name: t.clone() for name, t in pruned.model.state_dict().items()}
    for suffix in (".pt2", ".safetensors"):
        pruned.export(tmp_path / f"n{suffix}")
    assert pruned.model.training
    assert all(torch.equal(t, before[name]) for name, t in pruned.model.state_dict().items())
    pruned.model.eval()


def test_a_file_that_computes_something_else_is_not_written(
    pruned: pb.Pruned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubled(model: nn.Module, *rest: Any) -> Any:
        content, run = exporting.weights(model, *rest)
        return content, lambda probe: [2 * out for out in run(probe)]

    monkeypatch.setitem(exporting.EXPORTS, ".safetensors", doubled)
    with pytest.raises(ModelError, match=r"exported network differs by 1\.0e\+00"):
        pruned.export(tmp_path / "n.safetensors")
    assert not (tmp_path / "n.safetensors").exists()


class OfOneBatch(nn.Module):
    """Works on two images alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x)).mean((2, 3)).reshape(2, 2)


def test_a_network_of_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    result = pb.prune(OfOneBatch(), images(2), ratio=0.3)
    with pytest.raises(ModelError, match=r"OfOneBatch cannot be exported for any batch size: ."):
        result.export(tmp_path / "n.pt2")


class InBfloat16(Classifier):
    """Computes in bfloat16, as a network does that Accelerate has prepared for mixed precision."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x).float()


def test_a_network_that_onnxruntime_does_not_run_is_one_line(tmp_path: Path) -> None:
    result = pb.prune(InBfloat16(), images(2), ratio=0.3)
    with pytest.raises(ModelError, match=r"InBfloat16: onnxruntime cannot run .*bfloat16") as one:
        result.export(tmp_path / "n.onnx")
    assert "\n" not in str(one.value)
    assert not (tmp_path / "n.onnx").exists()


def test_a_suffix_without_a_format_is_refused(pruned: pb.Pruned, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"must end in \.onnx, \.pt2, \.safetensors"):
        pruned.export(tmp_path / "n.pth")


def test_a_missing_package_is_named(
    pruned: pb.Pruned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"onnxruntime is missing: pip install .prunebench\[onnx"):
        pruned.export(tmp_path / "n.onnx")


@pytest.fixture
def described_folder(pruned_folder: Path) -> Path:
    """A pruned ResNet-20 of a run, whose structure.json says normalization and classes."""
    path = pruned_folder / "structure.json"
    more = {"normalization": {"mean": [0.25], "std": [0.5]}, "classes": list("abcdefghij")}
    path.write_text(json.dumps(json.loads(path.read_text()) | more))
    return pruned_folder


@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_a_stored_run_is_exported_by_the_same_code(
    tmp_path: Path, described_folder: Path, suffix: str
) -> None:
    assert export(described_folder, tmp_path / f"n{suffix}") < 1e-5
    more = {"structure.json": ""}
    inputs = torch.randn(3, 1, 8, 8)
    if suffix == ".pt2":
        program = torch.export.load(tmp_path / "n.pt2", extra_files=more).module()
        found = program(inputs)
    else:
        session = onnxruntime.InferenceSession(tmp_path / "n.onnx")
        more |= session.get_modelmeta().custom_metadata_map
        name = session.get_inputs()[0].name
        found = torch.from_numpy(session.run(None, {name: inputs.numpy()})[0])
    content = json.loads(more["structure.json"])
    assert content["normalization"] == {"mean": [0.25], "std": [0.5]}
    assert content["classes"] == list("abcdefghij")
    torch.testing.assert_close(found, load_network(described_folder)(inputs))


def test_an_export_that_cannot_be_written_is_one_sentence(
    tmp_path: Path, pruned_folder: Path
) -> None:
    path = tmp_path / "n.safetensors"
    path.mkdir()
    with pytest.raises(ResultError, match=r"n\.safetensors: cannot be written \(Is a directory\)"):
        export(pruned_folder, path)
