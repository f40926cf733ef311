from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import prunebench as pb
from prunebench.core.errors import ConfigError, DataError, ModelError, TrainingError
from prunebench.criteria.registry import CRITERIA
from tests.own_network.own_networks import (
    ReadsItsWidth,
    batches,
    classifier,
    images,
    unet,
    unet_inputs,
)

ALL = ["stem", "conv", "head.0"]  # the groups of `classifier`


def test_the_ratio_is_reached_and_the_outputs_prove_it() -> None:
    result = pb.prune(classifier(), images(), ratio=0.5)
    assert 0.5 <= result.achieved < 0.6
    assert result.deviation < 1e-14
    assert result.macs.removed == result.achieved
    assert not result.model.training
    assert result.model(images(3)).shape == (3, 4)


def test_the_given_network_stays_as_it_is() -> None:
    model = classifier().train()
    model.conv.weight.requires_grad_(False)
    before = copy.deepcopy(model.state_dict())
    result = pb.prune(model, images(), criterion="fisher", ratio=0.5, data=batches())
    assert model.training
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    trained = {name: p.requires_grad for name, p in result.model.named_parameters()}
    assert trained == {name: p.requires_grad for name, p in model.named_parameters()}


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("allocation", ["uniform", "global"])
def test_every_criterion_prunes_to_the_ratio(criterion: str, allocation: str) -> None:
    model = nn.Sequential(classifier().stem, classifier().norm, nn.ReLU(), nn.Conv2d(8, 4, 3))
    model.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten())
    result = pb.prune(
        model, images(), criterion=criterion, ratio=0.3, allocation=allocation, data=batches()
    )
    assert result.achieved >= 0.3
    assert result.deviation < 1e-14


def test_the_criterion_decides_which_units_are_removed() -> None:
    model = classifier()
    with torch.no_grad():
        model.stem.weight[[1, 5]] *= 1e-3
    result = pb.prune(model, images(), ratios={"stem": 0.25})
    assert {name: units.tolist() for name, units in result.removed.items()} == {"stem": [1, 5]}


@pytest.mark.parametrize(
    ("kind", "kept"),
    [("units_per_group", [4, 8, 6]), ("units_global", None), ("params", None), ("macs", None)],
)
def test_a_ratio_counts_what_its_kind_says(kind: str, kept: list[int] | None) -> None:
    result = pb.prune(classifier(), images(), ratio=0.5, ratio_kind=kind)
    assert result.achieved >= 0.5
    if kept is not None:
        assert [len(group.kept) for group in result.groups] == kept
    if kind == "params":
        assert result.params.removed == result.achieved


def test_widths_are_rounded_and_the_ratio_still_reached() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 64, 3), nn.Conv2d(64, 2, 3))
    result = pb.prune(model, images(), ratio=0.45, round_to=8)
    assert all(len(group.kept) % 8 == 0 for group in result.groups)
    assert result.achieved >= 0.45
    with pytest.raises(TrainingError, match=r"ratio 0\.99 of the MACs .* the largest is 0\.9"):
        pb.prune(model, images(), ratio=0.99, round_to=8)


@pytest.mark.parametrize("pattern", ["head", "head.*", "head.0", "h*.0"])
def test_named_modules_keep_their_channels(pattern: str) -> None:
    result = pb.prune(classifier(), images(), ratio=0.3, keep=[pattern])
    assert [group.name for group in result.groups] == ["stem", "conv"]
    assert result.model.head[0].out_features == 12
    assert result.frozen["head.0"] == f"kept whole by keep={pattern!r}"


def test_a_norm_names_its_group() -> None:
    result = pb.prune(classifier(), images(), ratio=0.3, keep=["norm"])
    assert result.model.stem.out_channels == 8


def test_ratios_by_group() -> None:
    result = pb.prune(classifier(), images(), ratios={"stem": 0.5, "head.*": 0.25})
    assert [len(group.kept) for group in result.groups] == [4, 16, 9]
    assert (result.requested, result.achieved) == (None, None)


