from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prunebench import network
from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import ModelError, ResultError
from prunebench.core.files import file_hash
from prunebench.measure.macs import count_params
from prunebench.network import (
    Structure,
    build_pruned,
    load_masks,
    load_network,
    read_structure,
    save_network,
    structure_of,
)

GROUP = "stages.0.0.conv1"  # 16 units, inside of the first block


def rewrite(path: Path, **changes: Any) -> None:
    """Change top-level keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_network_comes_back_the_same(pruned_folder: Path, pruned_net: nn.Module) -> None:
    images = torch.randn(2, 1, 8, 8)
    loaded = load_network(pruned_folder)
    assert loaded.get_submodule(GROUP).out_channels == 5
    assert torch.equal(loaded.eval()(images), pruned_net.eval()(images))


def test_structure_tells_groups_and_layers(pruned_folder: Path) -> None:
    content = json.loads((pruned_folder / "structure.json").read_text())
    assert content["architecture"] == "resnet20"
    assert content["image"] == [1, 8, 8]
    assert content["groups"][GROUP] == {"units": 16, "kept": [0, 1, 2, 3, 15]}
    assert content["layers"][GROUP] == {"full": 16, "kept": 5, "stage": 1, "block": 0}
    assert content["layers"]["conv1"] == {"full": 16, "kept": 16, "stage": 0, "block": 0}
    assert list(content["layers"])[:3] == ["conv1", GROUP, "stages.0.0.conv2"]


def test_saving_returns_the_hash_of_the_weights(tmp_path: Path, pruned_folder: Path) -> None:
    model, structure = load_network(pruned_folder), read_structure(pruned_folder)
    saved = save_network(tmp_path / "copy", model, structure, {})
    assert saved == file_hash(pruned_folder / "model.safetensors")
    assert len(saved) == 64
    assert sorted(p.name for p in (tmp_path / "copy").iterdir()) == [
        "masks.safetensors",
        "model.safetensors",
        "structure.json",
    ]


def test_masks_that_keep_everything_are_left_out(tmp_path: Path, pruned_folder: Path) -> None:
    model, structure = load_network(pruned_folder), read_structure(pruned_folder)
    some = torch.tensor([True, False])
    save_network(tmp_path, model, structure, {"a": some, "b": torch.ones(3, dtype=torch.bool)})
    masks = load_masks(tmp_path)
    assert list(masks) == ["a"]
    assert torch.equal(masks["a"], some)
    assert load_masks(pruned_folder) == {}


def test_channels_last_weights_are_saved_as_they_are(tmp_path: Path, pruned_folder: Path) -> None:
    model = load_network(pruned_folder).to(memory_format=torch.channels_last)
    saved = save_network(tmp_path, model, read_structure(pruned_folder), {})
    assert saved == file_hash(pruned_folder / "model.safetensors")


def test_building_leaves_the_random_state_alone(pruned_folder: Path) -> None:
    before = torch.get_rng_state()
    model = build_pruned(read_structure(pruned_folder))
    assert torch.equal(torch.get_rng_state(), before)
    assert count_params(model) == count_params(load_network(pruned_folder))


def test_a_whole_network_keeps_every_unit(base_folder: Path) -> None:
    structure = read_structure(base_folder)
    assert not structure.is_smaller
    assert structure.widths[GROUP] == 16
    assert load_network(base_folder).get_submodule(GROUP).out_channels == 16


def test_describing_does_not_need_every_group_in_kept(pruned_net: nn.Module) -> None:
    structure = structure_of(
        pruned_net,
        architecture="resnet20",
        dataset="digits",
        num_classes=10,
        image=(1, 8, 8),
        sizes={GROUP: 16, "stages.0.1.conv1": 16},
        kept={GROUP: torch.tensor([15, 0, 1, 2, 3])},
    )
    assert structure.groups[GROUP].kept == (0, 1, 2, 3, 15)
    assert len(structure.groups["stages.0.1.conv1"].kept) == 16


@pytest.mark.parametrize("name", ["structure.json", "model.safetensors"])
def test_a_missing_file_is_named(pruned_folder: Path, name: str) -> None:
    (pruned_folder / name).unlink()
    with pytest.raises(ResultError, match=f"{name}: no such file"):
        load_network(pruned_folder)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("structure.json", "not valid JSON"),
        ("model.safetensors", "not a valid safetensors file"),
    ],
)
def test_a_cut_file_is_named(pruned_folder: Path, name: str, message: str) -> None:
    path = pruned_folder / name
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ResultError, match=f"{name}: {message}"):
        load_network(pruned_folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 0}, "num_classes: .* greater than or equal to 1, got 0"),
        ({"image": [3, 8, 8]}, "image has 3 channels, in_channels 1"),
        ({"groups": {GROUP: {"units": 4, "kept": [1, 1]}}}, "kept must rise"),
        ({"groups": {GROUP: {"units": 4, "kept": [1, 4]}}}, "between 0 and 3"),
        ({"colour": 1}, "colour: Extra inputs"),
    ],
)
def test_a_wrong_value_is_named(pruned_folder: Path, changes: dict[str, Any], message: str) -> None:
    rewrite(pruned_folder / "structure.json", **changes)
    with pytest.raises(ResultError, match=rf"structure\.json: .*{message}"):
        load_network(pruned_folder)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"layer9": {"units": 4, "kept": [1]}}, "resnet20 has no prunable group 'layer9'"),
        ({GROUP: {"units": 17, "kept": [1]}}, "has 17 units, expected 16"),
        ({GROUP: {"units": 16, "kept": [1]}}, "has 5 kept, expected 1"),
    ],
)
def test_a_structure_must_fit_its_architecture(
    pruned_folder: Path, groups: dict[str, Any], message: str
) -> None:
    rewrite(pruned_folder / "structure.json", groups=groups)
    with pytest.raises(ModelError, match=rf"structure\.json: .*{message}"):
        load_network(pruned_folder)


def test_weights_must_fit_the_structure(pruned_folder: Path, base_folder: Path) -> None:
    weights = (base_folder / "model.safetensors").read_bytes()
    (pruned_folder / "model.safetensors").write_bytes(weights)
    with pytest.raises(ResultError, match=r"has shape \(16,\), expected \(5,\)"):
        load_network(pruned_folder)


def test_a_weight_that_is_not_there_is_named(tmp_path: Path, pruned_folder: Path) -> None:
    structure = read_structure(pruned_folder)
    save_network(pruned_folder, nn.Identity(), structure, {})
    with pytest.raises(ResultError, match=r"'.*' is missing"):
        load_network(pruned_folder)


def test_a_structure_is_valid_json_of_itself(pruned_folder: Path) -> None:
    structure = read_structure(pruned_folder)
    assert Structure.model_validate_json(structure.model_dump_json()) == structure


def test_units_of_grouped_convolutions_are_rebuilt_as_they_left(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def grouped_net(name: str, *, num_classes: int, in_channels: int) -> nn.Module:
        layers = {
            "stem": nn.Conv2d(in_channels, 8, 1),
            "grouped": nn.Conv2d(8, 12, 3, groups=4),  # auto would take the groups whole
            "head": nn.Conv2d(12, num_classes, 1),
        }
        return nn.Sequential(OrderedDict(layers))

    monkeypatch.setattr(network, "build", grouped_net)
    model = grouped_net("any", num_classes=2, in_channels=1)
    graph = trace(model, torch.zeros(1, 1, 8, 8), grouped="local")
    smaller = remove(model, graph, {"grouped": torch.tensor([0, 2])})
    structure = structure_of(
        smaller,
        architecture="any",
        dataset="digits",
        num_classes=2,
        image=(1, 8, 8),
        sizes={name: group.n_units for name, group in graph.groups.items()},
        kept={"grouped": torch.tensor([1])},
        grouped="local",
    )
    save_network(tmp_path, smaller, structure, {})
    assert read_structure(tmp_path).grouped == "local"
    again = load_network(tmp_path).get_submodule("grouped")
    assert again.weight.shape == (4, 2, 3, 3)
    assert again.groups == 4


MEAN, STD = (0.25,), (0.5,)


@pytest.fixture
def described_folder(pruned_folder: Path) -> Path:
    """A pruned network whose structure.json says normalization, resize and classes."""
    normalization = {"mean": MEAN, "std": STD}
    rewrite(
        pruned_folder / "structure.json",
        normalization=normalization,
        resize=9,
        classes=list("abcdefghij"),
    )
    return pruned_folder


def test_a_loaded_network_is_in_evaluation_mode(pruned_folder: Path) -> None:
    assert not any(module.training for module in load_network(pruned_folder).modules())


def test_a_folder_may_be_a_string(pruned_folder: Path) -> None:
    assert load_network(str(pruned_folder)).get_submodule(GROUP).out_channels == 5
    assert read_structure(str(pruned_folder)).architecture == "resnet20"
    assert load_masks(str(pruned_folder)) == {}


def test_a_loaded_network_brings_its_preprocessing_and_classes(described_folder: Path) -> None:
    model, structure = load_network(described_folder), read_structure(described_folder)
    assert model.classes == tuple("abcdefghij")
    pixels = torch.full((1, 8, 8), 51, dtype=torch.uint8)  # 51 / 255 = 0.2
    found = model.preprocess(pixels)
    torch.testing.assert_close(found, torch.full((1, 1, 8, 8), (0.2 - 0.25) / 0.5))
    assert model(found).shape == (1, 10)
    assert model.state_dict().keys() == build_pruned(structure).state_dict().keys()


def test_a_structure_of_an_earlier_version_has_no_preprocessing(pruned_folder: Path) -> None:
    content = json.loads((pruned_folder / "structure.json").read_text())
    for key in ("normalization", "resize", "classes"):
        content.pop(key)
    (pruned_folder / "structure.json").write_text(json.dumps(content))
    model = load_network(pruned_folder)
    assert (model.preprocess, model.classes) == (None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ["a"]}, "1 classes, num_classes 10"),
        (
            {"normalization": {"mean": [0, 0], "std": [1]}},
            "normalization has 2 means and 1 deviations, in_channels 1",
        ),
    ],
)
def test_classes_and_normalization_must_fit(
    pruned_folder: Path, changes: dict[str, Any], message: str
) -> None:
    rewrite(pruned_folder / "structure.json", **changes)
    with pytest.raises(ResultError, match=message):
        load_network(pruned_folder)
