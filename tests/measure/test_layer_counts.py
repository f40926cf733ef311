from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import DeformConv2d

from prunebench.measure.layer_counts import LayerCount, count_layers


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Conv2d(1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) + self.head(x[:, :, :2]).mean()


def test_every_layer_of_a_small_net(small_net: nn.Module, image: Tensor) -> None:
    by_name = {layer.name: layer for layer in count_layers(small_net, image)}
    assert by_name["0"] == LayerCount(
        # 2 x 4 x 4 outputs of 9 products
        name="0", kind="conv", inputs=16, outputs=32, macs=288, weight="0.weight", weights=18
    )  # fmt: skip
    assert by_name["1"].outputs == 32
    assert by_name["3"] == LayerCount(name="3", kind="max_pool", inputs=32, outputs=8, window=4)
    assert (by_name["4"].macs, by_name["4"].bias) == (4 * 2 * 2 * 2, True)
    assert (by_name["5"].inputs, by_name["5"].outputs, by_name["5"].window) == (16, 4, 4)
    assert by_name["7"].macs == 12


def test_only_the_first_image_counts(small_net: nn.Module, image: Tensor) -> None:
    assert count_layers(small_net, image.repeat(3, 1, 1, 1)) == count_layers(small_net, image)


def test_a_module_called_twice_counts_twice(image: Tensor) -> None:
    (layer,) = count_layers(CalledTwice(), image)
    assert (layer.macs, layer.outputs, layer.weights) == (16 + 8, 24, 1)


def test_grouped_and_transposed_convolutions() -> None:
    net = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(6, 2, 2, stride=2))
    grouped, transposed = count_layers(net, torch.zeros(1, 4, 5, 5))
    assert grouped.macs == 6 * 9 * (2 * 9)  # 6 x 3 x 3 outputs of 2 x 3 x 3 products
    assert transposed.macs == 6 * 9 * (2 * 4)  # 6 x 3 x 3 inputs into 2 x 2 x 2 outputs
    assert transposed.outputs == 2 * 6 * 6


def test_a_deformable_convolution_counts_like_a_plain_one() -> None:
    class Deformable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = DeformConv2d(2, 3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.conv(x, torch.zeros(1, 18, 2, 2))

    (layer,) = count_layers(Deformable(), torch.zeros(1, 2, 4, 4))
    assert layer.macs == 3 * 4 * (2 * 9)


def test_the_model_is_left_as_it_was(small_net: nn.Module, image: Tensor) -> None:
    small_net.train()
    count_layers(small_net, image)
    assert small_net[1].training
    assert int(small_net[1].num_batches_tracked) == 0
    assert not any(module._forward_hooks for module in small_net.modules())
