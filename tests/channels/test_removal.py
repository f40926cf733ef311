from __future__ import annotations

import pytest
import torch
from torch import nn

from prunebench.channels.removal import kept_units, mask, remove, slice_tensor, slicing
from prunebench.channels.trace.tracer import trace
from prunebench.channels.verify import largest_difference, randomized, verify
from prunebench.core.errors import ModelError
from tests.channels.conftest import named

NETS = [
    "residual_net",
    "option_a_net",
    "concat_net",
    "depthwise_net",
    "relu_before_norm_net",
    "group_norm_net",
    "transposed_net",
    "grouped_net",
    "shuffle_net",
]


def units(*numbers):
    return torch.tensor(numbers, dtype=torch.int64)


def every_second(graph):
    return {name: torch.arange(1, group.n_units, 2) for name, group in graph.groups.items()}


@pytest.fixture(params=NETS)
def net(request):
    return randomized(request.getfixturevalue(request.param), seed=0)


@pytest.fixture
def example():
    return torch.rand(2, 3, 8, 8, dtype=torch.float64)


def test_kept_units_are_sorted():
    assert kept_units(5, units(3, 0)).tolist() == [1, 2, 4]


def test_units_may_be_lists(residual_net, example):
    model = randomized(residual_net, seed=0)
    graph = trace(model, example)
    name = next(iter(graph.groups))
    for do in (mask, remove):
        a, b = (do(model, graph, {name: own}) for own in ([0, 2], units(0, 2)))
        assert all(map(torch.equal, a.state_dict().values(), b.state_dict().values()))
    with pytest.raises(ValueError, match="listed twice"):
        remove(model, graph, {name: [0, 0]})


def test_slice_tensor_applies_every_cut():
    cuts = [(0, units(1)), (1, units(0, 2))]
    assert slice_tensor(torch.arange(6).reshape(2, 3), cuts).tolist() == [[3, 5]]


def test_slice_tensor_keeps_channels_last():
    weight = torch.rand(4, 4, 3, 3).to(memory_format=torch.channels_last)
    assert slice_tensor(weight, [(0, units(1, 2))]).is_contiguous(memory_format=torch.channels_last)


def test_slicing_lists_kept_slices_by_parameter(two_layer_net):
    graph = trace(two_layer_net, torch.ones(1, 1, 1, 1))
    cuts = slicing(graph, {"first": units(1)})
    assert {name: [(d, k.tolist()) for d, k in some] for name, some in cuts.items()} == {
        "first.weight": [(0, [0, 2])],
        "first.bias": [(0, [0, 2])],
        "second.weight": [(1, [0, 2])],
    }


def test_removed_unit_takes_its_row_bias_and_column(two_layer_net):
    graph = trace(two_layer_net, torch.ones(1, 1, 1, 1))
    smaller = remove(two_layer_net, graph, {"first": units(1)})
    assert smaller.first.weight.flatten().tolist() == [0, 2]
    assert smaller.first.bias.tolist() == [0, 2]
    assert smaller.second.weight.flatten().tolist() == [0, 2, 3, 5]
    assert (smaller.first.out_channels, smaller.second.in_channels) == (2, 2)
    # x = 1: channels 0+0 and 2+2, so 0*0 + 2*4 and 3*0 + 5*4
    assert smaller(torch.ones(1, 1, 1, 1)).flatten().tolist() == [8, 20]


def test_removed_channel_takes_all_its_columns(flatten_net):
    graph = trace(flatten_net, torch.ones(1, 1, 2, 2))
    smaller = remove(flatten_net, graph, {"conv": units(0, 2)})
    assert smaller.fc.weight.tolist() == [[4, 5, 6, 7], [16, 17, 18, 19]]
    assert smaller.fc.in_features == 4


def test_mask_zeroes_only_the_columns_that_read_the_units(two_layer_net):
    graph = trace(two_layer_net, torch.ones(1, 1, 1, 1))
    masked = mask(two_layer_net, graph, {"first": units(1)})
    assert masked.second.weight.flatten().tolist() == [0, 0, 2, 3, 0, 5]
    assert masked.first.weight.flatten().tolist() == [0, 1, 2]
    assert two_layer_net.second.weight.flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_masked_equals_removed(net, example):
    graph = trace(net, example)
    plan = every_second(graph)
    assert graph.groups
    assert largest_difference(mask(net, graph, plan), remove(net, graph, plan), example) < 1e-9


def test_instance_norm_loses_its_channels_too(instance_norm_net, example):
    net = randomized(instance_norm_net, seed=0)
    graph = trace(net, example)
    smaller = remove(net, graph, {"conv": units(1, 4)})
    assert smaller.norm.num_features == 3
    assert largest_difference(mask(net, graph, {"conv": units(1, 4)}), smaller, example) < 1e-9


