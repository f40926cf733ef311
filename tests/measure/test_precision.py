from __future__ import annotations

import pytest
import torch
from torch import nn

from prunebench.measure.precision import arithmetic, evaluating


def test_every_module_gets_its_own_mode_back(small_net: nn.Module) -> None:
    small_net.train()
    small_net[1].eval()
    with evaluating(small_net):
        assert not any(module.training for module in small_net.modules())
    assert small_net.training
    assert small_net[0].training
    assert not small_net[1].training


def test_modes_return_after_an_error(small_net: nn.Module) -> None:
    with pytest.raises(RuntimeError), evaluating(small_net):
        small_net(torch.zeros(1, 5))
    assert small_net[1].training


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", False), ("tf32", True)])
def test_tensor_float_is_only_used_where_asked_for(precision: str, allowed: bool) -> None:
    before = torch.backends.cudnn.allow_tf32
    with arithmetic(torch.device("cpu"), precision):
        assert torch.backends.cudnn.allow_tf32 is allowed
        assert torch.backends.cuda.matmul.allow_tf32 is allowed
    assert torch.backends.cudnn.allow_tf32 is before


def test_bf16_is_autocast() -> None:
    with arithmetic(torch.device("cpu"), "bf16"):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
