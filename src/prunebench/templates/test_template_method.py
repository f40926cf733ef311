from __future__ import annotations

import torch

from prunebench.templates.template_method import TemplateMethod, importance, shrinkage
from prunebench.testing import HALF, backward, begin, check_method, prune, start, train


def template_method(strength: float = 0.5) -> TemplateMethod:
    return TemplateMethod(TemplateMethod.Options(strength=strength))


def test_the_formulas_give_the_numbers_computed_by_hand() -> None:
    assert importance(torch.tensor([[3.0, 4.0], [0.0, 1.0]])).tolist() == [5.0, 1.0]
    assert shrinkage(torch.tensor([[6.0, 8.0]]), 5.0).tolist() == [[3.0, 4.0]]  # 5 * w / 10
    assert shrinkage(torch.zeros(2, 2), 0.5).tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_only_the_gradients_of_prunable_layers_change() -> None:
    method = template_method()
    run = begin(method, HALF)
    backward(run)
    before = {name: p.grad.clone() for name, p in run.params.items() if p.grad is not None}
    method.before_optimizer_step(run)
    weights = run.params["block.conv1.weight"]
    added = shrinkage(weights.detach(), 0.5)
    assert torch.equal(weights.grad, before["block.conv1.weight"] + added)
    assert torch.equal(run.params["stem.weight"].grad, before["stem.weight"])


def test_the_units_of_the_lowest_importance_are_removed() -> None:
    run = start()
    with torch.no_grad():
        run.params["block.conv1.weight"][[1, 3, 5]] *= 10
    assert prune(template_method(), HALF, run).kept["block.conv1"].tolist() == [1, 3, 5]


def test_a_stronger_penalty_makes_weights_smaller() -> None:
    runs = [train(template_method(strength), HALF) for strength in (0.0, 1.0)]
    norms = [run.params["block.conv1.weight"].norm() for run in runs]
    assert norms[1] < norms[0]


def test_it_meets_the_requirements_of_every_method() -> None:
    check_method(TemplateMethod)
