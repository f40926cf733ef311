from __future__ import annotations

import math

import pytest
import torch
from sklearn.mixture import GaussianMixture

from prunebench.models.detection.paa import assign, separated

INF = math.inf


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        # means 0.2 and 5.05: of the first three, 0.2 is the likeliest
        ([0.1, 0.2, 0.3, 5.0, 5.1], [True, True, False, False, False]),
        ([0.7, INF, INF], [True, False, False]),  # a single candidate
        ([INF, INF], [False, False]),  # padding, or a box without candidates
        ([1.0, 9.0, INF], [True, False, False]),
    ],
)
def test_candidates_with_small_losses_predict_their_box(
    losses: list[float], expected: list[bool]
) -> None:
    assert separated(torch.tensor([losses])).tolist() == [expected]


@pytest.mark.parametrize("seed", range(4))
def test_the_mixture_is_scikit_learn_s(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.cat(
        [
            torch.randn(12, generator=generator, dtype=torch.float64) * 0.2 + 1,
            torch.randn(20, generator=generator, dtype=torch.float64) * 0.4 + 3,
        ]
    )
    x = values.sort().values[:, None].numpy()
    mixture = GaussianMixture(
        2,
        covariance_type="diag",
        weights_init=[0.5, 0.5],
        means_init=[[x.min()], [x.max()]],
        precisions_init=[[1.0], [1.0]],
        tol=1e-9,
        max_iter=30,
    ).fit(x)
    first = mixture.predict(x) == 0
    mode = mixture.score_samples(x)[first].argmax()
    expected = [bool(f) and i <= first.nonzero()[0][mode] for i, f in enumerate(first)]
    padded = torch.cat([values.sort().values, torch.tensor([INF, INF], dtype=torch.float64)])
    assert separated(padded[None])[0].tolist() == [*expected, False, False]
    assert any(expected)


def test_anchors_that_predict_their_box_well_are_assigned_to_it() -> None:
    # five 10x10 anchors, 2 pixels apart, all overlap the first box; the last overlaps no box
    anchors = torch.tensor([[2.0 * i, 0, 2.0 * i + 10, 10] for i in range(5)] + [[90.0, 0, 99, 9]])
    boxes = torch.tensor([[4.0, 0, 14, 10], [0, 0, 1, 1]])
    predicted = torch.tensor([[50.0, 50, 60, 60], [4, 0, 14, 10], [4, 0, 14, 9.5], [4, 0, 14, 9]])
    predicted = torch.cat([predicted, torch.tensor([[80.0, 80, 90, 90], [4, 0, 14, 10]])])
    matched = assign(
        torch.zeros(6, 2),
        predicted,
        anchors,
        (5, 1),
        boxes,
        torch.tensor([1, -1]),
        torch.tensor([True, False]),
    )
    # losses: anchors 1, 2, 3 have an IoU of 1, 0.95, 0.9; 0 and 4 miss the box: the likeliest of
    # the first three is the middle one
    assert matched.tolist() == [-1, 0, 0, -1, -1, -1]
