from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import prunebench as pb
from prunebench.core.errors import ModelError, ResultError
from tests.own_network.own_networks import classifier, images, unet, unet_inputs

FILES = ["masks.safetensors", "model.safetensors", "report.txt", "structure.json"]


def same(a: nn.Module, b: nn.Module, *inputs: torch.Tensor) -> None:
    torch.testing.assert_close(a(*inputs), b(*inputs), rtol=0, atol=0)


def test_a_network_of_the_users_class_comes_back(tmp_path: Path) -> None:
    result = pb.prune(
        classifier(),
        images(),
        ratio=0.5,
        normalization=([0.5] * 3, [0.25] * 3),
        classes=list("abcd"),
    )
    result.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    loaded = pb.load(tmp_path, model=classifier())
    same(loaded, result.model, images(3))
    assert not loaded.training
    assert loaded.classes == tuple("abcd")
    pixels = torch.full((3, 8, 8), 255, dtype=torch.uint8)
    assert loaded.preprocess(pixels)[0, 0, 0, 0] == 2  # (1 - 0.5) / 0.25
    assert (tmp_path / "report.txt").read_text().strip() == str(result)


def test_two_inputs_come_back(tmp_path: Path) -> None:
    result = pb.prune(unet(), unet_inputs(), ratio=0.5)
    result.save(tmp_path)
    same(pb.load(tmp_path, model=unet()), result.model, *unet_inputs(2))


def test_a_registered_network_needs_no_class(tmp_path: Path) -> None:
    model = pb.build("resnet20_x0_25", num_classes=10)
    result = pb.prune(model, torch.rand(1, 3, 32, 32), ratio=0.5)
    result.save(tmp_path)
    loaded = pb.load(tmp_path)
    same(loaded, result.model, torch.rand(2, 3, 32, 32))
    again = pb.prune(loaded, torch.rand(1, 3, 32, 32), ratio=0.3)
    again.save(tmp_path / "again")
    same(pb.load(tmp_path / "again"), again.model, torch.rand(2, 3, 32, 32))


def test_a_registered_network_that_was_changed_is_the_users(tmp_path: Path) -> None:
    def changed() -> nn.Module:
        model = pb.build("resnet20_x0_25", num_classes=10)
        model.fc = nn.Linear(model.fc.in_features, 3)
        return model

    result = pb.prune(changed(), torch.rand(1, 3, 32, 32), ratio=0.5)
    result.save(tmp_path)
    with pytest.raises(ModelError, match="pass model="):
        pb.load(tmp_path)
    same(pb.load(tmp_path, model=changed()), result.model, torch.rand(2, 3, 32, 32))


def test_a_network_pruned_twice_comes_back(tmp_path: Path) -> None:
    first = pb.prune(classifier(), images(), ratios={"stem": 0.5})
    second = pb.prune(first.model, images(), ratios={"conv": 0.5})
    second.save(tmp_path)
    same(pb.load(tmp_path, model=classifier()), second.model, images(2))


def test_weights_are_those_at_the_time_of_saving(tmp_path: Path) -> None:
    result = pb.prune(classifier(), images(), ratio=0.5)
    with torch.no_grad():
        result.model.stem.weight.mul_(2)
    result.save(tmp_path)
    same(pb.load(tmp_path, model=classifier()), result.model, images(2))


def test_the_class_is_asked_for_by_its_name(tmp_path: Path) -> None:
    pb.prune(classifier(), images(), ratio=0.5).save(tmp_path)
    message = r"structure\.json: prunebench cannot build a tests\..*\.Classifier; pass model="
    with pytest.raises(ModelError, match=message):
        pb.load(tmp_path)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 2, 1)), "Sequential has no prunable group 'stem'"),
        (type(classifier())(width=4), "group 'stem' has 8 units, expected 4"),
    ],
)
def test_a_network_with_other_groups_is_refused(
    tmp_path: Path, model: nn.Module, message: str
) -> None:
    pb.prune(classifier(), images(), ratio=0.5).save(tmp_path)
    with pytest.raises(ModelError, match=message):
        pb.load(tmp_path, model=model)


def test_a_network_with_another_head_is_refused(tmp_path: Path) -> None:
    pb.prune(classifier(), images(), ratio=0.5).save(tmp_path)
    with pytest.raises(ResultError, match=r"'head.2.bias' has shape \(4,\), expected \(5,\)"):
        pb.load(tmp_path, model=classifier(5))


def test_an_unknown_key_is_named(tmp_path: Path) -> None:
    pb.prune(classifier(), images(), ratio=0.5).save(tmp_path)
    path = tmp_path / "structure.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": 1}))
    with pytest.raises(ResultError, match="colour: Extra inputs"):
        pb.load(tmp_path, model=classifier())


class Nested(nn.Module):
    """Takes a dictionary of tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return self.last(self.first(batch["image"]))


def test_inputs_that_are_no_tensors_are_given_again(tmp_path: Path) -> None:
    example = ({"image": images()},)
    result = pb.prune(Nested(), example, ratio=0.5)
    result.save(tmp_path)
    with pytest.raises(ResultError, match="pass example= to load it"):
        pb.load(tmp_path, model=Nested())
    same(pb.load(tmp_path, model=Nested(), example=example), result.model, {"image": images(2)})
