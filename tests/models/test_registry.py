from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from prunebench.core.errors import ConfigError, ModelError
from prunebench.models.base import LayerLabel
from prunebench.models.registry import MODELS, build, has_widths, is_detector, names, split_width

OF_ONE_SIZE = ("alexnet", "convnet", "lenet5")  # their kernels do not fit into smaller images
CLASSIFIERS = [name for name in names() if not is_detector(name)]
ANY_SIZE = [name for name in CLASSIFIERS if name not in OF_ONE_SIZE]
IN_EIGHTS = "mobilenet_v2"  # its widths are multiples of 8
SMALLEST = {"alexnet": 39, "convnet": 8, "lenet5": 13}  # side of the image, pixels


def test_networks_are_listed_in_order() -> None:
    assert list(MODELS) == sorted(MODELS) == names()


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys, prunebench.models.registry as r; [*map(r.is_detector, r.names())]; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_building_a_classifier_imports_no_torchvision() -> None:
    code = (
        "import sys; from prunebench.models.registry import build, is_detector, names\n"
        "for name in names():\n"
        "    if not is_detector(name): build(name + '_x0_1', num_classes=2)\n"
        "sys.exit('torchvision' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_unknown_network_is_named_with_the_closest() -> None:
    with pytest.raises(ConfigError, match="unknown network 'resnet65'; did you mean resnet56"):
        build("resnet65", num_classes=10)


def test_an_unknown_network_with_a_width_is_named() -> None:
    with pytest.raises(ConfigError, match="unknown network 'vgg61'"):
        build("vgg61_x0_25", num_classes=10)


@pytest.mark.parametrize(
    ("name", "width"),
    [("vgg16", 1.0), ("vgg16_x0_25", 0.25), ("vgg16_x2", 2.0), ("vgg16_x1_0", 1.0)],
)
def test_a_suffix_is_the_width(name: str, width: float) -> None:
    assert split_width(name) == ("vgg16", width)


@pytest.mark.parametrize(
    "suffix", ["", "0", "0_0", "half", "-1", "0.25", "0_2_5", "_5", "1e3", "17"]
)
def test_a_width_that_is_no_number_from_zero_to_16_is_refused(suffix: str) -> None:
    with pytest.raises(ConfigError, match=r"the width .* is not a number above 0 and at most 16"):
        split_width(f"vgg16_x{suffix}")


def test_a_width_scales_every_layer() -> None:
    model = build("vgg16_x0_25", num_classes=10)
    widths = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert widths == [16, 16, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128, 128]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_narrowest_network_keeps_a_channel_per_layer_and_group(name: str) -> None:
    model = build(f"{name}_x0_01", num_classes=3)
    side = max(32, SMALLEST.get(name, 1))
    assert model(torch.zeros(2, 3, side, side)).shape == (2, 3)
    per_group = [m.out_channels // m.groups for m in model.modules() if isinstance(m, nn.Conv2d)]
    narrowest = min(m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d))
    assert min(per_group) == 1
    assert narrowest == {IN_EIGHTS: 8, "alexnet": 2}.get(name, 1)


@pytest.mark.parametrize("classes", [0, -1])
def test_a_network_without_classes_is_refused(classes: int) -> None:
    with pytest.raises(ModelError, match=f"num_classes must be at least 1, not {classes}"):
        build("vgg16", num_classes=classes)


def test_a_network_without_input_channels_is_refused() -> None:
    with pytest.raises(ModelError, match="in_channels must be at least 1, not 0"):
        build("vgg16", num_classes=10, in_channels=0)


@pytest.mark.parametrize("name", ANY_SIZE)
@pytest.mark.parametrize("image", [(1, 1, 1), (1, 8, 8), (1, 28, 28), (3, 32, 32), (2, 5, 7)])
def test_images_of_any_size_pass(name: str, image: tuple[int, int, int]) -> None:
    model = build(f"{name}_x0_1", num_classes=7, in_channels=image[0]).eval()
    with torch.inference_mode():
        assert model(torch.randn(2, *image)).shape == (2, 7)


@pytest.mark.parametrize(("name", "side"), SMALLEST.items())
def test_a_network_of_one_size_takes_others_down_to_its_kernels(name: str, side: int) -> None:
    model = build(f"{name}_x0_1", num_classes=7).eval()
    assert model(torch.zeros(2, 3, side, side)).shape == (2, 7)
    with pytest.raises(RuntimeError, match=r"too small|can't be greater"):
        model(torch.zeros(2, 3, side - 1, side - 1))


@pytest.mark.parametrize("name", [n for n in names() if is_detector(n) and has_widths(n)])
def test_a_detector_has_outputs_for_every_class(name: str) -> None:
    with torch.device("meta"):  # shapes suffice
        model = build(name, num_classes=3)
        outputs = model(torch.zeros(1, 3, 64, 64))
    assert [o[0].shape[1] % 3 for o in outputs[:4]] == [0] * 4


@pytest.mark.parametrize("name", ["retinanet_r18_fpn", "faster_rcnn_r18_fpn"])
def test_pyramid_and_heads_are_stages_after_the_backbone(name: str) -> None:
    with torch.device("meta"):
        model = build(name, num_classes=3)
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    labels = model.labels()
    assert list(labels) == layers
    assert len(set(labels.values())) == len(layers)
    stages = {label.stage for n, label in labels.items() if n.startswith("pyramid.")}
    assert (labels["backbone.stages.3.1.conv2"].stage, stages) == (4, {5})
    assert labels[layers[-1]].stage == 6


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_convolution_and_linear_layer_has_a_label_of_its_own(name: str) -> None:
    model = build(f"{name}_x0_1", num_classes=7)
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    labels = model.labels()
    assert list(labels) == layers
    assert list(labels.values()) == sorted(set(labels.values()))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_module_without_children_is_called_once(name: str) -> None:
    model = build(f"{name}_x0_1", num_classes=7).eval()
    calls: list[nn.Module] = []
    leaves = [module for module in model.modules() if not list(module.children())]
    for leaf in leaves:
        leaf.register_forward_hook(lambda module, args, out: calls.append(module))
    side = max(32, SMALLEST.get(name, 1))
    model(torch.zeros(1, 3, side, side))
    assert sorted(map(id, calls)) == sorted(map(id, leaves))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_same_seed_gives_the_same_weights(name: str) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(build(f"{name}_x0_1", num_classes=7).state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_labels_survive_a_change_of_widths() -> None:
    model = build("resnet20_x0_1", num_classes=7)
    assert model.labels()["stages.2.0.conv2"] == LayerLabel(stage=3, block=0, position=1)
