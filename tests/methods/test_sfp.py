from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn

from prunebench import testing
from prunebench.channels.removal import remove
from prunebench.experiments.phases import Budget, Phase
from prunebench.experiments.recipe import Recipe
from prunebench.methods.sfp import (
    ASFP,
    ASRFP,
    SFP,
    SRFP,
    SoftFPGM,
    SoftOptions,
    SoftPruning,
    count_pruned,
    cubic_keep,
    exponential_alpha,
    exponential_keep,
    kept_filters,
    kept_weights,
    softened,
    three_point_exponent,
    three_point_keep,
)
from prunebench.testing import named_layers
from prunebench.training.run import RunState

from .projected_resnet import small

FAMILY = [SFP, ASFP, SRFP, ASRFP]


def method(kind: type[SoftPruning], **options: Any) -> SoftPruning:
    return kind(kind.Options(**options))


def phases(soft: SoftPruning, *, epochs: int = 2, **budget: Any) -> list[Phase]:
    recipe = Recipe(epochs=epochs, batch_size=4, lr=0.05, weight_decay=0.0)
    budget = {"kind": "units_per_group", "ratio": 0.3, **budget}
    return soft.phases({"base": recipe}, Budget(**budget))


def zero_filters(run: RunState, weight: str) -> int:
    return int((run.params[weight].flatten(1) == 0).all(dim=1).sum())


# --- alpha(t)
@pytest.mark.parametrize(
    ("t", "alpha"),
    [
        (0, 1.0),
        (1, 0.8912509372424946),
        (2, 0.7943282331356252),
        (10, 0.3162277629),
        (50, 0.0031622775020545093),
        (79, 0.00011220183656625142),
    ],
)
def test_exponential_decay_over_100_epochs(t: int, alpha: float) -> None:
    assert exponential_alpha(t, 100, 1.0, 1e-5) == pytest.approx(alpha, rel=1e-9)


@pytest.mark.parametrize(
    ("t", "alpha"),
    [
        (1, 0.9440608758),
        (20, 0.3162277628),
        (40, 0.09999999800),
        (100, 0.003162277502),
        (179, 3.349654e-5),
    ],
)
def test_exponential_decay_over_200_epochs(t: int, alpha: float) -> None:
    assert exponential_alpha(t, 200, 1.0, 1e-5) == pytest.approx(alpha, rel=1e-6)


@pytest.mark.parametrize(("epochs", "kappa"), [(100, 0.11512925564970222), (200, 0.0575646278249)])
def test_decay_constant(epochs: int, kappa: float) -> None:
    assert -math.log(exponential_alpha(1, epochs, 1.0, 1e-5)) == pytest.approx(kappa, rel=1e-12)


@pytest.mark.parametrize(
    ("epochs", "alpha_zero_from", "last"), [(100, 0.8, 79), (200, 0.9, 179), (10, 0.9, 8)]
)
def test_alpha_is_zero_from_a_share_of_the_epochs(
    epochs: int, alpha_zero_from: float, last: int
) -> None:
    srfp = method(SRFP, alpha_zero_from=alpha_zero_from)
    assert srfp.alpha_at(last, epochs) > 0
    assert srfp.alpha_at(last + 1, epochs) == 0


@pytest.mark.parametrize(("floor", "last"), [(0.0, 79), (1e-4, 79), (1.2e-4, 78), (0.5, 6)])
def test_an_alpha_below_the_floor_counts_as_zero(floor: float, last: int) -> None:
    # over 100 epochs alpha is 0.501 at 6, 0.447 at 7, 1.259e-4 at 78, 1.122e-4 at 79
    srfp = method(SRFP, alpha_zero_from=0.8, alpha_floor=floor)
    assert srfp.alpha_at(last, 100) == exponential_alpha(last, 100, 1.0, 1e-5)
    assert srfp.alpha_at(last + 1, 100) == 0
    assert srfp.norm_alpha_at(79, 100) == pytest.approx(1.122e-4, rel=1e-3)