def test_groups_keep_their_names_through_removals(net, example):
    graph = trace(net, example)
    again = trace(remove(net, graph, every_second(graph)), example)
    expected = {name: (g.role, (g.n_units + 1) // 2) for name, g in graph.groups.items()}
    assert {name: (g.role, g.n_units) for name, g in again.groups.items()} == expected


def test_groups_keep_their_names_down_to_one_unit(net, example):
    graph = trace(net, example)
    plan = {name: torch.arange(1, group.n_units) for name, group in graph.groups.items()}
    again = trace(remove(net, graph, plan), example)
    assert {name: g.n_units for name, g in again.groups.items()} == dict.fromkeys(graph.groups, 1)


def test_removal_twice_equals_removal_at_once(net, example):
    graph = trace(net, example)
    once = remove(
        net, graph, {name: units(0, 1) for name, g in graph.groups.items() if g.n_units > 2}
    )
    smaller = net
    for _ in range(2):
        graph_now = trace(smaller, example)
        first = {name: units(0) for name, g in graph.groups.items() if g.n_units > 2}
        smaller = remove(smaller, graph_now, first)
    pairs = zip(once.state_dict().values(), smaller.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(
    ("removed", "pads"),
    [
        ({"conv1": units(0)}, [(1, 2), (4, 4)]),  # conv1 unit 0 is the first zero on the left
        ({"conv1": units(2, 3)}, [(2, 0), (4, 4)]),
        ({"conv2": units(0, 1, 2, 7)}, [(2, 2), (1, 3)]),
        ({"stem": units(0, 1)}, [(2, 2), (4, 4)]),
    ],
)
def test_pads_shrink_on_the_side_that_lost_units(option_a_net, removed, pads):
    graph = trace(option_a_net, torch.ones(1, 3, 8, 8))
    smaller = remove(option_a_net, graph, removed)
    assert [smaller.pad1.padding[4:], smaller.pad2.padding[4:]] == pads
    assert smaller(torch.ones(1, 3, 8, 8)).shape == (1, 5)


def test_removing_groups_of_a_convolution_corrects_their_number(grouped_net, example):
    graph = trace(grouped_net.double(), example, grouped="whole")
    conv = remove(grouped_net, graph, {"stem": units(2)}).grouped
    assert (conv.groups, conv.in_channels, conv.out_channels) == (3, 6, 9)


def test_removing_inside_all_groups_leaves_their_number(grouped_net, example):
    graph = trace(grouped_net.double(), example, grouped="local")
    plan = {"stem": units(0), "grouped": units(1)}
    smaller = remove(grouped_net, graph, plan)
    conv = smaller.grouped
    assert (conv.groups, conv.in_channels, conv.out_channels) == (4, 4, 8)
    assert largest_difference(mask(grouped_net, graph, plan), smaller, example) < 1e-9


def test_removing_norm_groups_corrects_their_number(group_norm_net):
    graph = trace(group_norm_net, torch.ones(1, 3, 4, 4))
    norm = remove(group_norm_net, graph, {"conv": units(1)}).norm
    assert (norm.num_groups, norm.num_channels) == (2, 4)


def test_original_and_its_memory_are_untouched(net, example):
    graph = trace(net, example)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    pointers = {tensor.data_ptr() for tensor in net.state_dict().values()}
    smaller = remove(net, graph, every_second(graph))
    with torch.no_grad():
        for parameter in smaller.parameters():
            parameter.fill_(7)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert not pointers & {tensor.data_ptr() for tensor in smaller.state_dict().values()}


def test_flags_hooks_and_attributes_survive(residual_net):
    residual_net.first.weight.requires_grad_(False)
    residual_net.first.weight.origin = "drawn"
    residual_net.second.register_forward_hook(lambda *_: None)
    residual_net.note = "mine"
    residual_net.norm.eval()
    graph = trace(residual_net, torch.ones(1, 3, 4, 4))
    smaller = remove(residual_net, graph, {"first": units(0)})
    assert not smaller.first.weight.requires_grad
    assert smaller.second.weight.requires_grad
    assert smaller.first.weight.origin == "drawn"
    assert len(smaller.second._forward_hooks) == 1
    assert smaller.note == "mine"
    assert (smaller.training, smaller.norm.training) == (True, False)
    assert smaller.norm.num_features == 5


def test_removal_in_place_returns_the_model_itself(two_layer_net):
    graph = trace(two_layer_net, torch.ones(1, 1, 1, 1))
    assert remove(two_layer_net, graph, {"first": units(1)}, in_place=True) is two_layer_net
    assert two_layer_net.first.weight.shape == (2, 1, 1, 1)


def test_shared_parameter_stays_shared(two_layer_net):
    two_layer_net.twin = torch.nn.Module()
    two_layer_net.twin.weight = two_layer_net.first.weight
    two_layer_net.forward = lambda x: two_layer_net.second(two_layer_net.first(x))
    graph = trace(two_layer_net, torch.ones(1, 1, 1, 1))
    remove(two_layer_net, graph, {"first": units(1)}, in_place=True)
    assert two_layer_net.twin.weight is two_layer_net.first.weight


def test_removing_nothing_copies_the_network(two_layer_net):
    graph = trace(two_layer_net, torch.ones(1, 1, 1, 1))
    smaller = remove(two_layer_net, graph, {"first": units()})
    assert smaller is not two_layer_net
    assert smaller.first.weight.shape == (3, 1, 1, 1)


def test_group_that_would_lose_everything_is_named(two_layer_net):
    graph = trace(two_layer_net, torch.ones(1, 1, 1, 1))
    with pytest.raises(ModelError, match="'first' would lose all of its 3 units"):
        remove(two_layer_net, graph, {"first": units(0, 1, 2)})


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ({"frist": units(0)}, "unknown group 'frist'"),
        ({"second": units(0)}, "'second' cannot be pruned: is an output"),
        ({"first": units(3)}, "'first' has 3 units, no unit 3"),
        ({"first": units(0, 0)}, "listed twice"),
    ],
)
@pytest.mark.parametrize("operation", [mask, remove])
def test_impossible_units_are_refused(two_layer_net, operation, removed, message):
    graph = trace(two_layer_net, torch.ones(1, 1, 1, 1))
    with pytest.raises(ValueError, match=message):
        operation(two_layer_net, graph, removed)


@pytest.mark.parametrize("operation", [mask, remove])
@pytest.mark.parametrize("in_place", [True, False])
def test_graph_of_the_network_before_a_removal_is_refused(net, example, operation, in_place):
    graph = trace(net, example)
    plan = {next(iter(graph.groups)): units(0)}
    smaller = remove(net, graph, plan, in_place=in_place)
    with pytest.raises(ModelError, match="trace the network again"):
        operation(smaller, graph, plan)


@pytest.mark.parametrize("operation", [mask, remove])
def test_graph_of_another_network_is_refused(two_layer_net, operation):
    graph = trace(two_layer_net, torch.ones(1, 1, 1, 1))
    with pytest.raises(ModelError, match=r"'0\.first\.weight' is .*, was missing; trace the"):
        operation(nn.Sequential(two_layer_net), graph, {"first": units(1)})
    two_layer_net.second = nn.Conv2d(4, 2, 1, bias=False)
    with pytest.raises(ModelError, match=r"is \(2, 4, 1, 1\), was \(2, 3, 1, 1\); trace the"):
        operation(two_layer_net, graph, {"first": units(1)})


@pytest.mark.parametrize(
    ("groups", "in_group", "group", "removed", "sizes"),
    [
        (4, 3, "first", [0, 1], {"first": 2}),  # whole groups: 2 of them left, with 3 places each
        (3, 4, "first", [1, 2], {"first": 2, "layer": 2}),  # the same place in 3 groups
        (3, 4, "first", [0, 1, 3], {"first": 1, "layer": 2}),  # a single place is left in each
    ],
)
def test_grouped_convolution_keeps_its_kind_of_units(groups, in_group, group, removed, sizes):
    net = named(
        first=nn.Conv2d(3, groups * in_group, 1),
        layer=nn.Conv2d(groups * in_group, 2 * groups, 3, groups=groups),
        last=nn.Conv2d(2 * groups, 2, 1),
    )
    x = torch.rand(1, 3, 5, 5)
    smaller = remove(net, trace(net, x), {group: units(*removed)})
    graph = trace(smaller, x)
    assert {name: g.n_units for name, g in graph.groups.items()} == sizes
    assert verify(smaller, x).broken == {}


def test_a_step_of_the_smaller_network_leaves_the_original_alone(net, example):
    graph = trace(net, example)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    smaller = remove(net, graph, every_second(graph)).train()
    optimizer = torch.optim.SGD(smaller.parameters(), lr=0.1, momentum=0.9)
    smaller(example).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert any(
        not torch.equal(a, b)
        for a, b in zip(
            smaller.state_dict().values(),
            remove(net, graph, every_second(graph)).state_dict().values(),
            strict=True,
        )
    )


def test_optimizer_state_is_cut_like_its_parameter(two_layer_net):
    graph = trace(two_layer_net, torch.ones(1, 1, 1, 1))
    state = {name: torch.rand_like(p) for name, p in two_layer_net.named_parameters()}
    cuts = slicing(graph, {"first": units(1)})
    cut = {name: slice_tensor(buffer, cuts.get(name, [])) for name, buffer in state.items()}
    smaller = remove(two_layer_net, graph, {"first": units(1)})
    assert {name: b.shape for name, b in cut.items()} == {
        name: p.shape for name, p in smaller.named_parameters()
    }
    assert torch.equal(cut["second.weight"], state["second.weight"][:, [0, 2]])
