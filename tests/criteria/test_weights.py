from __future__ import annotations

import pytest
import torch

from prunebench import testing
from prunebench.criteria.weights import FPGM, L1, L2, median_count, median_scores
from prunebench.experiments.phases import Budget
from prunebench.methods.one_shot import one_shot
from prunebench.training.run import RunState
from tests.methods.projected_resnet import small

# example X8 of the notes on soft filter pruning
FILTERS = torch.tensor([[0.5, 0.0], [2.0, 0.0], [0.0, 2.0], [1.0, 1.0]])


def test_sums_of_distances_of_example_x8() -> None:
    found = median_scores(FILTERS, 1.0)
    assert found.tolist() == pytest.approx([4.679587, 5.742641, 6.304193, 3.946461], abs=5e-7)
    assert int(found.argmin()) == 3  # the fourth row is pruned first


def test_norms_of_example_x8() -> None:
    found = L2().of_rows(FILTERS)
    assert found.tolist() == pytest.approx([0.5, 2.0, 2.0, 1.414214], abs=5e-7)
    assert int(found.argmin()) == 0


def test_filters_pruned_by_norm_come_first_and_have_no_part_in_distances() -> None:
    # a quarter of four by norm: row 1; then distances among rows 2 to 4
    found = median_scores(FILTERS, 0.75)
    assert found.argsort().tolist() == [0, 3, 1, 2]
    # row 4 to rows 2 and 3: sqrt 2 each; rows 2 and 3 to each other: sqrt 8
    assert found[1:].tolist() == pytest.approx([4.242641, 4.242641, 2.828427])
    assert float(found[0]) < 0


def test_filters_pruned_by_norm_are_ordered_by_norm() -> None:
    assert median_scores(FILTERS, 0.25).argsort().tolist()[:3] == [0, 3, 1]


@pytest.mark.parametrize(
    ("n", "ratio", "norm_rate", "by_norm", "by_distance"),
    [
        (20, 0.2, 0.9, 1, 2),  # 20 (1 - 0.9) is 1.9999999999999996, 20 * 0.1 is 2
        (10, 0.4, 0.7, 3, 1),  # 10 (1 - 0.7) is 3.0000000000000004
        (20, 0.4, 0.7, 6, 2),
        (30, 0.3, 0.8, 5, 3),  # 30 (1 - 0.8) is 5.999999999999999
        (50, 0.14, 1.0, 0, 7),  # 50 * 0.14 is 7.000000000000001
        (100, 0.29, 1.0, 0, 28),  # 100 * 0.29 is 28.999999999999996
    ],
)
def test_counts_and_scores_follow_the_codes_floating_point(
    n: int, ratio: float, norm_rate: float, by_norm: int, by_distance: int
) -> None:
    scores = median_scores(torch.arange(1.0, n + 1).view(n, 1), norm_rate)
    assert int((scores < 0).sum()) == by_norm
    assert median_count(n, ratio, norm_rate) == by_norm + by_distance


def test_many_filters_keep_their_digits() -> None:
    # close to each other and far from 0, where matrix products lose what matters
    rows = 1000 + torch.arange(40.0).view(40, 1) * 0.001
    exact = (rows.double() - rows.double().T).abs().sum(dim=1)
    torch.testing.assert_close(median_scores(rows, 1.0).double(), exact, rtol=1e-4, atol=0)


def test_the_mean_and_the_sum_of_magnitudes() -> None:
    assert L1().of_rows(FILTERS).tolist() == [0.25, 1.0, 1.0, 1.0]
    assert L1(norm="sum").of_rows(FILTERS).tolist() == [0.5, 2.0, 2.0, 2.0]


@pytest.mark.parametrize(
    ("ratio", "norm_rate", "removed"), [(0.4, 1.0, 6), (0.4, 0.7, 4 + 1), (0.2, 0.7, 3)]
)
def test_rates_are_rounded_down_each_on_its_own(
    ratio: float, norm_rate: float, removed: int, resnet_run: RunState
) -> None:
    # of 16: floor(6.4); floor(4.8) by norm and floor(1.6) by distance; floor(3.2) by norm
    method = one_shot(FPGM)(one_shot(FPGM).Options(norm_rate=norm_rate))
    plan = method.select(resnet_run, Budget(kind="units_per_group", ratio=ratio))
    assert len(plan.removed["stages.0.0.conv1"]) == removed


@pytest.fixture
def stream_run() -> RunState:
    """A stream of eight units that two second convolutions and a shortcut produce."""
    return testing.start(small(), image=(3, 4, 4))


def test_a_residual_stream_is_ranked_as_asked(stream_run: RunState) -> None:
    group = stream_run.graph.groups["stages.1.0.conv2"]
    rows = [stream_run.params[w].detach().flatten(1) for w in group.producers]
    groups = {group.name: group}

    def score(combine: str) -> torch.Tensor:
        return L2(combine=combine).scores(stream_run, groups)[group.name]

    norms = torch.stack([r.norm(dim=1) for r in rows])
    torch.testing.assert_close(score("joint"), norms.square().sum(dim=0).sqrt())
    torch.testing.assert_close(score("sum"), norms.sum(dim=0))
    torch.testing.assert_close(score("mean"), norms.mean(dim=0))
    torch.testing.assert_close(score("first"), norms[0])


def test_distances_of_a_stream_are_of_its_filters_side_by_side(stream_run: RunState) -> None:
    group = stream_run.graph.groups["stages.1.0.conv2"]
    rows = torch.cat([stream_run.params[w].detach().flatten(1) for w in group.producers], dim=1)
    found = FPGM().scores(stream_run, {group.name: group})[group.name]
    torch.testing.assert_close(found, median_scores(rows, 1.0))
