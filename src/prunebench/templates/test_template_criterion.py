from __future__ import annotations

import torch
from torch import nn

from prunebench.methods.one_shot import one_shot
from prunebench.templates.template_criterion import TemplateCriterion
from prunebench.testing import HALF, check_method, named_layers, prune, start

ROWS = torch.tensor([[1.0, -3.0], [2.0, 2.0], [0.5, 0.0]])


def test_the_scores_are_those_computed_by_hand() -> None:
    assert TemplateCriterion().of_rows(ROWS).tolist() == [10.0, 8.0, 0.25]
    assert TemplateCriterion(power=1.0).of_rows(ROWS).tolist() == [4.0, 4.0, 0.5]


def test_the_units_of_the_lowest_scores_are_removed() -> None:
    net = named_layers(stem=nn.Conv2d(1, 2, 1), conv=nn.Conv2d(2, 3, 1), head=nn.Conv2d(3, 2, 1))
    with torch.no_grad():
        net.conv.weight.copy_(ROWS[..., None, None])
    method = one_shot(TemplateCriterion)
    run = prune(method(method.Options()), HALF, start(net, image=(1, 1, 1)))
    assert run.kept["conv"].tolist() == [0]  # half of 3 are removed, rounded up


def test_it_meets_the_requirements_of_every_method() -> None:
    check_method(one_shot(TemplateCriterion))