@pytest.mark.parametrize(("decay", "alpha"), [("linear", 0.375), ("cosine", 0.25)])
def test_other_decays_halfway(decay: str, alpha: float) -> None:
    # linear: 0.5 (1 - 50/200); cosine: 0.5 (1 + cos(pi / 2)) / 2 at half of the epochs
    srfp = method(SRFP, decay=decay, alpha_0=0.5)
    assert srfp.alpha_at(50 if decay == "linear" else 100, 200) == pytest.approx(alpha)


def test_a_filter_pruned_five_times_has_shrunk_by_the_product() -> None:
    total = math.prod(exponential_alpha(t, 200, 1.0, 1e-5) for t in range(5))
    assert total == pytest.approx(0.5623413223786426, rel=1e-12)


# --- P(t)
@pytest.mark.parametrize(
    ("t", "keep"),
    [
        (0, 1.0),
        (1, 0.958010028371189),
        (2, 0.9204279510358488),
        (3, 0.8867910496031655),
        (12.5, 0.7),
        (50, 0.6015625),
    ],
)
def test_exponential_share_kept_over_100_epochs(t: float, keep: float) -> None:
    assert exponential_keep(t, 100, 0.6, 1 / 8) == pytest.approx(keep, abs=1e-15)


@pytest.mark.parametrize(
    ("t", "pruned"),
    [
        (1, 0.0215769413),
        (5, 0.0968566867),
        (10, 0.1702603290),
        (25, 0.3),
        (50, 0.375),
        (100, 0.3984375),
        (200, 0.3999938965),
    ],
)
def test_exponential_share_pruned_over_200_epochs(t: int, pruned: float) -> None:
    assert 1 - exponential_keep(t, 200, 0.6, 1 / 8) == pytest.approx(pruned, abs=1e-10)


@pytest.mark.parametrize(
    ("t", "pruned"), [(1, 0.0215765775), (5, 0.0968553888), (25, 0.3), (200, 0.4)]
)
def test_three_points_are_met_exactly(t: int, pruned: float) -> None:
    assert 1 - three_point_keep(t, 200, 0.6, 1 / 8) == pytest.approx(pruned, abs=1e-10)


def test_constant_of_the_three_point_curve() -> None:
    assert three_point_exponent(1 / 8) / 25 == pytest.approx(0.05544994, abs=1e-8)


@pytest.mark.parametrize("D", [1 / 16, 0.3, 0.5])
def test_three_points_for_other_shares(D: float) -> None:
    shares = [1 - three_point_keep(t, 100, 0.6, D) for t in (0, 100 * D, 100)]
    assert shares == pytest.approx([0, 0.3, 0.4], abs=1e-12)


@pytest.mark.parametrize(("t", "pruned"), [(0, 0.00597005), (99, 0.35), (199, 0.4)])
def test_cubic_share(t: int, pruned: float) -> None:
    assert 1 - cubic_keep(t, 200, 0.6) == pytest.approx(pruned, abs=1e-12)


@pytest.mark.parametrize(
    ("t", "counts"),
    [
        (0, [0, 0, 0]),
        (1, [0, 0, 1]),
        (2, [0, 1, 2]),
        (5, [1, 3, 6]),
        (10, [2, 5, 10]),
        (25, [4, 9, 19]),
        (50, [6, 12, 24]),
        (100, [6, 12, 25]),
        (190, [6, 12, 25]),
    ],
)
@pytest.mark.parametrize("rate", ["exponential", "three_point"])
def test_filters_pruned_over_time(t: int, counts: list[int], rate: str) -> None:
    keep = method(ASFP, rate=rate).keep_at(t, 200, 0.4)
    assert [count_pruned(n, keep) for n in (16, 32, 64)] == counts


@pytest.mark.parametrize(
    ("keep", "counts"), [(0.7, [4, 9, 19, 38, 76, 153]), (0.6, [6, 12, 25, 51, 102, 204])]
)
def test_filter_counts_are_rounded_down(keep: float, counts: list[int]) -> None:
    assert [count_pruned(n, keep) for n in (16, 32, 64, 128, 256, 512)] == counts


