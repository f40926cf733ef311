from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunebench.measure.layer_counts import count_layers
from prunebench.measure.macs import count_params, sparsity, theoretical_macs


def test_parameters_without_buffers(small_net: nn.Module) -> None:
    # conv 18, norm 2 + 2, conv 8 + 4, linear 12 + 3
    assert count_params(small_net) == 49


def test_a_shared_parameter_counts_once() -> None:
    net = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    net[1].weight = net[0].weight
    assert count_params(net) == 9


def test_without_masks_every_product_counts(small_net: nn.Module, image: Tensor) -> None:
    assert theoretical_macs(small_net, image, {}) == 332


def test_products_with_zeroed_weights_do_not_count(small_net: nn.Module, image: Tensor) -> None:
    first = torch.ones(2, 1, 3, 3, dtype=torch.bool)
    first[0] = False  # 9 weights, used at 16 positions
    last = torch.ones(3, 4, dtype=torch.bool)
    last[0, 0] = False
    masks = {"0.weight": first, "7.weight": last}
    assert theoretical_macs(small_net, image, masks) == 332 - 144 - 1


def test_a_masked_norm_costs_nothing_to_begin_with(small_net: nn.Module, image: Tensor) -> None:
    masks = {"1.weight": torch.tensor([True, False])}
    assert theoretical_macs(small_net, image, masks) == 332


def test_a_shared_weight_is_masked_in_every_layer(image: Tensor) -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False))
    net[1].weight = net[0].weight
    masks = {"0.weight": torch.zeros(1, 1, 1, 1, dtype=torch.bool)}
    assert theoretical_macs(net, image, masks) == 0


def test_sparsity_is_of_convolution_and_linear_weights(small_net: nn.Module, image: Tensor) -> None:
    norm = torch.zeros(2, dtype=torch.bool)
    first = torch.ones(2, 1, 3, 3, dtype=torch.bool)
    first[0] = False  # 9 of 18 + 8 + 12 weights
    layers = count_layers(small_net, image)
    assert sparsity(layers, {"0.weight": first, "1.weight": norm}) == 9 / 38
    assert sparsity(layers, {}) == 0.0


def test_a_shared_weight_is_zero_once(image: Tensor) -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.Conv2d(1, 1, 1, bias=False))
    net[1].weight = net[0].weight
    masks = {"0.weight": torch.zeros(1, 1, 1, 1, dtype=torch.bool)}
    assert sparsity(count_layers(net, image), masks) == 1.0


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [("8.weight", (1,), "no such parameter"), ("7.weight", (4, 3), r"expected \(3, 4\)")],
)
def test_a_mask_must_fit_a_parameter(
    small_net: nn.Module, image: Tensor, name: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        theoretical_macs(small_net, image, {name: torch.ones(shape, dtype=torch.bool)})
