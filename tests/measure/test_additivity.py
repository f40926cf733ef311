from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prunebench import trace
from prunebench.core.errors import ResultError
from prunebench.core.files import read_csv
from prunebench.measure.additivity import (
    COLUMNS,
    additivity,
    measure_additivity,
    random_sets,
    write_additivity,
)


def test_error_and_correlation_by_hand() -> None:
    # differences 0, 1 and -1: a mean of 2 / 3; the sets themselves have a mean of 8 / 3
    found = additivity([1.0, 2.0, 5.0], [1.0, 3.0, 4.0])
    assert found.error == pytest.approx(0.25)
    assert found.correlation == pytest.approx(1.0)
    # ranks 1 2 3 and 2 1 3: 1 - 6 x 2 / (3 x 8) = 0.5
    assert additivity([1.0, 2.0, 5.0], [3.0, 1.0, 4.0]).correlation == pytest.approx(0.5)


def test_equal_values_share_their_mean_rank() -> None:
    # ranks 1.5 1.5 3 and 1 2 3: covariance 1.5, variances 1.5 and 2
    found = additivity([1.0, 1.0, 5.0], [1.0, 3.0, 4.0])
    assert found.correlation == pytest.approx(1.5 / math.sqrt(1.5 * 2))


class Sums(nn.Module):
    """Logits (sum of four units, 0); after a stem, the units are 1x1 filters of ones on a pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 1, 1, bias=False)
        self.first = nn.Conv2d(1, 4, 1, bias=False)
        self.last = nn.Conv2d(4, 2, 1, bias=False)
        nn.init.ones_(self.stem.weight)
        nn.init.ones_(self.first.weight)
        self.last.weight.data = torch.tensor([[1.0] * 4, [0.0] * 4])[:, :, None, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(self.stem(x))).flatten(1)


def test_importance_is_the_change_of_the_loss() -> None:
    model, image = Sums().eval(), torch.ones(1, 1, 1, 1)
    graph = trace(model, image)
    found = measure_additivity(model, graph, image, torch.tensor([0]), seed=0, sets=3)
    # L(k units) = log(1 + e^-k), so that I(one) = L(3) - L(4) and I(two) = L(2) - L(4)
    loss = {k: math.log1p(math.exp(-k)) for k in (2, 3, 4)}
    pair, single = loss[2] - loss[4], loss[3] - loss[4]
    assert found.error == pytest.approx((pair - 2 * single) / pair, rel=1e-5)
    assert math.isnan(found.correlation)  # all sets are equal


def test_the_network_is_unchanged() -> None:
    model, image = Sums().train(), torch.ones(1, 1, 1, 1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure_additivity(model, trace(model, image), image, torch.tensor([0]), seed=0)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_sets_are_random_halves_that_depend_on_the_seed_alone() -> None:
    graph = trace(Sums(), torch.ones(1, 1, 1, 1))
    sets = random_sets(graph, 8, seed=1)
    assert all(len(units.unique()) == 2 for _, units in sets)
    assert len({tuple(units.tolist()) for _, units in sets}) > 1
    again = random_sets(graph, 8, seed=1)
    assert [units.tolist() for _, units in again] == [units.tolist() for _, units in sets]


def test_a_network_of_narrow_layers_is_an_error() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 1), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.Flatten())
    image = torch.ones(1, 1, 1, 1)
    with pytest.raises(ResultError, match="four units or more"):
        measure_additivity(model, trace(model, image), image, torch.tensor([0]), seed=0)


def test_rows_are_written_by_run(tmp_path: Path) -> None:
    row = dict.fromkeys(COLUMNS, "x") | {"additivity_error": 0.25}
    write_additivity([row], tmp_path / "additivity.csv")
    (cells,) = read_csv(tmp_path / "additivity.csv", COLUMNS)
    assert cells["additivity_error"] == "0.25"
