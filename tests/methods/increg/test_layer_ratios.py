from __future__ import annotations

import pytest
import torch

from prunebench.methods.increg.layer_ratios import (
    macs_left,
    pca_errors,
    redundancy_scores,
    weighted_ratios,
    worth_pruning,
)

CONVNET = [2_457_600, 6_553_600, 3_276_800]  # conv1, conv2, conv3 on 32x32 images
VGG_CHANNELS = [3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512]
VGG_SIZES = [224, 224, 112, 112, 56, 56, 56, 28, 28, 28, 14, 14, 14]
VGG = [
    9 * c_in * c_out * size**2
    for c_in, c_out, size in zip(VGG_CHANNELS, VGG_CHANNELS[1:], VGG_SIZES, strict=False)
]
VGG_2X = [0, 0.5372, 0.5006, 0.5052, 0.486, 0.5065, 0.5048, 0.483, 0.5047, 0.5039]
VGG_2X += [0.4682, 0.4683, 0.4684]
VGG_8X = [0, 0.9401, 0.8760, 0.8842, 0.8505, 0.8864, 0.8834, 0.8453, 0.8832, 0.8819]
VGG_8X += [0.8194, 0.8196, 0.8197]
VGG_2X_PCA = [0, 0.91, 0.88, 0.51, 0.77, 0.63, 0.41, 0.67, 0.36, 0.10, 0.03, 0.08, 0.11]


def speedup(macs: list[int], columns: list[float], rows: list[float]) -> float:
    left = sum(macs_left(*layer) for layer in zip(macs, columns, rows, strict=True))
    return sum(macs) / left


# --- the shipped lists
def test_macs_are_those_of_the_notes() -> None:
    assert sum(CONVNET) == 12_288_000
    assert sum(VGG) == 15_346_630_656


@pytest.mark.parametrize(
    ("macs", "ratios", "expected", "digits"),
    [
        (CONVNET, [0.4640, 0.5457, 0.4357], 2.0001, 5e-5),
        (CONVNET, [0.4788, 0.5400, 0.4359], 2.000, 5e-4),
        (CONVNET, [0.6961, 0.8185, 0.6535], 4.000, 1e-3),
        (CONVNET, [0.8353, 0.9822, 0.7842], 10.000, 5e-3),
        (CONVNET, [0.92, 0.73, 0.67], 4.03, 5e-3),
        (VGG, VGG_2X, 2.000, 5e-4),
        (VGG, VGG_8X, 8.000, 5e-3),
        (VGG, VGG_2X_PCA, 1.994, 2e-2),  # printed with two digits
    ],
)
def test_speedups_of_the_shipped_lists(
    macs: list[int], ratios: list[float], expected: float, digits: float
) -> None:
    assert speedup(macs, ratios, [0.0] * len(macs)) == pytest.approx(expected, abs=digits)


def test_speedup_with_a_quarter_of_the_first_rows_gone_too() -> None:
    found = speedup(CONVNET, [0.4640, 0.5457, 0.4357], [0.25, 0.0, 0.0])
    assert found == pytest.approx(2.1134, abs=5e-5)


# --- the rule
def test_ratios_save_what_they_should() -> None:
    # 0.8 softmax + 0.2 softmax of equal shares and scores is even: a half everywhere
    found = weighted_ratios([100, 100], 200, torch.tensor([0.5, 0.5]), 100)
    assert found == pytest.approx([0.5, 0.5])


def test_work_weighs_four_times_redundancy() -> None:
    # softmax(0.75, 0.25) = 0.622459, 0.377541; softmax(0.2, 0.8) = 0.354344, 0.645656
    # weights 0.8 * and 0.2 *: 0.568836, 0.431164; saved 300 * and 100 * of them: 213.7672
    found = weighted_ratios([300, 100], 400, torch.tensor([0.2, 0.8]), 200)
    factor = 200 / 213.7672
    assert found == pytest.approx([0.568836 * factor, 0.431164 * factor], abs=1e-6)
    assert 300 * found[0] + 100 * found[1] == pytest.approx(200)


def test_a_list_of_8x_is_that_of_2x_times_1_75() -> None:
    scores = torch.tensor([0.2, 0.3, 0.5])
    twice, eight = (
        weighted_ratios(CONVNET, sum(CONVNET), scores, (1 - 1 / s) * sum(CONVNET)) for s in (2, 8)
    )
    assert eight == pytest.approx([1.75 * ratio for ratio in twice])
    assert pytest.approx([1.75 * r for r in VGG_2X], abs=2e-4) == VGG_8X


def test_small_layers_are_left_alone() -> None:
    # VGG-16's first has a share of 0.0057 and 0.073 of the mean
    named = {f"conv{i}": macs for i, macs in enumerate(VGG)}
    assert worth_pruning(named, sum(VGG)) == list(named)[1:]
    # a small share alone does not do: here it is as large as all others'
    even = {f"conv{i}": 1 for i in range(200)}
    assert worth_pruning(even, 200) == list(even)


def test_scores_are_shares_of_the_inverse_error() -> None:
    # 1/0.1, 1/0.3, 1/0.6 = 10, 3.3333, 1.6667: 2/3, 2/9, 1/9; then all alike
    errors = torch.tensor([[0.1, 0.5], [0.3, 0.5], [0.6, 0.5]])
    found = redundancy_scores(errors).tolist()
    assert found == pytest.approx([(2 / 3 + 1 / 3) / 2, (2 / 9 + 1 / 3) / 2, (1 / 9 + 1 / 3) / 2])


def test_errors_of_rows_on_two_axes() -> None:
    # centred already; the first component holds the rows (+-2, 0), the second (0, +-1)
    rows = torch.tensor([[2.0, 0], [-2, 0], [0, 1], [0, -1]])
    # one component leaves out all of the last two rows: a mean of 1/2; two leave out nothing
    assert pca_errors(rows, [0.1, 0.5, 0.9, 1.0]).tolist() == pytest.approx([0.5, 0.5, 0.5, 0])


def test_rows_on_a_line_have_no_error_and_zeros_none_either() -> None:
    line = torch.arange(1.0, 5.0)[:, None] * torch.tensor([[1.0, 2.0, 3.0]])
    assert pca_errors(line).tolist() == pytest.approx([0.0] * 9, abs=1e-12)
    assert pca_errors(torch.zeros(3, 4)).tolist() == [0.0] * 9