@pytest.mark.parametrize(
    ("ratio", "n", "pruned"),
    [(0.07, 100, 6), (0.42, 50, 21), (0.3, 64, 19), (0.9, 20, 18)],
)
def test_the_kept_fraction_is_the_number_that_the_code_is_given(
    ratio: float, n: int, pruned: int
) -> None:
    # 0.93: 100 (1 - 0.93) is 6.999999999999995; from 1 - 0.07, it would be 7.000000000000006
    assert method(SFP).pruned_count(n, ratio) == pruned


@pytest.mark.parametrize(
    ("ratio", "options", "revision"),
    [
        (0.3, {}, 1),
        (0.75, {"norms": "decay"}, 1),
        (0.4, {"alpha_floor": 1e-4}, 1),
        (0.07, {}, 2),
        (0.4, {"alpha_floor": 1e-4, "norms": "decay"}, 2),
    ],
)
def test_only_runs_whose_results_have_changed_have_another_revision(
    ratio: float, options: dict[str, Any], revision: int
) -> None:
    budget = Budget(kind="units_per_group", ratio=ratio)
    assert method(SRFP, **options).run_revision(budget) == revision


def test_counts_come_from_the_kept_fraction_in_floating_point() -> None:
    assert count_pruned(20, 0.9) == 1  # 1 - 0.9 = 0.0999...
    assert method(SFP).pruned_count(20, 0.1) == 1


@pytest.mark.parametrize("n", [1, 2, 16])
def test_one_filter_survives_any_ratio(n: int) -> None:
    assert count_pruned(n, 1e-9) == n - 1


# --- one step
FILTERS = torch.tensor([[3.0, 4.0], [0.6, 0.8], [1.5, 0.0], [0.0, 2.0]])


def test_the_two_smallest_of_four_filters_are_chosen() -> None:
    norms = FILTERS.norm(dim=1)  # 5, 1, 1.5, 2
    assert kept_filters(norms, count_pruned(4, 0.5)).tolist() == [True, False, False, True]


@pytest.mark.parametrize(
    ("alpha", "expected"),
    [
        (0.1, [[3, 4], [0.06, 0.08], [0.15, 0], [0, 2]]),
        (0.0, [[3, 4], [0, 0], [0, 0], [0, 2]]),
        (1.0, [[3, 4], [0.6, 0.8], [1.5, 0], [0, 2]]),
    ],
)
def test_chosen_filters_are_multiplied_by_alpha(alpha: float, expected: list[list[float]]) -> None:
    kept = torch.tensor([True, False, False, True])[:, None]
    found = softened(FILTERS, kept, alpha)
    assert torch.allclose(found, torch.tensor(expected, dtype=torch.float32))


def test_equal_norms_go_to_the_lower_index() -> None:
    assert kept_filters(torch.ones(4), 2).tolist() == [False, False, True, True]


def test_weights_at_the_threshold_are_kept() -> None:
    weight = torch.tensor([[3.0, -1.0], [1.0, -0.5]])  # sorted 0.5, 1, 1, 3
    assert kept_weights(weight, 1).tolist() == [[True, True], [True, False]]
    assert kept_weights(weight, 2).tolist() == [[True, True], [True, False]]
    assert kept_weights(weight, 3).tolist() == [[True, False], [False, False]]


# --- over time
def test_each_method_is_a_choice_of_two_defaults() -> None:
    chosen = [(kind.Options().rate, kind.Options().decay) for kind in FAMILY]
    assert chosen == [
        ("constant", None),
        ("exponential", None),
        ("constant", "exponential"),
        ("exponential", "exponential"),
    ]


@pytest.mark.parametrize("epochs", [1, 2, 3, 7, 10, 15, 200])
@pytest.mark.parametrize("rate", ["constant", "exponential", "three_point", "cubic"])
@pytest.mark.parametrize("decay", [None, "exponential", "linear", "cosine"])
def test_only_epochs_of_the_final_network_may_be_reported(
    epochs: int, rate: str, decay: str | None
) -> None:
    soft = method(SFP, rate=rate, decay=decay)
    (train,) = phases(soft, epochs=epochs)
    assert train.reportable_from is not None
    start = min(math.ceil(train.reportable_from * epochs), epochs - 1)  # the loop's rule
    found = {(soft.alpha_at(t, epochs), soft.keep_at(t, epochs, 0.3)) for t in range(start, epochs)}
    assert found == {(0.0, 0.7)}


