from __future__ import annotations

import pytest
import torch
import torchvision

from prunebench.channels.selections import check_rule, select_groups, select_layers
from prunebench.channels.trace.tracer import trace
from prunebench.core.errors import ConfigError
from prunebench.models import registry


@pytest.fixture(scope="module")
def resnet20():
    return trace(registry.build("resnet20", num_classes=5), torch.rand(1, 3, 8, 8))


@pytest.fixture(scope="module")
def resnet50():
    return trace(torchvision.models.resnet50(), torch.rand(1, 3, 32, 32))


@pytest.fixture(scope="module")
def mobilenet_v3():
    return trace(torchvision.models.mobilenet_v3_small(), torch.rand(1, 3, 32, 32))


def layers(graph, *rules):
    return [weight.removesuffix(".weight") for weight in select_layers(graph, rules)]


def test_first_convolutions_of_basic_blocks(resnet20):
    expected = [f"stages.{stage}.{block}.conv1" for stage in range(3) for block in range(3)]
    assert layers(resnet20, "first_convolutions") == expected
    assert list(select_groups(resnet20, ["first_convolutions"])) == expected


def test_inner_layers_of_bottlenecks(resnet50):
    chosen = select_groups(resnet50, ["first", "middle"])
    assert len(chosen) == 2 * 16
    assert {name.rpartition(".")[2] for name in chosen} == {"conv1", "conv2"}


def test_a_stream_is_chosen_with_all_its_producers_only(resnet50):
    assert "layer2.0.conv3" in resnet50.groups
    assert list(select_groups(resnet50, ["last"])) == []  # each stream has a shortcut's units too
    streams = [f"layer{stage}.0.conv3" for stage in (1, 2, 3, 4)]
    assert list(select_groups(resnet50, ["last", "shortcut"])) == streams


def test_excluded_layers_exclude_the_groups_they_belong_to(resnet50):
    everything = list(select_groups(resnet50, ["stem", "stream", "inside"]))
    assert everything == list(resnet50.groups)
    chosen = select_groups(resnet50, ["convolutions", "not shortcut"])
    assert set(everything) - set(chosen) == {f"layer{stage}.0.conv3" for stage in (1, 2, 3, 4)}
    assert list(select_groups(resnet50, ["except_shortcuts"])) == list(chosen)


def test_all_convolutions_but_shortcuts(resnet50):
    chosen = layers(resnet50, "except_shortcuts")
    assert len(chosen) == 53 - 4
    assert not [path for path in chosen if "downsample" in path]
    assert len(layers(resnet50, "convolutions")) == 53
    assert chosen == layers(resnet50, "convolutions", "not shortcut")


def test_patterns_select_and_exclude_layers(resnet20):
    assert layers(resnet20, "stages.1.0.*") == ["stages.1.0.conv1", "stages.1.0.conv2"]
    assert layers(resnet20, "conv1") == ["conv1"]  # a path, exactly
    skipped = layers(resnet20, "first_convolutions", "not stages.[01].*")
    assert skipped == [f"stages.2.{block}.conv1" for block in range(3)]


def test_order_matters(resnet20):
    assert layers(resnet20, "not stem", "stem") == ["conv1"]
    assert layers(resnet20, "stem", "not stem") == []


def test_roles_of_groups_hold_for_layers_too(resnet20):
    assert layers(resnet20, "inside") == layers(resnet20, "first")
    assert set(layers(resnet20, "stream")) == set(layers(resnet20, "stem", "last"))
    # in a residual network the stem's units are part of the stream
    assert list(select_groups(resnet20, ["stem"])) == []


def test_kinds_are_rules(mobilenet_v3):
    assert len(layers(mobilenet_v3, "depthwise")) == 11
    assert all(path.endswith((".1.0", ".0.0")) for path in layers(mobilenet_v3, "depthwise"))


def test_gates_count_only_where_nothing_else_produces_the_units(mobilenet_v3):
    chosen = select_groups(mobilenet_v3, ["first_convolutions"])
    assert "features.5.block.2.fc2.weight" in chosen["features.5.block.0.0"].producers
    squeezed = "features.5.block.2.fc1"
    assert squeezed in mobilenet_v3.groups
    assert squeezed not in chosen
    assert squeezed in select_groups(mobilenet_v3, ["gate"])


def test_a_role_can_be_narrowed(resnet20):
    chosen = select_groups(resnet20, ["inside", "not stages.0.*"])
    assert {name.split(".")[1] for name in chosen} == {"1", "2"}
    assert select_groups(resnet20, ["stream", "not conv1"]).keys() == {
        "stages.1.0.conv2",
        "stages.2.0.conv2",
    }


@pytest.mark.parametrize("choose", [select_layers, select_groups])
@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("insied", "unknown role 'insied'; did you mean inside"),
        ("not shortcuts", "unknown role 'shortcuts'; did you mean shortcut"),
        ("layer9.*", r"role 'layer9.\*' matches no layer of the network"),
    ],
)
def test_rules_that_mean_nothing_are_refused(resnet20, choose, rule, message):
    with pytest.raises(ConfigError, match=message):
        choose(resnet20, [rule])


def test_rules_are_checked_without_a_network():
    check_rule("not layer9.*")
    check_rule("first")
    with pytest.raises(ConfigError, match="unknown role 'conv1'"):
        check_rule("conv1")
