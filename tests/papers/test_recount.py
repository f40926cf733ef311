"""Structures from recipes: kept units, and the counts of the resulting networks."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunebench.core.errors import ModelError
from prunebench.measure.layer_counts import count_layers
from prunebench.papers import recount as structures
from prunebench.papers.conventions import fpgm_imagenet
from prunebench.papers.cost_rules import QUANTITIES
from prunebench.papers.recount import (
    count,
    count_all,
    count_layer_params,
    count_params_per_call,
    kept_units,
)
from prunebench.papers.structures import CountedStructure, Cut, Formula, Thinned

RESNET56 = {"architecture": "resnet56", "num_classes": 10, "image": (3, 32, 32)}
RESNET50 = {"architecture": "resnet50", "num_classes": 1000, "image": (3, 224, 224)}


def test_every_named_quantity_is_counted() -> None:
    assert {*structures.OF_LAYERS, *structures.OF_MODELS} == set(QUANTITIES)
    assert set(count(CountedStructure(**RESNET56))) == set(QUANTITIES)


@pytest.mark.parametrize(
    ("ratio", "kept"), [(0.0, 16), (0.5, 8), (0.9, 1), (0.95, 1), (0.99, 1), (0.3, 11)]
)
def test_ceil_of_the_ratio_leaves_and_one_stays(ratio: float, kept: int) -> None:
    assert kept_units({"a": 16}, [Thinned(groups=("a",), ratio=ratio)]) == {"a": kept}


@pytest.mark.parametrize(("keep", "kept"), [(0.6, 9), (0.25, 4), (0.05, 1), (1.0, 16)])
def test_int_of_the_keep_ratio_stays_and_at_least_one(keep: float, kept: int) -> None:
    assert kept_units({"a": 16}, [Thinned(groups=("a",), keep=keep)]) == {"a": kept}


def test_a_published_width_stays() -> None:
    entries = [Thinned(groups=("a",), units=11)]
    assert kept_units({"a": 16, "b": 16}, entries) == {"a": 11}


def test_the_first_entry_that_fits_a_group_counts() -> None:
    entries = [Thinned(groups=("*.0.conv1",), ratio=0), Thinned(groups=("*.conv1",), ratio=0.5)]
    groups = {"stages.0.conv1": 8, "stages.1.conv1": 8, "conv1": 8}
    assert kept_units(groups, entries) == {"stages.0.conv1": 8, "stages.1.conv1": 4}


def test_a_pattern_without_a_group_is_refused() -> None:
    with pytest.raises(ModelError, match=r"no channel group is called stages\.\*\.conv9"):
        count(CountedStructure(**RESNET56, thinned=(Thinned(groups=("stages.*.conv9",), keep=1),)))


@pytest.mark.parametrize(
    ("ratios", "macs", "params"),
    [
        ((0.5, 0.5, 0.5), 62_964_352, 428_074),
        ((0.925, 0.925, 0.925), 8_258_176, 56_248),
    ],
)
def test_resnet56_of_greg(ratios: tuple[float, ...], macs: int, params: int) -> None:
    thinned = tuple(
        Thinned(groups=(f"stages.{stage}.*.conv1",), ratio=ratio)
        for stage, ratio in enumerate(ratios)
    )
    counted = count(CountedStructure(**RESNET56, thinned=thinned))
    assert (counted["macs"], counted["two_per_mac"]) == (macs, 2 * macs)
    assert counted["params"] == params


@pytest.mark.parametrize(
    ("first", "third", "last", "macs", "layer_params"),
    [
        (0.3, 0.3, 0.14, 2_745_566_232, 19_587_106),
        (0.6, 0.6, 0.21, 1_771_649_680, 15_887_711),
        (0.74, 0.6, 0.21, 1_594_769_872, 15_742_100),
        (0.68, 0.68, 0.5, 1_334_871_128, 11_037_390),
    ],
)
def test_resnet50_of_greg(
    first: float, third: float, last: float, macs: int, layer_params: int
) -> None:
    thinned = (
        Thinned(groups=("stages.[01].*.conv[12]",), ratio=first),
        Thinned(groups=("stages.2.*.conv[12]",), ratio=third),
        Thinned(groups=("stages.3.*.conv[12]",), ratio=last),
    )
    counted = count(CountedStructure(**RESNET50, thinned=thinned))
    assert counted["macs"] == macs
    assert counted["layer_params"] == layer_params


def test_resnet34_of_greg_skips_five_blocks() -> None:
    whole = ("stages.0.0.conv1", "stages.1.[03].conv1", "stages.2.[05].conv1")
    thinned = (
        Thinned(groups=whole, ratio=0),
        Thinned(groups=("stages.0.*.conv1",), ratio=0.5),
        Thinned(groups=("stages.1.*.conv1",), ratio=0.6),
        Thinned(groups=("stages.2.*.conv1",), ratio=0.4),
    )
    structure = CountedStructure(**{**RESNET50, "architecture": "resnet34"}, thinned=thinned)
    assert count(structure)["macs"] == 2_782_269_440


@pytest.mark.parametrize(
    ("architecture", "quantity", "flops"),
    [
        ("vgg13", "ptflops_modules", 229_437_440),  # its ReLUs and pools are modules
        ("mobilenet_v1", "ptflops", 47_269_888),
        ("resnet34_cifar", "ptflops", 1_161_496_576),
    ],
)
def test_base_networks_of_orthoreg(architecture: str, quantity: str, flops: int) -> None:
    structure = CountedStructure(architecture=architecture, num_classes=100, image=(3, 32, 32))
    assert count(structure)[quantity] == flops


def test_a_closed_form_counts_convolutions_only() -> None:
    formula = Formula(name="sfp_cifar", depth=56, keep=0.6)
    counted = count(CountedStructure(**RESNET56, formula=formula))
    assert counted == {"conv_macs": pytest.approx(59_436_564.5, abs=0.1)}


@pytest.mark.parametrize(
    ("depth", "keep", "reduction"),
    [(18, 0.7, 41.8), (34, 0.7, 41.1), (50, 0.7, 42.2), (50, 0.6, 53.5), (101, 0.7, 44.1)],
)
def test_reductions_of_fpgm_on_imagenet(depth: int, keep: float, reduction: float) -> None:
    whole = fpgm_imagenet(depth, 1)
    assert round(100 * (1 - fpgm_imagenet(depth, keep) / whole), 1) == reduction


def test_bottlenecks_of_fpgm_are_whole_at_ratio_1() -> None:
    # the stride on the 1x1 convolutions: IncReg's count of the Caffe network
    assert fpgm_imagenet(50, 1) == 3_855_925_248


def test_an_unknown_depth_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of 18, 34, 50, 101"):
        fpgm_imagenet(152, 0.7)


@pytest.fixture
def two_convolutions() -> nn.Module:
    """Convolutions of 9 and 10 columns on a 2x2 output, and a linear layer with three biases."""
    with torch.device("meta"):
        return nn.Sequential(
            nn.Conv2d(1, 10, 3), nn.Conv2d(10, 4, 1), nn.Flatten(), nn.Linear(16, 3)
        )


def test_cut_filters_stay_inputs_of_the_next_layer(two_convolutions: nn.Module) -> None:
    counted = structures._count_cut(
        two_convolutions, (1, 4, 4), Cut(what="filters", ratios={"0": 0.25})
    )
    # int(2.5) of ten filters are not counted
    assert counted["conv_macs"] == 8 * 9 * 4 + 4 * 10 * 4
    assert counted["macs"] == counted["conv_macs"] + 48
    assert counted["layer_params"] == 8 * 9 + 4 * 10 + 48 + 3


def test_cut_columns_are_rounded_up(two_convolutions: nn.Module) -> None:
    cut = Cut(what="columns", ratios={"0": 0.25, "*": 0.5}, times=1.2)
    counted = structures._count_cut(two_convolutions, (1, 4, 4), cut)
    # ceil(0.3 x 9) of nine columns and ceil(0.6 x 10) of ten are removed
    assert counted["conv_macs"] == 10 * 6 * 4 + 4 * 4 * 4


def test_a_pattern_without_a_convolution_is_refused() -> None:
    cut = Cut(what="filters", ratios={"stages.*.conv9": 0.5})
    with pytest.raises(ModelError, match=r"no convolution is called stages\.\*\.conv9"):
        count(CountedStructure(**RESNET56, cut=cut))


@pytest.mark.parametrize(
    ("keep", "operations", "params"),
    [
        (0.7, 4_880_149_800, 16_944_246),
        (0.5, 3_412_943_872, 12_380_864),
        (0.3, 2_195_070_102, 8_664_318),
    ],
)
def test_resnet50_of_thinet(keep: float, operations: int, params: int) -> None:
    thinned = (Thinned(groups=("stages.*.conv[12]",), keep=keep),)
    network = RESNET50 | {"architecture": "resnet50_caffe"}
    counted = count(CountedStructure(**network, thinned=thinned))
    assert (counted["thinet"], counted["params_without_biases"]) == (operations, params)


def test_layer_params_leave_norms_and_convolutions_biases_out() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(2, 3)
    )
    assert count_layer_params(net) == 18 + 6 + 3


def test_params_per_call_count_a_shared_layer_twice() -> None:
    shared = nn.Linear(2, 2)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert count_params_per_call(net, torch.zeros(1, 2)) == 2 * 6


def test_quantities_on_a_network_counted_by_hand(small_net: nn.Module, image: Tensor) -> None:
    layers = count_layers(small_net, image)
    counted = {name: of(layers) for name, of in structures.OF_LAYERS.items()}
    # conv 288 and 32; norm 32 elements; linear 3 outputs; average pool of 4 elements, 4 outputs
    assert counted["norm2_conv_macs"] == 288 + 32 + 2 * 32
    assert counted["thop2_average_free"] == counted["thop2"] - 4 * 4
    # 12 multiply-accumulates of the linear layer, two channels of batch norm
    assert counted["thinet"] == 2 * (288 + 32 + 12) + 4 * 2
    assert structures.count_biases(small_net) == 4 + 3
    assert counted["outputs"] == 2 * 16 + 4 * 4 + 3


def test_several_processes_count_the_same_as_one() -> None:
    some = [
        CountedStructure(**RESNET56),
        CountedStructure(**{**RESNET56, "architecture": "resnet20"}),
    ]
    counted = count_all(some, workers=2)
    assert counted == count_all(some)
    assert [counted[structure]["params"] for structure in some] == [853_018, 269_722]