@pytest.mark.parametrize(("kind", "share"), [(SFP, 0.0), (ASFP, 0.95), (SRFP, 0.9), (ASRFP, 0.95)])
def test_reportable_share_follows_from_the_options_in_use(
    kind: type[SoftPruning], share: float
) -> None:
    (train,) = phases(method(kind))
    assert train.reportable_from == share
    assert train.hooks == {"after_epoch"}


@pytest.mark.parametrize(
    ("scope", "kind"), [("layer", "weights"), ("weight", "units_per_group"), ("group", "weights")]
)
def test_scope_and_ratio_kind_must_fit(scope: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"scope '{scope}' does not go with ratio_kind '{kind}'"):
        phases(method(SFP, scope=scope), kind=kind)


def test_norms_of_single_weights_cannot_decay() -> None:
    with pytest.raises(ValueError, match="needs whole filters"):
        SoftOptions(scope="weight", norms="decay")


def test_the_rule_is_applied_once_before_the_first_epoch(resnet_run: RunState) -> None:
    before = copy.deepcopy(resnet_run.model.state_dict())
    sfp = method(SFP)
    testing.begin(sfp, phases(sfp), resnet_run)
    assert zero_filters(resnet_run, "conv1.weight") == 4  # int(16 * 0.3)
    assert torch.equal(resnet_run.model.bn1.bias, before["bn1.bias"])


@pytest.mark.parametrize("kind", [ASFP, SRFP, ASRFP])
def test_softer_methods_leave_the_initial_weights(
    kind: type[SoftPruning], resnet_run: RunState
) -> None:
    before = copy.deepcopy(resnet_run.model.state_dict())
    soft = method(kind)  # alpha(0) = 1 or P(0) = 0
    testing.begin(soft, phases(soft), resnet_run)
    after = resnet_run.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_filters_may_come_back(resnet_run: RunState) -> None:
    sfp = method(SFP)
    testing.begin(sfp, phases(sfp), resnet_run)
    weight = resnet_run.params["conv1.weight"]
    back = int((weight.flatten(1) == 0).all(dim=1).nonzero()[0])
    with torch.no_grad():
        weight[back] = 100.0
    sfp.after_epoch(resnet_run)
    assert weight[back].eq(100.0).all()
    assert zero_filters(resnet_run, "conv1.weight") == 4


@pytest.mark.parametrize("kind", FAMILY)
def test_every_convolution_ends_with_its_share_of_zero_filters(
    kind: type[SoftPruning], resnet_run: RunState
) -> None:
    soft = method(kind)
    testing.train(soft, phases(soft), resnet_run)
    convs = {n for n, p in resnet_run.params.items() if p.ndim == 4}
    assert len(convs) == 19
    assert set(resnet_run.masks) == convs
    counts = {len(resnet_run.params[n]): zero_filters(resnet_run, n) for n in convs}
    assert counts == {16: 4, 32: 9, 64: 19}


@pytest.mark.parametrize("kind", FAMILY)
def test_selection_is_what_the_last_epoch_has_made_zero(
    kind: type[SoftPruning], resnet_run: RunState
) -> None:
    soft, seen = method(kind), []

    def look(run: RunState) -> None:
        if run.clock < 6:
            return
        first, again = (soft.select(run, run.phase.then).zeroed for _ in range(2))
        for name, mask in first.items():
            silent = (run.params[name] == 0).flatten(1).all(dim=1)
            assert torch.equal(mask.flatten(1).any(dim=1), ~silent)
            assert torch.equal(mask, again[name])
            seen.append(name)

    testing.train(soft, phases(soft), resnet_run, after_step=look)
    assert len(seen) == 19


