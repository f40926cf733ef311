from __future__ import annotations

import pytest
import torch
from torch import nn

from prunebench.core.errors import TrainingError
from prunebench.experiments.phases import training
from prunebench.training.processes import Alone, converted
from tests.training.conftest import MakeLoop, Phases, fresh_network, recipe
from tests.training.test_resume import assert_same, outcome


def norms(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


def test_norms_are_converted_over_the_same_tensors_and_put_back() -> None:
    model = fresh_network()
    model(torch.randn(8, 3, 8, 8))  # running statistics that are not 0 and 1
    own, tensors = norms(model), model.state_dict(keep_vars=True)
    x = torch.randn(4, 3, 8, 8)
    expected = model.eval()(x)
    with converted(model):
        assert [type(norm) for norm in norms(model)] == [nn.SyncBatchNorm] * len(own)
        inside = model.state_dict(keep_vars=True)
        assert list(inside) == list(tensors)
        assert all(inside[name] is tensor for name, tensor in tensors.items())
        assert torch.equal(model(x), expected)
        model.train()
    assert [id(norm) for norm in norms(model)] == [id(norm) for norm in own]
    assert all(norm.training for norm in own)


def test_norms_are_put_back_after_an_error() -> None:
    model = fresh_network()
    own = norms(model)
    with pytest.raises(KeyError), converted(model):
        raise KeyError
    assert [id(norm) for norm in norms(model)] == [id(norm) for norm in own]


class First(Alone):
    rank, world = 0, 2


def test_several_processes_of_a_cpu_cannot_and_are_told_so(make_loop: MakeLoop) -> None:
    phases = [training("train", recipe(sync_batch_norm=True))]
    loop = make_loop(Phases(phases), phases)
    loop.parallel = First()
    with pytest.raises(TrainingError, match=r"^sync_batch_norm: true needs GPUs, since PyTorch"):
        loop.train()


def test_one_process_has_nothing_to_synchronize(make_loop: MakeLoop) -> None:
    outcomes = []
    for synced in (False, True):
        phases = [training("train", recipe(sync_batch_norm=synced))]
        loop = make_loop(Phases(phases), phases)
        loop.train()
        outcomes.append(outcome(loop))
    assert_same(*outcomes)
