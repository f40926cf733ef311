"""Batch-norm statistics are estimated again on a few images, and nothing else changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunebench.experiments.phases import Budget, Phase
from prunebench.methods.base import Method
from prunebench.methods.registry import method_class
from prunebench.testing import HALF, start, train
from prunebench.training.recalibration import recalibrate
from prunebench.training.run import RunState


def values(*numbers: float) -> Tensor:
    """Return images of one pixel."""
    return torch.tensor(numbers, dtype=torch.float32).reshape(-1, 1, 1, 1)


@pytest.fixture
def norms() -> nn.Sequential:
    """Return two layers with statistics, a dropout between them, and one without statistics."""
    model = nn.Sequential(
        nn.BatchNorm2d(1, eps=1e-30),
        nn.Dropout(0.5),
        nn.BatchNorm2d(1, momentum=0.3, eps=1e-30),
        nn.BatchNorm2d(1, track_running_stats=False),
    )
    for layer in (model[0], model[2]):
        layer.running_mean.fill_(9.0)  # type: ignore[operator]
        layer.running_var.fill_(7.0)  # type: ignore[operator]
    return model


def test_statistics_are_the_means_over_batches(norms: nn.Sequential) -> None:
    recalibrate(norms, [values(0, 2), values(4, 8)])
    # means 1 and 6, unbiased variances 2 and 8
    assert norms[0].running_mean.tolist() == [3.5]
    assert norms[0].running_var.tolist() == [5.0]
    # batches are normalized to -1 and 1 (variance 2), and no value is dropped
    assert norms[2].running_mean.tolist() == [0.0]
    assert norms[2].running_var.tolist() == [2.0]


def test_everything_else_stays(norms: nn.Sequential) -> None:
    norms.train()
    norms[1].eval()
    before = {name: t.clone() for name, t in norms.named_parameters()}
    recalibrate(norms, [values(0, 2)])
    assert [module.training for module in norms] == [True, False, True, True]
    assert [norms[0].momentum, norms[2].momentum] == [0.1, 0.3]
    assert all(torch.equal(t, before[name]) for name, t in norms.named_parameters())
    assert all(parameter.grad is None for parameter in norms.parameters())


def test_double_precision_stays(norms: nn.Sequential) -> None:
    tiny = 2.0**-40
    recalibrate(
        norms.double(), [values(1, 1).double() + torch.tensor([0, 2 * tiny]).reshape(2, 1, 1, 1)]
    )
    assert norms[0].running_mean.dtype == torch.float64
    assert norms[0].running_mean.item() == 1 + tiny  # 1 in single precision


def one_shot(method: str = "l1", **options: Any) -> Method[Any]:
    kind = method_class(method)
    return kind(kind.Options(**options))


def test_a_phase_takes_images_of_the_training_split() -> None:
    run = train(one_shot(), [Phase(name="recalibrate", recalibrate=2000)])
    images = run.dataset.train.images / 255  # type: ignore[attr-defined]
    with torch.no_grad():
        outputs = run.model.stem(images)  # type: ignore[operator]
    found = run.model.norm
    torch.testing.assert_close(found.running_mean, outputs.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(found.running_var, outputs.var(dim=(0, 2, 3)))


def recalibrated(images: int, seed: int = 0) -> Tensor:
    run = train(one_shot(), [Phase(name="recalibrate", recalibrate=images)], start(seed=seed))
    mean = run.model.norm.running_mean
    assert isinstance(mean, Tensor)
    return mean


def test_images_are_drawn_by_the_seed() -> None:
    assert torch.equal(recalibrated(4), recalibrated(4))
    assert not torch.equal(recalibrated(4), recalibrated(4, seed=1))
    assert not torch.equal(recalibrated(4), recalibrated(6))


def events(run: RunState) -> list[tuple[str, str]]:
    return [(row.phase, row.event) for row in run.records.history]


def test_one_shot_pruning_without_fine_tuning() -> None:
    method = one_shot(recalibrate=8, fine_tune=False)
    assert method.needed_roles() == ()
    run = train(method, HALF, recipes={})
    assert events(run) == [("select", "pruned"), ("recalibrate", "recalibrated")]
    assert run.records.epochs_trained == 0


def test_statistics_are_estimated_before_fine_tuning_in_every_round() -> None:
    run = train(one_shot(recalibrate=8, rounds=2), Budget(kind="units_global", ratio=0.5))
    assert events(run) == [
        (f"{phase}_{k}", event)
        for k in (1, 2)
        for phase, event in (
            ("select", "pruned"),
            ("recalibrate", "recalibrated"),
            ("fine_tune", ""),
        )
    ]


def test_the_default_is_fine_tuning_alone() -> None:
    assert one_shot().needed_roles() == ("fine_tune",)
    assert events(train(one_shot(), HALF)) == [("select", "pruned"), ("fine_tune", "")]


@pytest.mark.parametrize("images", [-1, 1])
def test_one_image_has_no_variance(images: int) -> None:
    with pytest.raises(ValueError, match=f"'r': recalibrate {images} is not 0 or at least 2"):
        Phase(name="r", recalibrate=images)
