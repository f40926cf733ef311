"""HRank's scores on images and maps whose ranks are known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunebench.criteria.base import Needs
from prunebench.criteria.hrank import HRank, ranks
from prunebench.methods.one_shot import one_shot
from prunebench.testing import HALF, check_method, named_layers, prune, start, toy_data
from prunebench.training.run import RunState

FULL, ONE, NONE = torch.eye(3), torch.ones(3, 3), torch.zeros(3, 3)


@pytest.mark.parametrize(
    ("maps", "expected"),
    [
        (torch.stack([FULL, ONE, NONE])[None, :, None], [[3.0, 1.0, 0.0]]),
        (torch.stack([FULL, ONE])[None, None], [[2.0]]),  # two channels of one unit
        (torch.tensor([[[2.0], [0.0]]]), [[1.0, 0.0]]),  # a linear layer's numbers
        (torch.tensor([[[[1.0, 2.0, 3.0]]]]), [[1.0]]),  # a sequence of three
        (torch.stack([FULL, NONE])[None, None, None], [[1.5]]),  # a volume of two slices
    ],
)
def test_the_rank_of_a_map_is_that_of_its_matrix(maps: Tensor, expected: list[float]) -> None:
    assert ranks(maps).tolist() == expected


def test_noise_below_single_precision_adds_no_rank() -> None:
    almost = ONE + 1e-8 * torch.eye(3, dtype=torch.float64)
    assert ranks(almost[None, None, None]).tolist() == [[1.0]]


def run_by_hand() -> RunState:
    """Return a run whose second layer has the scales 1, -1 and 0 of images of ranks 3 and 1."""
    net = named_layers(
        stem=nn.Conv2d(1, 1, 1, bias=False),
        conv=nn.Conv2d(1, 3, 1, bias=False),
        norm=nn.BatchNorm2d(3, eps=1e-12),
        relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        head=nn.Linear(3, 2),
    )
    with torch.no_grad():
        net.stem.weight.fill_(1.0)
        net.conv.weight.fill_(1.0)
        net.norm.weight.copy_(torch.tensor([1.0, -1.0, 0.0]))
    images = torch.stack([FULL, ONE])[:, None]
    return start(net.eval(), toy_data(images, torch.tensor([0, 1])))


def test_the_scores_are_those_computed_by_hand() -> None:
    run = run_by_hand()
    group = {"conv": run.graph.groups["conv"]}
    scores = HRank(samples=2, batch=1, augment=False).scores(run, group)["conv"]
    assert scores.tolist() == [2.0, 0.0, 0.0]  # (3 + 1) / 2; ReLU leaves nothing of the others


def test_the_scores_are_those_of_the_official_code() -> None:
    """Its hook takes the rank of one map after the other behind a block's ReLU."""
    torch.manual_seed(0)
    net = named_layers(
        stem=nn.Conv2d(1, 4, 3, padding=1),
        conv=nn.Conv2d(4, 6, 3, padding=1),
        norm=nn.BatchNorm2d(6),
        relu=nn.ReLU(inplace=True),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        head=nn.Linear(6, 2),
    )
    images = torch.rand(5, 1, 8, 8) - 0.5
    run = start(net.eval(), toy_data(images, torch.zeros(5, dtype=torch.long)))
    group = {"conv": run.graph.groups["conv"]}
    scores = HRank(samples=5, batch=2, augment=False).scores(run, group)["conv"]
    with torch.no_grad():
        maps = net[:4](next(run.samples(Needs(samples=5)))[0])
    ranks_of = [[int(torch.linalg.matrix_rank(m)) for m in image] for image in maps]
    assert len({rank for image in ranks_of for rank in image}) > 1
    torch.testing.assert_close(scores, torch.tensor(ranks_of).float().mean(dim=0))


class Sum(nn.Module):
    """Two convolutions of one input, added: the second one has a filter of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(1, 2, 1, bias=False)
        self.head = nn.Linear(2, 2)
        with torch.no_grad():
            self.first.weight.fill_(1.0)
            self.second.weight.copy_(torch.tensor([1.0, 0.0]).view(2, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.head((self.first(x) + self.second(x)).relu().mean(dim=(2, 3)))
        return total


@pytest.mark.parametrize(
    ("combine", "expected"),
    [("mean", [3.0, 1.5]), ("sum", [6.0, 3.0]), ("first", [3.0, 3.0])],
)
def test_the_layers_of_a_sum_are_combined(combine: str, expected: list[float]) -> None:
    run = start(Sum().eval(), toy_data(FULL[None, None], torch.tensor([0])))
    options = {"samples": 1, "batch": 1, "augment": False, "combine": combine}
    (scores,) = HRank.model_validate(options).scores(run, run.graph.groups).values()
    assert scores.tolist() == expected  # ranks 3 and 3 of the first layer, 3 and 0 of the second


def test_ranks_of_several_layers_have_no_joint_score() -> None:
    with pytest.raises(ValueError, match="'mean', 'sum' or 'first'"):
        HRank.model_validate({"combine": "joint"})


def test_batches_do_not_matter() -> None:
    run = start()
    one, three = (
        HRank(samples=12, batch=batch, augment=False).scores(run, run.graph.groups)
        for batch in (12, 4)
    )
    for name in one:
        torch.testing.assert_close(one[name], three[name])


def test_the_units_of_the_lowest_rank_are_removed() -> None:
    method = one_shot(HRank)
    options = method.Options(samples=2, batch=1, augment=False)
    assert prune(method(options), HALF, run_by_hand()).kept["conv"].tolist() == [0]


def test_a_hidden_linear_layer_is_scored_too() -> None:
    net = named_layers(flat=nn.Flatten(), hidden=nn.Linear(9, 2, bias=False), head=nn.Linear(2, 2))
    with torch.no_grad():
        net.hidden.weight.copy_(torch.stack([torch.ones(9), -torch.ones(9)]))
    run = start(net.eval(), toy_data(ONE[None, None], torch.tensor([0])))
    scores = HRank(samples=1, batch=1, augment=False).scores(run, run.graph.groups)
    assert scores["hidden"].tolist() == [1.0, 0.0]


def test_it_meets_the_requirements_of_every_method() -> None:
    check_method(one_shot(HRank), {"samples": 8, "batch": 4})
