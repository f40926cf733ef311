from __future__ import annotations

import torch

from prunebench.criteria.lamp import Lamp, lamp
from prunebench.experiments.phases import Budget
from prunebench.methods.one_shot import one_shot
from prunebench.testing import prune, start


def test_a_score_is_the_share_in_the_larger_squares() -> None:
    assert lamp(torch.tensor([6.0, 2.0, 0.0])).tolist() == [1.0, 0.25, 0.0]  # 6/6, 2/(2+6), 0/8
    assert lamp(torch.ones(2)).tolist() == [0.5, 1.0]
    assert lamp(torch.zeros(2)).tolist() == [0.0, 0.0]


def official(scores: torch.Tensor) -> torch.Tensor:
    """Return the squares of a layer as the paper's code normalizes them: over what is left."""
    values, order = scores.view(-1).sort()
    before = torch.cat([torch.zeros(1), values.cumsum(dim=0)[:-1]])
    found = torch.zeros_like(values)
    found[order] = values / (scores.sum() - before)
    return found.view(scores.shape)


def test_the_scores_are_those_of_the_official_code() -> None:
    squares = torch.randn(4, 3, 3, 3, generator=torch.Generator().manual_seed(0)) ** 2
    torch.testing.assert_close(lamp(squares), official(squares), rtol=1e-4, atol=0)


def test_weights_keep_their_shape() -> None:
    run = start()
    with torch.no_grad():
        run.params["fc.weight"].copy_(torch.arange(16).view(2, 8))
    scores = Lamp().weight_scores(run, {"fc": "fc.weight"})["fc"]
    assert scores.shape == (2, 8)
    assert scores[1, 7] == 1
    assert scores[0, 0] == 0


def test_filters_and_input_channels_have_the_sum_of_their_squares() -> None:
    run = start()
    group = {"block.conv1": run.graph.groups["block.conv1"]}
    with torch.no_grad():
        run.params["block.conv1.weight"].zero_()[:2, 0, 0, 0] = torch.tensor([1.0, 2.0])
        run.params["block.conv2.weight"].zero_()[0, 4:, 0, 0] = torch.tensor([3.0, 1.0])
    filters = Lamp().scores(run, group)["block.conv1"]
    channels = Lamp().channel_scores(run, group)["block.conv1"]
    torch.testing.assert_close(filters, torch.tensor([0.2, 1.0, 0, 0, 0, 0]))  # 1/(1+4), 4/4
    torch.testing.assert_close(channels, torch.tensor([0, 0, 0, 0, 1.0, 0.1]))  # 9/9, 1/(1+9)


def test_the_option_combine_chooses_the_layers_of_a_sum() -> None:
    run = start()
    group = {"stem": run.graph.groups["stem"]}
    with torch.no_grad():
        for name in ("stem.weight", "block.conv2.weight"):  # both produce the group's units
            run.params[name].zero_()
        run.params["stem.weight"][0, 0, 0, 0] = 1.0
        run.params["block.conv2.weight"][1, 0, 0, 0] = 2.0
    joint, first = (Lamp(combine=how).scores(run, group)["stem"] for how in ("joint", "first"))
    torch.testing.assert_close(joint[:2], torch.tensor([0.2, 1.0]))  # 1/(1+4), 4/4
    torch.testing.assert_close(first[:2], torch.tensor([1.0, 0.0]))


def test_the_scores_decide_how_much_each_layer_loses() -> None:
    run = start()
    with torch.no_grad():
        run.params["block.conv1.weight"].fill_(1.0)  # 6 filters: 1/6, 1/5, ... 1
        run.params["conv.weight"].zero_()[0] = 1.0  # 8 filters: seven zeros, and 1
    method = one_shot(Lamp)
    pruned = prune(method(method.Options()), Budget(kind="units_global", ratio=0.5), run)
    assert pruned.kept["conv"].tolist() == [0]
    assert pruned.kept["block.conv1"].tolist() == [0, 1, 2, 3, 4, 5]


def test_single_weights_of_all_layers_are_ranked_together() -> None:
    run = start()
    method = one_shot(Lamp)
    plan = method(method.Options(unit="weight")).select(run, Budget(kind="weights", ratio=0.5))
    scores = Lamp().weight_scores(run, {name: name for name in plan.zeroed})
    kept = torch.cat([scores[name][mask] for name, mask in plan.zeroed.items()])
    pruned = torch.cat([scores[name][~mask] for name, mask in plan.zeroed.items()])
    assert pruned.max() <= kept.min()
    assert abs(len(pruned) - len(kept)) <= 1
