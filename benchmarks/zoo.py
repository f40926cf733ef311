"""Networks of many kinds with random weights, and small inputs, for tests and benchmarks.

Names that start with "timm/" need timm; nothing is downloaded.
"""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torch import nn

from prunebench.models import registry

TORCHVISION = [
    "alexnet",
    *(f"convnext_{size}" for size in ("tiny", "small", "base", "large")),
    *(f"densenet{depth}" for depth in (121, 161, 169, 201)),
    *(f"efficientnet_b{n}" for n in range(8)),
    *(f"efficientnet_v2_{size}" for size in "sml"),
    "googlenet", "inception_v3",
    *(f"mnasnet{width}" for width in ("0_5", "0_75", "1_0", "1_3")),
    "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
    *(f"regnet_x_{size}" for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf")),
    *(f"regnet_y_{size}"
      for size in ("400mf", "800mf", "1_6gf", "3_2gf", "8gf", "16gf", "32gf", "128gf")),
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d",
    *(f"shufflenet_v2_x{width}" for width in ("0_5", "1_0", "1_5", "2_0")),
    "squeezenet1_0", "squeezenet1_1",
    *(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn")),
    "wide_resnet50_2", "wide_resnet101_2",
]  # fmt: skip
SEGMENTATION = [
    "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50", "deeplabv3_resnet101",
    "fcn_resnet50", "fcn_resnet101", "lraspp_mobilenet_v3_large",
]  # fmt: skip
VIDEO = ["mc3_18", "r2plus1d_18", "r3d_18", "s3d"]
DETECTORS = [
    "fasterrcnn_mobilenet_v3_large_320_fpn", "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fcos_resnet50_fpn",
    "keypointrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn_v2",
    "retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "ssd300_vgg16",
    "ssdlite320_mobilenet_v3_large",
]  # fmt: skip
# One network of each family.
TIMM = [
    f"timm/{name}"
    for name in (
        "convmixer_768_32", "convnext_atto", "cs3darknet_s", "cspnext_s", "cspresnet50",
        "densenet121", "dla46x_c", "dpn48b", "efficientnet_lite0", "ese_vovnet19b_dw",
        "fasternet_t0", "fbnetc_100", "ghostnet_050", "hardcorenas_a", "hgnetv2_b0",
        "hrnet_w18_small", "inception_next_atto", "inception_resnet_v2", "inception_v4",
        "lcnetv2_small", "legacy_seresnet18", "legacy_xception", 
        "mobilenetv3_small_050", "nf_regnet_b0", "pnasnet5large", "rdnet_tiny", "regnetx_002",
        "repghostnet_050", "repvgg_a0", "repvit_m0_9", "res2net50_48w_2s", "resnest14d",
        "resnet10t", "resnetv2_18", "rexnet_100", "selecsls42", "skresnet18", "starnet_s1",
        "tresnet_m", "vgg11", "xception41",
    )
]  # fmt: skip
OWN = [f"prunebench/{name}" for name in ("resnet20", "resnet56", "vgg16", "mobilenet_v1")]
ALL = [*OWN, *TORCHVISION, *VIDEO, *SEGMENTATION, *DETECTORS, *TIMM]

# More than half a minute each.
SLOWEST = ("regnet_y_128gf", "s3d", "ssd300_vgg16", "timm/pnasnet5large", "regnet_y_32gf")

# Larger images where a network's pooling needs them.
SIZES = {"alexnet": 80, "inception_v3": 96, "s3d": 224, "timm/inception_v4": 96,
         "timm/inception_resnet_v2": 96, "timm/pnasnet5large": 96}  # fmt: skip


def build(name: str) -> nn.Module:
    """Return a network with random weights, in eval mode."""
    torch.manual_seed(0)
    library, _, short = name.rpartition("/")
    if library == "prunebench":
        return registry.build(short, num_classes=10).eval()
    if library == "timm":
        import timm

        network: nn.Module = timm.create_model(short, pretrained=False)
        return network.eval()
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    if name in SEGMENTATION or name in DETECTORS:
        options["weights_backbone"] = None
    if name in DETECTORS and not name.startswith("ssd"):
        options.update(min_size=96, max_size=128)
    if "rcnn" in name:  # a few regions suffice
        options.update(
            rpn_pre_nms_top_n_test=100, rpn_post_nms_top_n_test=10, box_detections_per_img=5
        )
    network = torchvision.models.get_model(name, weights=None, **options)
    return network.eval()


def example(name: str) -> tuple[Any, ...]:
    """Return arguments in double precision."""
    generator = torch.Generator().manual_seed(1)
    options: dict[str, Any] = {"generator": generator, "dtype": torch.float64}
    if name in DETECTORS:
        return ([torch.rand(3, 96, 128, **options), torch.rand(3, 96, 96, **options)],)
    if name in VIDEO:
        size = SIZES.get(name, 48)
        return (torch.rand(1, 3, 16, size, size, **options),)
    size = 32 if name in OWN else SIZES.get(name, 64)
    return (torch.rand(2, 3, size, size, **options),)


def watched(name: str, model: nn.Module) -> list[str]:
    """Return the paths of a detector's heads, which run before the best boxes are selected."""
    if name not in DETECTORS:
        return []
    paths = ["head", "rpn.head"]
    paths += [f"roi_heads.{kind}_predictor" for kind in ("box", "mask", "keypoint")]
    modules = dict(model.named_modules())
    return [path for path in paths if path in modules]