@pytest.mark.parametrize("scope", ["layer", "group"])
@pytest.mark.parametrize("kind", FAMILY)
def test_ratio_zero_removes_nothing(
    scope: str, kind: type[SoftPruning], resnet_run: RunState
) -> None:
    soft = method(kind, scope=scope, norms="decay")
    (train,) = phases(soft, epochs=1, ratio=0.0)
    testing.train(soft, [train], resnet_run)
    assert (resnet_run.masks, resnet_run.costs.macs()) == ({}, resnet_run.base_macs)


def test_alpha_and_share_are_logged_after_each_epoch(resnet_run: RunState) -> None:
    asrfp = method(ASRFP)
    testing.train(asrfp, phases(asrfp, epochs=2), resnet_run)
    rows = resnet_run.records.diagnostics
    logged = {(row.step, row.layer, row.quantity): row.value for row in rows}
    # epochs of three steps
    assert logged[3, "all", "alpha"] == 1.0
    assert logged[6, "all", "alpha"] == 0.0
    assert logged[3, "conv1", "pruned_share"] == 0.0
    assert logged[6, "conv1", "pruned_share"] == 0.25


# --- scope "group"
@pytest.mark.parametrize("roles", [("inside",), ("stem", "stream", "inside")])
def test_masked_network_computes_what_the_removed_one_does(
    roles: tuple[str, ...], resnet_run_float64: RunState
) -> None:
    soft, compared = method(ASRFP, scope="group", norms="decay", roles=roles), []

    def look(run: RunState) -> None:
        if run.clock < 6:
            return
        plan = soft.select(run, run.phase.then)
        smaller = remove(run.model, run.graph, plan.removed)
        images = torch.randn(8, 1, 8, 8, dtype=torch.float64)
        assert set(plan.removed) == {n for n, g in run.graph.groups.items() if g.role in roles}
        for training in (False, True):
            expected = run.model.train(training)(images)
            found = smaller.train(training)(images)
            compared.append(torch.allclose(found, expected, rtol=0, atol=1e-12))

    testing.train(soft, phases(soft), resnet_run_float64, after_step=look)
    assert compared == [True, True]


def test_group_scope_removes_the_filters(resnet_run: RunState) -> None:
    soft = method(SRFP, scope="group")
    testing.train(soft, phases(soft), resnet_run)
    widths = {name: len(units) for name, units in resnet_run.kept.items()}
    assert widths["stages.0.0.conv1"] == 12  # 16 - int(16 * 0.3)
    assert widths["stages.2.2.conv1"] == 45  # 64 - int(64 * 0.3)
    assert widths["conv1"] == 16  # a stream


def test_running_statistics_do_not_decay(resnet_run: RunState) -> None:
    soft = method(SFP, scope="group", norms="decay")
    testing.begin(soft, phases(soft), resnet_run)
    norm = resnet_run.model.stages[0][0].bn1
    assert (int((norm.weight == 0).sum()), int((norm.bias == 0).sum())) == (4, 16)
    assert norm.running_var.eq(1).all()


# --- norms of single convolutions
@pytest.mark.parametrize("scope", ["layer", "group"])
def test_the_floor_of_alpha_is_for_convolutions_alone(scope: str, resnet_run: RunState) -> None:
    # alpha_0 = 0.05 lies below the floor
    soft = method(SRFP, scope=scope, norms="decay", alpha_0=0.05, alpha_floor=0.1)
    testing.begin(soft, phases(soft), resnet_run)
    block = resnet_run.model.stages[0][0]
    silent = (block.conv1.weight.flatten(1) == 0).all(dim=1)
    assert int(silent.sum()) == 4
    assert block.bn1.weight[silent].tolist() == pytest.approx([0.05] * 4)
    assert block.bn1.weight[~silent].tolist() == [1.0] * 12


def test_norms_of_zeroed_filters_decay_too(resnet_run: RunState) -> None:
    soft = method(SFP, norms="decay")
    testing.train(soft, phases(soft), resnet_run)
    block = resnet_run.model.stages[0][0]
    silent = (block.conv2.weight.flatten(1) == 0).all(dim=1)
    assert int(silent.sum()) == 4
    assert block.bn2.weight[silent].tolist() == block.bn2.bias[silent].tolist() == [0.0] * 4
    assert block.bn2.weight[~silent].ne(0).all()
    assert torch.equal(resnet_run.masks["stages.0.0.bn2.bias"], ~silent)


