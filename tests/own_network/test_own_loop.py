"""Pruned networks in training loops that are not ours: `docs/own_loop.md` shows them."""

from __future__ import annotations

import argparse
import copy
import pickle
from pathlib import Path

import pytest
import timm
import torch
from timm.utils import CheckpointSaver, ModelEmaV3
from torch import nn

import prunebench as pb
from tests.own_network.own_networks import classifier, images


@pytest.mark.parametrize("use_ema", [True, False])
def test_a_checkpoint_of_timms_script_fills_the_loaded_network(
    use_ema: bool, tmp_path: Path
) -> None:
    result = pb.prune(classifier(), images(), ratio=0.5)
    result.save(tmp_path / "pruned")
    net, average = result.model, ModelEmaV3(result.model, decay=0.5)
    with torch.no_grad():
        net.head[2].bias += 2
    average.update(net)  # halfway: + 1
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    arguments = argparse.Namespace(model="pruned")
    saver = CheckpointSaver(net, optimizer, arguments, average, checkpoint_dir=str(tmp_path))
    saver.save_checkpoint(0, metric=50.0)

    loaded = pb.load(tmp_path / "pruned", model=classifier())
    before = loaded(images())
    timm.models.load_checkpoint(loaded, str(tmp_path / "model_best.pth.tar"), use_ema=use_ema)
    torch.testing.assert_close(loaded(images()), before + (1 if use_ema else 2))


def copied(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model)


def pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))  # type: ignore[no-any-return]


def channels_last(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


@pytest.mark.parametrize("changed", [copied, pickled, channels_last])
def test_a_pruned_network_is_an_ordinary_module(changed) -> None:
    model = pb.prune(classifier(), images(), ratio=0.5).model
    torch.testing.assert_close(changed(model)(images()), model(images()))
