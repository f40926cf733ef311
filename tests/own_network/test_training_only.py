"""Networks with layers that run in training alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import prunebench as pb
from prunebench.core.errors import ConfigError
from prunebench.criteria.registry import CRITERIA
from tests.own_network.own_networks import WithAuxiliaryHead, batches, classifier, images

NO_NORM = {"bn_scale", "tfo"}  # they need batch norm behind each convolution
REFUSED = {"grasp", "mask_fisher"}


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return WithAuxiliaryHead()


def both(outputs: Any, labels: Tensor) -> Tensor:
    heads = outputs if isinstance(outputs, tuple) else (outputs,)
    return sum((F.cross_entropy(head, labels) for head in heads), torch.zeros(()))


@pytest.mark.parametrize("criterion", sorted(set(CRITERIA) - NO_NORM - REFUSED))
def test_they_read_what_is_left_of_their_input(model: nn.Module, criterion: str) -> None:
    result = pb.prune(model, images(), criterion=criterion, ratio=0.5, data=batches())
    stem = result.model.stem.out_channels
    assert stem < 8
    assert [layer.in_features for layer in result.model.auxiliary[::2]] == [stem, 6]
    out, auxiliary = result.model.train()(images(3))
    assert (out.shape, auxiliary.shape) == ((3, 4), (3, 4))


def test_a_parameter_that_nothing_uses_changes_nothing() -> None:
    model = classifier()
    model.extra = nn.Linear(2, 2)
    result = pb.prune(model, images(), criterion="taylor", ratio=0.5, data=batches())
    plain = pb.prune(classifier(), images(), criterion="taylor", ratio=0.5, data=batches())
    assert [group.name for group in result.groups] == [group.name for group in plain.groups]
    assert result.macs.after == plain.macs.after


def test_costs_do_not_count_them(model: nn.Module) -> None:
    plain = pb.prune(classifier(), images(), ratio=0.5)
    result = pb.prune(model, images(), ratio=0.5)
    assert result.macs.before == plain.macs.before
    assert result.frozen["auxiliary.0"] == "runs in training alone"


def test_they_come_back_from_a_folder(model: nn.Module, tmp_path: Path) -> None:
    result = pb.prune(model, images(), ratio=0.5)
    result.save(tmp_path)
    loaded = pb.load(tmp_path, model=WithAuxiliaryHead())
    expected = result.model.train()(images(3))
    for one, other in zip(loaded.train()(images(3)), expected, strict=True):
        assert torch.equal(one, other)


def test_methods_and_fine_tuning_train_them(model: nn.Module) -> None:
    result = pb.prune(
        model,
        images(),
        method="greg_1",
        ratio=0.3,
        data=batches(8),
        loss=both,
        epochs=8,
        quiet=True,
    )
    assert result.model.auxiliary[0].in_features == result.model.stem.out_channels
    before = result.model.auxiliary[0].weight.clone()
    pb.finetune(result.model, batches(), loss=both, epochs=1, quiet=True)
    assert not torch.equal(result.model.auxiliary[0].weight, before)


@pytest.mark.parametrize("criterion", sorted(REFUSED))
def test_what_needs_every_layer_says_which_do_not_run(model: nn.Module, criterion: str) -> None:
    with pytest.raises(ConfigError, match=rf"{criterion} .* but 'auxiliary\.0' runs in tra"):
        pb.prune(model, images(), criterion=criterion, ratio=0.5, data=batches())


def test_googlenet_trains_with_its_auxiliary_classifiers() -> None:
    torch.manual_seed(0)
    model = torchvision.models.googlenet(num_classes=4, init_weights=False, aux_logits=True)
    result = pb.prune(model, torch.rand(1, 3, 64, 64), ratio=0.5)
    outputs = result.model.train()(torch.rand(2, 3, 64, 64))
    assert [tuple(out.shape) for out in outputs] == [(2, 4)] * 3