def test_a_network_of_two_inputs_and_two_outputs() -> None:
    def loss(outputs: tuple[torch.Tensor, torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        return outputs[0].square().mean() + (outputs[1] - target).square().mean()

    data = [(*unet_inputs(2), torch.ones(2, 1)), (unet_inputs(3), torch.ones(3, 1))]
    for criterion in ("l1", "fisher", "mask_fisher"):
        result = pb.prune(
            unet(), unet_inputs(), criterion=criterion, ratio=0.5, data=data, loss=loss
        )
        assert result.achieved >= 0.5
        assert result.deviation < 1e-13
        masks, score = result.model(*unet_inputs(2))
        assert (masks.shape, score.shape) == ((2, 2, 16, 16), (2, 1))


def test_the_loss_decides_the_gradients() -> None:
    def kept(loss) -> list[int]:
        result = pb.prune(
            classifier(), images(), criterion="taylor", ratios={"conv": 0.5}, data=batches(),
            loss=loss,
        )  # fmt: skip
        return result.groups[1].kept.tolist()

    def cross_entropy(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(outputs, labels)

    assert kept(None) == kept(cross_entropy)
    assert kept(None) != kept(lambda outputs, labels: outputs[:, 3].square().mean())


def test_a_network_can_be_pruned_again() -> None:
    model = classifier()
    first = pb.prune(model, images(), ratios={"stem": 0.5})
    second = pb.prune(first.model, images(), ratios={"stem": 0.5, "conv": 0.5})
    left = first.groups[0].kept[second.groups[0].kept]
    assert vars(second.model)["first_groups"]["stem"].kept == tuple(left.tolist())
    weight = model.stem.weight[left]
    assert torch.equal(second.model.stem.weight, weight)


def test_a_group_whose_removal_changes_the_outputs_stays_whole() -> None:
    torch.manual_seed(0)
    result = pb.prune(ReadsItsWidth(), images(), ratio=0.3)
    assert [group.name for group in result.groups] == ["second"]
    assert "changes the output by" in result.frozen["first"]
    assert result.deviation < 1e-14


def test_the_report_says_what_was_done_and_why_not_more() -> None:
    text = str(pb.prune(classifier(), images(), ratio=0.5, keep=["head"]))
    first, macs, *_ = text.splitlines()
    assert first.startswith("Classifier · l1 · 0.5 of the MACs, 0.5")
    assert "×)" in macs
    assert "masked = removed to" in text
    assert "stem" in text
    assert "kept whole by keep='head': head.0" in text
    assert "is an output of the network: head.2" in text


def test_nothing_is_removed_at_ratio_0() -> None:
    result = pb.prune(classifier(), images(), ratio=0.0)
    assert (result.achieved, result.deviation, result.removed) == (0.0, None, {})
    assert "nothing was removed" in str(result)


def test_a_notebook_shows_the_report() -> None:
    result = pb.prune(classifier(), images(), ratio=0.5)
    assert repr(result) == str(result)


def test_the_removed_units_are_a_plan_of_the_engine() -> None:
    model = classifier()
    result = pb.prune(model, images(), ratio=0.5)
    graph = pb.trace(model, images())
    smaller = pb.remove(model, graph, result.removed).eval()
    masked = pb.mask(model, graph, result.removed).eval()
    assert torch.equal(smaller(images(2)), result.model(images(2)))
    torch.testing.assert_close(masked(images(2)), smaller(images(2)))
    assert set(result.frozen) == set(graph.frozen)


def test_the_table_lists_the_groups() -> None:
    table = pb.prune(classifier(), images(), ratios={"stem": 0.5}).table
    assert table["group"].tolist() == ALL
    assert table["removed"].tolist() == [4, 0, 0]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ConfigError, "ratio: missing"),
        ({"ratio": 1.0}, ConfigError, r"ratio: 1\.0 is not in \[0, 1\)"),
        ({"ratio": 0.5, "ratios": {"*": 0.5}}, ConfigError, "exclude each other"),
        ({"ratio": 0.5, "criterion": "fischer"}, ConfigError, "'fischer'; did you mean fisher"),
        ({"ratio": 0.5, "ratio_kind": "flops"}, ConfigError, "unknown ratio_kind of l1 'flops'"),
        (
            {"ratio": 0.5, "keep": ["haed.*"]},
            ConfigError,
            r"keep: 'haed\.\*' matches no module; did",
        ),
        ({"ratio": 0.5, "keep": "head"}, ConfigError, "keep: 'head' is one text; give a list"),
        ({"ratio": 0.5, "keep": ["*"]}, ModelError, "no group of channels can be pruned"),
        (
            {"ratios": {"cnv": 0.5}},
            ConfigError,
            "'cnv' matches no prunable group; did you mean conv",
        ),
        ({"ratios": {"head.2": 0.5}}, ConfigError, "'head.2' cannot be pruned: is an output of"),
        ({"ratios": {"conv": 1.5}}, ConfigError, r"ratios: 'conv': 1\.5 is not in \[0, 1\)"),
        ({"ratio": 0.5, "sampels": 3}, ConfigError, "l1: unknown key 'sampels'"),
        ({"ratio": 0.5, "grouped": "al"}, ConfigError, "unknown value 'al'"),
        ({"ratio": 0.5, "criterion": "fisher"}, DataError, "needs images: pass data="),
        ({"ratio": 0.999}, TrainingError, "out of reach; the largest is 0.9"),
        (
            {"ratio": 0.9, "keep": ["conv"]},
            TrainingError,
            r"largest is 0\.8.* each of 2 groups; keep= leaves 1 groups whole",
        ),
        ({"ratio": 0.5, "classes": ["a", "b"]}, ConfigError, "2 names, but the network has 4"),
        ({"ratio": 0.5, "classes": "abcd"}, ConfigError, "'abcd' is one text; give a list"),
        ({"ratio": 0.5, "normalization": (0.5, 1)}, ConfigError, r"is not \(mean, std\)"),
        ({"ratio": 0.5, "normalization": ([0], [1])}, ConfigError, "for each of the 3 channels"),
    ],
)
def test_a_mistake_is_one_line(arguments, error, message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        pb.prune(classifier(), images(), **arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("model", "example", "error", "message"),
    [
        (print, images(), ConfigError, "model: <built-in function print> is no torch.nn.Module"),
        (classifier(), "photo.jpg", ModelError, "on \\('photo.jpg',\\), without any tensor: "),
        (classifier(), torch.rand(1, 4, 8, 8), ModelError, "to have 3 channels, but got 4"),
    ],
)
def test_a_network_that_does_not_run_is_one_line(model, example, error, message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        pb.prune(model, example, ratio=0.5)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (iter(batches()), "a generator can be read only once"),
        ([{"image": images()}], r"a batch is a dict, expected \(inputs, targets\)"),
        ([(images(), 1, 2)], "a batch has 3 parts"),
        ([images(2)], "a batch is a Tensor"),
    ],
)
def test_batches_of_another_form_are_refused(data, message: str) -> None:
    with pytest.raises(DataError, match=message):
        pb.prune(classifier(), images(), criterion="fisher", ratio=0.5, data=data)


def test_targets_that_do_not_fit_the_loss() -> None:
    data = [(images(2), torch.zeros(2, 7))]
    with pytest.raises(TrainingError, match=r"cross-entropy .* cannot be computed .* pass loss="):
        pb.prune(classifier(), images(), criterion="fisher", ratio=0.5, data=data)
    with pytest.raises(DataError, match="one label for each image"):
        pb.prune(classifier(), images(), criterion="grasp", ratio=0.5, data=data)
    with pytest.raises(TrainingError, match=r"tensor of one element, not \(2, 4\)"):
        pb.prune(
            classifier(), images(), criterion="fisher", ratio=0.5, data=data,
            loss=lambda outputs, targets: outputs,
        )  # fmt: skip


def test_only_as_many_images_are_read_as_the_criterion_wants() -> None:
    read = []

    class Loader:
        def __iter__(self):
            for batch in batches(5):
                read.append(len(batch[0]))
                yield batch

    pb.prune(classifier(), images(), criterion="fisher", ratio=0.5, data=Loader(), samples=6)
    assert sum(read) == 8  # two batches of 4
