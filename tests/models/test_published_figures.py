"""Parameters and multiply-accumulates of the larger networks, as printed or as in the notes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from prunebench.models.base import LayerLabel
from prunebench.models.mobilenet_v2 import multiple_of_8
from prunebench.models.registry import build
from prunebench.models.regnet import stages_of
from prunebench.models.resnet import ResNet

IMAGENET, DETECTION = (3, 224, 224), (3, 800, 1280)


def on_meta(name: str, classes: int, in_channels: int = 3) -> nn.Module:
    """Build without memory for the weights: shapes suffice."""
    with torch.device("meta"):
        return build(name, num_classes=classes, in_channels=in_channels)


@pytest.mark.parametrize(
    ("name", "classes", "image", "params", "macs"),
    [
        # EPruner's figures
        ("googlenet", 10, (3, 32, 32), 6_166_250, 1_521_756_160),
        ("resnet18", 1000, IMAGENET, 11_689_512, 1_814_073_344),
        ("resnet34", 1000, IMAGENET, 21_797_672, 3_663_761_408),
        ("resnet50", 1000, IMAGENET, 25_557_032, 4_089_184_256),
        ("resnet101", 1000, IMAGENET, 44_549_160, 7_801_405_440),
        ("resnet152", 1000, IMAGENET, 60_192_808, 11_513_626_624),
        # OrthoReg's
        ("resnet34_cifar", 100, (3, 32, 32), 21_328_292, 1_159_448_576),
        # Group Fisher's, printed to three or four digits
        ("resnext50_32x4d", 1000, IMAGENET, 25_028_904, 4_230_479_872),
        ("mobilenet_v2_x2_0", 1000, IMAGENET, 11_258_088, 1_137_428_224),
        ("mobilenet_v2_x1_4", 1000, IMAGENET, 6_108_776, 582_195_824),
        ("mobilenet_v2", 1000, IMAGENET, 3_504_872, 300_774_272),
        ("mobilenet_v2_x0_7", 1000, IMAGENET, 2_481_384, 173_642_400),
        ("mobilenet_v2_x0_5", 1000, IMAGENET, 1_968_680, 97_131_840),
        ("regnetx_3_2gf", 1000, IMAGENET, 15_296_552, 3_176_621_952),
        ("regnetx_1_6gf", 1000, IMAGENET, 9_190_136, 1_602_849_792),
        ("regnetx_0_8gf", 1000, IMAGENET, 7_259_656, 799_699_712),
        ("regnetx_0_4gf", 1000, IMAGENET, 5_157_512, 397_677_568),
        ("regnetx_0_2gf", 1000, IMAGENET, 2_684_792, 199_039_872),
        ("retinanet_r50_fpn", 80, DETECTION, 37_968_692, 238_536_058_880),
        ("fsaf_r50_fpn", 80, DETECTION, 36_419_732, 205_511_075_840),
        ("atss_r50_fpn", 80, DETECTION, 32_293_274, 204_486_740_480),
        ("faster_rcnn_r50_fpn", 80, DETECTION, 41_753_056, 199_349_875_712),
        # two shortcuts more: 16 x 32 + 64 and 32 x 64 + 128 parameters, 131072 MACs each
        ("resnet56_projection", 10, (3, 32, 32), 855_770, 125_747_840),
        # LeNet: 20 x 26 + 50 x 501 + 801 x 500 + 501 x 10
        ("lenet5", 10, (1, 28, 28), 431_080, 2_293_000),
    ],
)
def test_counts_are_those_of_the_papers(
    count: Callable[..., Any],
    name: str,
    classes: int,
    image: tuple[int, ...],
    params: int,
    macs: int,
) -> None:
    counted = count(on_meta(name, classes, image[0]), *image)
    assert counted.params == params
    assert counted.conv_macs + counted.linear_macs == macs


@pytest.mark.parametrize(
    ("name", "image", "conv_macs"),
    [
        ("convnet", (3, 32, 32), 2_457_600 + 6_553_600 + 3_276_800),
        ("alexnet", (3, 227, 227), 665_784_864),
        ("vgg16_imagenet", IMAGENET, 15_346_630_656),
        ("resnet50_caffe", IMAGENET, 3_855_925_248),
        ("resnet50", IMAGENET, 4_087_136_256),
    ],
)
def test_convolutions_are_those_of_increg(
    count: Callable[..., Any], name: str, image: tuple[int, ...], conv_macs: int
) -> None:
    assert count(on_meta(name, 1000), *image).conv_macs == conv_macs


@pytest.mark.parametrize(
    ("name", "weights"), [("vgg16_imagenet", 14_710_464), ("resnet50_caffe", 23_454_912)]
)
def test_convolutions_have_as_many_weights_as_increg_s(name: str, weights: int) -> None:
    convs = [m for m in on_meta(name, 1000).modules() if isinstance(m, nn.Conv2d)]
    assert sum(conv.weight.numel() for conv in convs) == weights


@pytest.mark.parametrize(
    ("name", "classes", "image", "millions"),
    [
        ("resnet50", 1000, IMAGENET, 11.114),
        ("resnet101", 1000, IMAGENET, 16.232),
        ("resnext50_32x4d", 1000, IMAGENET, 14.401),
        ("mobilenet_v2_x2_0", 1000, IMAGENET, 13.356),
        ("mobilenet_v2_x0_7", 1000, IMAGENET, 5.246),
        ("regnetx_3_2gf", 1000, IMAGENET, 11.366),
        ("retinanet_r50_fpn", 80, DETECTION, 297.462),
        ("fsaf_r50_fpn", 80, DETECTION, 283.128),
        ("atss_r50_fpn", 80, DETECTION, 283.149),
        ("paa_r50_fpn", 80, DETECTION, 283.149),
    ],
)
def test_outputs_of_convolutions_are_group_fisher_s_memory(
    count: Callable[..., Any], name: str, classes: int, image: tuple[int, ...], millions: float
) -> None:
    assert round(count(on_meta(name, classes), *image).conv_outputs / 1e6, 3) == millions


def test_outputs_of_faster_rcnn_include_the_linear_layers_of_512_regions(
    count: Callable[..., Any],
) -> None:
    counted = count(on_meta("faster_rcnn_r50_fpn", 80), *DETECTION)
    assert counted.linear_outputs == 512 * (1024 + 1024 + 81 + 320)
    assert (counted.conv_outputs + counted.linear_outputs) // 100_000 == 2946  # printed: 294.6M


def test_the_stride_stands_on_the_first_convolution_in_caffe_only() -> None:
    strides = {}
    for name in ("resnet50", "resnet50_caffe"):
        block = build(f"{name}_x0_1", num_classes=2).get_submodule("stages.1.0")
        strides[name] = [block.get_submodule(f"conv{i}").stride[0] for i in (1, 2, 3)]
    assert strides == {"resnet50": [1, 2, 1], "resnet50_caffe": [2, 1, 1]}


def test_two_forms_of_a_cifar_resnet_differ_in_their_shortcuts() -> None:
    plain = build("resnet20", num_classes=10)
    projection = build("resnet20_projection", num_classes=10)
    assert "stages.1.0.shortcut.0" not in plain.labels()
    assert projection.labels()["stages.1.0.shortcut.0"] == LayerLabel(2, 0, 2)
    assert projection(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


def test_inception_blocks_are_labelled_in_order() -> None:
    labels = build("googlenet_x0_1", num_classes=10).labels()
    assert labels["stem.conv"] == LayerLabel(0, 0, 0)
    assert labels["stages.0.1.reduce3.conv"] == LayerLabel(1, 1, 1)
    assert labels["stages.2.1.five1.conv"] == LayerLabel(3, 1, 4)
    assert labels["fc"] == LayerLabel(4, 0, 0)


@pytest.mark.parametrize(
    ("channels", "rounded"), [(22.4, 24), (33.6, 32), (11.2, 16), (896, 896), (4, 8)]
)
def test_widths_of_mobilenet_v2_are_multiples_of_8(channels: float, rounded: int) -> None:
    assert multiple_of_8(channels) == rounded


def test_regnetx_stages_are_those_of_its_table() -> None:
    assert stages_of(88, 26.31, 2.25, 25, 48) == [
        (2, 96, 48),
        (6, 192, 48),
        (15, 432, 48),
        (2, 1008, 48),
    ]
    # torchvision's 400MF has 400 channels in its last stage
    assert stages_of(24, 24.48, 2.54, 22, 16)[-1] == (12, 384, 16)


def test_response_norm_within_a_channel() -> None:
    norm = build("convnet", num_classes=2).get_submodule("stages.0.0.layer3")
    out = norm(torch.full((1, 1, 3, 3), 100.0))
    # in the middle the mean of squares is 10^4: 100 / (1 + 0.5)^0.75; in a corner 4/9 of it
    assert out[0, 0, 1, 1].item() == pytest.approx(100 / 1.5**0.75, rel=1e-5)
    assert out[0, 0, 0, 0].item() == pytest.approx(100 / (1 + 2 / 9) ** 0.75, rel=1e-5)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext50_32x4d"])
def test_a_resnet_computes_what_torchvision_s_does(name: str) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.get_model(name, num_classes=5).eval()
    ours = build(name, num_classes=5).eval()
    assert isinstance(ours, ResNet)
    ours.load_state_dict({ours.own_name(key): value for key, value in theirs.state_dict().items()})
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(ours(image), theirs(image))
