"""Accuracies of the user: recalibration, the largest ratio, the scan over groups."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import prunebench as pb
from prunebench.core.errors import ConfigError, TrainingError
from prunebench.own_network.sensitivity_figure import draw
from tests.own_network.own_networks import ReadsItsWidth, batches, classifier, images


def width(model: nn.Module) -> float:
    """An accuracy that falls steadily: the number of the convolutions' weights, in thousands."""
    assert not model.training
    return (model.stem.weight.numel() + model.conv.weight.numel()) / 1000


def test_the_accuracy_before_and_after() -> None:
    result = pb.prune(classifier(), images(), ratios={"stem": 0.5}, evaluate=width)
    assert (result.accuracy.before, result.accuracy.after) == (1.368, 0.684)
    assert "accuracy    1.368 → 0.684" in str(result)


def test_batch_norm_is_estimated_again() -> None:
    model = classifier()
    plain = pb.prune(model, images(), ratios={"stem": 0.5})
    again = pb.prune(model, images(), ratios={"stem": 0.5}, recalibrate=batches(2))
    inputs = [again.model.stem(batch) for batch, _ in batches(2)]
    means = torch.stack([x.mean((0, 2, 3)) for x in inputs]).mean(0)
    torch.testing.assert_close(again.model.norm.running_mean, means)
    assert not torch.equal(plain.model.norm.running_mean, means)
    assert torch.equal(plain.model.stem.weight, again.model.stem.weight)
    bare = [batch for batch, _ in batches(2)]  # without targets
    third = pb.prune(model, images(), ratios={"stem": 0.5}, recalibrate=bare)
    assert torch.equal(third.model.norm.running_mean, again.model.norm.running_mean)


def test_only_some_images_are_read_for_batch_norm() -> None:
    read = 0

    class Loader:
        def __iter__(self):
            nonlocal read
            for batch in batches(40, size=100):
                read += 100
                yield batch

    pb.prune(classifier(), images(), ratios={"stem": 0.5}, recalibrate=Loader())
    assert read == 100 + 2100  # one batch for its size, then 2048 rounded up


def test_the_largest_ratio_whose_accuracy_holds() -> None:
    result = pb.prune(classifier(), images(), evaluate=width, max_drop=0.5)
    assert result.accuracy.after >= 1.368 - 0.5
    ratios = [one.ratio for one in result.tried]
    assert ratios == sorted(ratios)
    worse = [one for one in result.tried if one.accuracy < 1.368 - 0.5]
    assert min(one.achieved for one in worse) > result.achieved
    nearest = min(one.ratio for one in worse)
    assert nearest - max(one.ratio for one in result.tried if one not in worse) <= 0.005
    assert "tried ratios:" in str(result)


def test_a_ratio_limits_the_search_and_is_tried_first() -> None:
    result = pb.prune(classifier(), images(), evaluate=width, max_drop=9.0, ratio=0.4)
    assert [one.ratio for one in result.tried] == [0.4]
    assert result.achieved >= 0.4


def test_scores_are_computed_once_for_all_ratios() -> None:
    passes = 0

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal passes
        passes += 1
        return nn.functional.cross_entropy(outputs, labels)

    result = pb.prune(
        classifier(), images(), criterion="fisher", data=batches(2), loss=loss,
        evaluate=width, max_drop=0.5,
    )  # fmt: skip
    assert len(result.tried) > 5
    assert passes == 2


def test_widths_are_rounded_while_searching() -> None:
    result = pb.prune(classifier(), images(), evaluate=width, max_drop=1.0, round_to=4)
    assert all(len(group.kept) % 4 == 0 for group in result.groups)
    assert len(result.tried) > 5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_drop": 0.1}, ConfigError, "max_drop: it needs evaluate="),
        ({"max_drop": -1, "evaluate": width}, ConfigError, "max_drop: -1 is not a drop"),
        ({"max_drop": 0.1, "ratios": {"*": 0.5}}, ConfigError, "max_drop and ratios exclude"),
        ({"ratio": 0.5, "evaluate": lambda m: None}, ConfigError, "a number, not NoneType"),
        ({"ratio": 0.5, "evaluate": lambda m: float("nan")}, ConfigError, "has returned nan"),
        (
            {"max_drop": 0.0, "evaluate": width},
            TrainingError,
            r"a ratio of 0\.00\d+ already lowers the accuracy from 1\.368 to 1\.\d+, by more",
        ),
    ],
)
def test_a_mistake_is_one_line(arguments, error, message: str) -> None:
    with pytest.raises(error, match=message) as raised:
        pb.prune(classifier(), images(), **arguments)
    assert "\n" not in str(raised.value)


def test_the_accuracy_of_each_group_alone() -> None:
    found = pb.sensitivity(classifier(), images(), evaluate=width, ratios=(0.5, 0.25))
    assert found.base == 1.368
    table = found.table.set_index(["group", "ratio"])
    assert table.index.tolist() == [
        (group, ratio) for group in ("stem", "conv", "head.0") for ratio in (0.25, 0.5)
    ]
    assert table.loc[("stem", 0.5)][["units", "kept"]].tolist() == [8, 4]
    assert table.loc[("stem", 0.5), "accuracy"] == 0.684
    assert table.loc[("conv", 0.25), "accuracy"] == (3 * 8 * 9 + 8 * 12 * 9) / 1000
    assert table.loc[("head.0", 0.5), "accuracy"] == 1.368
    assert 0 < table.loc[("head.0", 0.5), "macs_ratio"] < table.loc[("stem", 0.5), "macs_ratio"]


def test_the_scan_leaves_out_what_cannot_be_pruned() -> None:
    torch.manual_seed(0)
    found = pb.sensitivity(
        ReadsItsWidth(), images(), evaluate=lambda m: m.second.weight.numel(), ratios=[0.5]
    )
    assert found.table["group"].tolist() == ["second"]
    assert "removal changes the output" in found.frozen["first"]


def test_the_scan_uses_a_criterion_and_keeps_modules() -> None:
    found = pb.sensitivity(
        classifier(), images(), evaluate=width, criterion="taylor", data=batches(), keep=["head"],
        ratios=[0.5],
    )  # fmt: skip
    assert found.table["group"].tolist() == ["stem", "conv"]
    with pytest.raises(ConfigError, match=r"ratios: 2 is not in \[0, 1\)"):
        pb.sensitivity(classifier(), images(), evaluate=width, ratios=[2])


def test_the_figure_has_a_row_per_group_and_a_column_per_ratio(tmp_path: Path) -> None:
    found = pb.sensitivity(classifier(), images(), evaluate=width, ratios=(0.25, 0.5))
    axes = draw(found.table, found.base).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "stem (8)", "conv (16)", "head.0 (12)",
    ]  # fmt: skip
    assert [label.get_text() for label in axes.get_xticklabels()] == ["25", "50"]
    assert axes.images[0].get_array()[0, 1] == 0.684
    assert [path.name for path in found.plot(tmp_path / "scan.svg")] == ["scan.svg"]
    assert len(found.plot(tmp_path / "scan")) == 3
    with pytest.raises(ConfigError, match=r"must end in \.svg, \.png, \.pdf"):
        found.plot(tmp_path / "scan.jpg")