# --- scope "weight"
def test_smallest_weights_of_each_convolution_become_zero(resnet_run: RunState) -> None:
    soft = method(SRFP, scope="weight")
    testing.train(soft, phases(soft, kind="weights", ratio=0.9), resnet_run)
    zeros = {n: int((p == 0).sum()) for n, p in resnet_run.params.items() if p.ndim == 4}
    assert zeros["conv1.weight"] == 129  # int(144 * 0.9)
    assert zeros["stages.2.2.conv2.weight"] == 33_177  # int(36864 * 0.9)
    assert resnet_run.params["fc.weight"].ne(0).all()
    assert set(resnet_run.masks) == set(zeros)


@pytest.mark.parametrize("kind", FAMILY)
@pytest.mark.parametrize("rate", ["constant", "exponential", "three_point", "cubic"])
def test_every_method_ends_with_its_share_of_zero_weights(
    rate: str, kind: type[SoftPruning], resnet_run: RunState
) -> None:
    soft = method(kind, scope="weight", rate=rate)
    testing.train(soft, phases(soft, kind="weights", ratio=0.5), resnet_run)
    for name, keep in resnet_run.masks.items():
        assert int((~keep).sum()) == keep.numel() // 2
        assert torch.equal(resnet_run.params[name] == 0, ~keep)
    assert len(resnet_run.masks) == 19
    assert resnet_run.costs.macs() == resnet_run.base_macs


@pytest.mark.parametrize(
    ("decay", "alpha"), [("exponential", 0.1), ("linear", 0.8), ("cosine", 0.9045085)]
)
def test_single_weights_shrink_by_alpha(decay: str, alpha: float) -> None:
    # epoch 20 of 100; sigma 1e-5 makes the exponential 10^(-20 / 20)
    net = named_layers(stem=nn.Conv2d(1, 4, 1), head=nn.Conv2d(4, 2, 1))
    run = testing.start(net, image=(1, 1, 1))
    soft = method(SRFP, scope="weight", decay=decay)
    testing.begin(soft, phases(soft, epochs=100, kind="weights", ratio=0.5), run)
    with torch.no_grad():
        run.params["stem.weight"].copy_(torch.tensor([3.0, -1.0, 2.0, 0.5]).view(4, 1, 1, 1))
    run.epoch = 20
    soft.after_epoch(run)
    expected = [3.0, -alpha, 2.0, 0.5 * alpha]
    assert run.params["stem.weight"].flatten().tolist() == pytest.approx(expected, rel=1e-6)


def test_share_of_shrunk_weights_rises_cubically() -> None:
    net = named_layers(stem=nn.Conv2d(1, 1000, 1), head=nn.Conv2d(1000, 2, 1))
    torch.manual_seed(0)
    run = testing.start(net, image=(1, 1, 1))
    soft = method(ASFP, scope="weight", rate="cubic")
    testing.begin(soft, phases(soft, epochs=200, kind="weights", ratio=0.4), run)
    assert int((run.params["stem.weight"] == 0).sum()) == 5  # int(1000 * 0.00597)
    run.epoch = 99
    soft.after_epoch(run)
    assert int((run.params["stem.weight"] == 0).sum()) == 350  # 0.4 (1 - 0.5^3)


def test_one_weight_of_each_layer_survives(resnet_run: RunState) -> None:
    soft = method(SFP, scope="weight")
    testing.train(soft, phases(soft, kind="weights", ratio=1 - 1e-9), resnet_run)
    assert {int(keep.sum()) for keep in resnet_run.masks.values()} == {1}


def test_ratio_zero_zeroes_no_weight(resnet_run: RunState) -> None:
    soft = method(ASRFP, scope="weight")
    testing.train(soft, phases(soft, kind="weights", ratio=0.0), resnet_run)
    assert resnet_run.masks == {}


