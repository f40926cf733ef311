from __future__ import annotations

import pytest
import torch

from prunebench import testing
from prunebench.criteria.masks import MaskFisher, places
from prunebench.training.run import RunState
from tests.criteria.test_mask_gradients import Everything, gate_gradients


@pytest.fixture
def run() -> RunState:
    torch.manual_seed(0)
    return testing.start(Everything().double(), image=(2, 4, 4))


@pytest.mark.parametrize(
    ("normalize", "stem"),
    # stem, depthwise and project make 16 elements of a unit each, of 2, 9 and 6 weights; point
    # reads it with 6, head with 2 x 9, at 16 places and at 4 of the smaller level
    [("none", 1), ("memory", 3 * 16), ("macs", 16 * (2 + 9 + 6 + 6 + 18) + 4 * 18)],
)
def test_score_is_that_of_gates_multiplied_in(run: RunState, normalize: str, stem: int) -> None:
    criterion = MaskFisher(samples=5, batch=3, normalize=normalize)  # type: ignore[arg-type]
    scores = criterion.scores(run, run.graph.groups)
    batches = list(run.samples(criterion.needs))
    x, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    units = places(run.graph.groups)
    expected = gate_gradients(run.model, x, labels, units).square().sum(0)[units["stem"]]
    assert scores["stem"] == pytest.approx(
        (expected / stem).tolist(), rel=1e-6, abs=0
    )  # the loss is float32


def test_the_network_is_left_as_it_was(run: RunState) -> None:
    hooks = [len(module._forward_pre_hooks) for module in run.model.modules()]
    MaskFisher(samples=4, batch=4).scores(run, run.graph.groups)
    assert all(parameter.grad is None for parameter in run.params.values())
    assert [len(module._forward_pre_hooks) for module in run.model.modules()] == hooks
