from __future__ import annotations

import pytest
import torch
from torch import nn

from prunebench.experiments.phases import training
from prunebench.training.loop import set_modes
from tests.training.conftest import MakeLoop, Phases, recipe


def test_frozen_batch_norm_evaluates_and_all_else_trains() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout()).eval()
    set_modes(model, recipe(norm_statistics="frozen"))
    assert [module.training for module in model] == [True, False, True]
    set_modes(model, recipe())
    assert [module.training for module in model] == [True, True, True]


@pytest.mark.parametrize("statistics", ["updated", "frozen"])
def test_frozen_statistics_outlive_a_phase_and_its_evaluations(
    make_loop: MakeLoop, statistics: str
) -> None:
    one = training("fine_tune", recipe(epochs=1, norm_statistics=statistics))
    loop = make_loop(Phases([one]), [one])
    before = {name: tensor.clone() for name, tensor in loop.run.model.state_dict().items()}
    loop.train()
    after = loop.run.model.state_dict()
    same = {name: torch.equal(after[name], before[name]) for name in before}
    means = [same[name] for name in same if name.endswith("running_mean")]
    assert set(means) == {statistics == "frozen"}
    assert not any(same[name] for name in same if name.endswith("bn1.weight"))


def test_the_phase_after_a_frozen_one_has_its_own_mode(make_loop: MakeLoop) -> None:
    frozen = training("retrain", recipe(epochs=1, norm_statistics="frozen"))
    usual = training("fine_tune", recipe(epochs=1))
    loop = make_loop(Phases([frozen, usual]), [frozen, usual])
    before = loop.run.model.get_buffer("bn1.running_mean").clone()
    loop.train()
    assert not torch.equal(loop.run.model.get_buffer("bn1.running_mean"), before)