def test_depthwise_filters_are_convolutions_too(depthwise_run: RunState) -> None:
    soft = method(SFP)
    testing.train(soft, phases(soft, ratio=0.5), depthwise_run)
    zero = {name: zero_filters(depthwise_run, name) for name in depthwise_run.masks}
    assert zero == {"stem.weight": 2, "depthwise.weight": 2, "point.weight": 3}


@pytest.fixture
def depthwise_run() -> RunState:
    """Stem 1 -> 4, depthwise 4, 1x1 convolution 4 -> 6, convolution 6 -> 2 as classifier."""
    torch.manual_seed(0)
    model = named_layers(
        stem=nn.Conv2d(1, 4, 3),
        depthwise=nn.Conv2d(4, 4, 3, groups=4, padding=1),
        point=nn.Conv2d(4, 6, 1),
        head=nn.Conv2d(6, 2, 1),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
    )
    return testing.start(model, image=(1, 4, 4))


def test_rules_choose_the_convolutions() -> None:
    run = testing.start(small(), image=(3, 8, 8))
    soft = method(SFP, layers=["except_shortcuts", "not stem"])
    testing.train(soft, phases(soft, ratio=0.5), run)
    convs = {name for name, p in run.params.items() if p.ndim == 4}
    assert convs - set(run.masks) == {"conv1.weight", "stages.1.0.shortcut.0.weight"}
    assert zero_filters(run, "stages.1.0.conv2.weight") == 4
    assert zero_filters(run, "stages.1.0.shortcut.0.weight") == 0


@pytest.mark.parametrize("kind", FAMILY)
def test_a_run_starts_afresh_or_from_the_base_network(kind: type[SoftPruning]) -> None:
    assert method(kind).starts_from() == "fresh"
    assert method(kind, pretrained=True).starts_from() == "base"


@pytest.mark.parametrize("kind", FAMILY)
def test_the_family_leaves_gradients_alone(kind: type[SoftPruning]) -> None:
    assert phases(method(kind))[0].hooks == {"after_epoch"}


# --- a target in MACs or parameters
@pytest.mark.parametrize("kind", [*FAMILY, SoftFPGM])
@pytest.mark.parametrize("n_units", [1, 3, 16, 57])
def test_each_count_has_a_ratio(kind: type[SoftPruning], n_units: int) -> None:
    soft = method(kind)
    found = [soft.pruned_count(n_units, soft.ratio_of(n_units, n)) for n in range(n_units)]
    assert found == list(range(n_units))


def test_the_share_of_a_target_rises_as_that_of_a_ratio(resnet_run: RunState) -> None:
    soft = method(ASFP, scope="group", norms="decay")
    run = testing.train(soft, phases(soft, epochs=3, kind="macs", ratio=0.5), resnet_run)
    shares = {
        row.layer: [r.value for r in run.records.diagnostics if r.layer == row.layer]
        for row in run.records.diagnostics
        if row.quantity == "pruned_share"
    }
    assert len(shares) == 9
    for name, (first, *_, last) in shares.items():
        assert 0 == first < last == 1 - len(run.kept[name]) / run.sizes[name]


def test_zeroed_filters_of_layers_save_their_own_macs_only(resnet_run: RunState) -> None:
    soft = method(SFP)
    layers = soft.layers(resnet_run)
    budget = Budget(kind="macs", ratio=0.5)
    whole, now = soft.counted(resnet_run, budget, {n: la.n_units // 2 for n, la in layers.items()})
    convolutions = sum(resnet_run.costs.layer_macs()[la.producers[0]] for la in layers.values())
    assert (whole, now) == (resnet_run.base_macs, resnet_run.base_macs - convolutions // 2)


def test_scales_that_decay_count_as_parameters(resnet_run: RunState) -> None:
    budget = Budget(kind="params", ratio=0.5)
    left = {"conv1": 15}
    for norms, entries in (("keep", 9), ("decay", 9 + 2)):
        soft = method(SFP, norms=norms)
        others = {name: la.n_units for name, la in soft.layers(resnet_run).items()}
        whole, now = soft.counted(resnet_run, budget, others | left)
        assert whole - now == entries
