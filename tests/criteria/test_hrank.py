"""A criterion of feature maps as an author outside of the package writes it: HRank."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGroup
from prunebench.criteria.base import ScoringRun
from prunebench.criteria.feature_maps import unit_maps
from prunebench.criteria.gradients import DataCriterion
from prunebench.experiments.settings import Count
from prunebench.methods.one_shot import one_shot
from prunebench.testing import HALF, check_method, named_layers, prune, start, toy_data
from prunebench.training.run import RunState


def ranks(maps: Tensor) -> Tensor:
    """Return the rank of each map of (..., h, w)."""
    return torch.linalg.matrix_rank(maps.float().cpu()).float()


class Hrank(DataCriterion):
    """The mean rank of a unit's feature maps after batch norm and ReLU.

    Source: Lin et al., HRank: Filter Pruning using High-Rank Feature Map, arXiv 2002.10179, Eq. 5
    and 6. The paper chooses the widths of the layers by hand; here the budget does.
    """

    summary = "one-shot, lowest average rank of feature maps (Lin et al.)"

    samples: Count = Field(
        640, description="Number of training images (official code: 5 batches; the paper: 500)."
    )
    batch: Count = Field(128, description="Images per batch.")
    augment: bool = Field(True, description="Augment them (official code: its training loader).")

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the mean over images, channels of a unit, and layers of a residual sum."""
        found: defaultdict[str, list[Tensor]] = defaultdict(list)
        for maps in unit_maps(run, groups, self.needs, normalized=True):
            for name, layers in maps.items():
                own = [ranks(layer.clamp(min=0)).mean(dim=2) for layer in layers]
                found[name].append(torch.stack(own).mean(dim=0))
        return {name: torch.cat(own).mean(dim=0).to(run.device) for name, own in found.items()}


def test_the_rank_of_a_map_is_that_of_its_matrix() -> None:
    full, one, none = torch.eye(3), torch.ones(3, 3), torch.zeros(3, 3)
    assert ranks(torch.stack([full, one, none])[None]).tolist() == [[3.0, 1.0, 0.0]]


def run_by_hand() -> RunState:
    """Return a run whose second layer has the scales 1, -1 and 0 of images of ranks 3 and 1."""
    net = named_layers(
        stem=nn.Conv2d(1, 1, 1, bias=False),
        conv=nn.Conv2d(1, 3, 1, bias=False),
        norm=nn.BatchNorm2d(3, eps=0.0),
        relu=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        head=nn.Linear(3, 2),
    )
    with torch.no_grad():
        net.stem.weight.fill_(1.0)
        net.conv.weight.fill_(1.0)
        net.norm.weight.copy_(torch.tensor([1.0, -1.0, 0.0]))
    images = torch.stack([torch.eye(3), torch.ones(3, 3)])[:, None]
    return start(net.eval(), toy_data(images, torch.tensor([0, 1])))


def test_the_scores_are_those_computed_by_hand() -> None:
    run = run_by_hand()
    group = {"conv": run.graph.groups["conv"]}
    scores = Hrank(samples=2, batch=1, augment=False).scores(run, group)["conv"]
    assert scores.tolist() == [2.0, 0.0, 0.0]  # (3 + 1) / 2; ReLU leaves nothing of the others


def test_batches_do_not_matter() -> None:
    run = start()
    one, three = (
        Hrank(samples=12, batch=batch, augment=False).scores(run, run.graph.groups)
        for batch in (12, 4)
    )
    for name in one:
        torch.testing.assert_close(one[name], three[name])


def test_the_units_of_the_lowest_rank_are_removed() -> None:
    method = one_shot(Hrank)
    options = method.Options(samples=2, batch=1, augment=False)
    assert prune(method(options), HALF, run_by_hand()).kept["conv"].tolist() == [0]


def test_it_meets_the_requirements_of_every_method() -> None:
    check_method(one_shot(Hrank), {"samples": 8, "batch": 4})
