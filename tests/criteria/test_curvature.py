"""rdt and grasp against second derivatives that are written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunebench import testing
from prunebench.criteria.curvature import RDT, GraSP
from prunebench.testing import named_layers
from prunebench.training.run import RunState


def tiny_run() -> RunState:
    """Convolution 1 -> 2 with bias, classifier of three classes; double precision."""
    torch.manual_seed(0)
    model = named_layers(
        conv=nn.Conv2d(1, 2, 2),
        act=nn.Tanh(),
        flatten=nn.Flatten(),
        fc=nn.Linear(2, 3),
    )
    return testing.start(model.double(), image=(1, 2, 2))


def test_rdt_is_the_relative_sensitivity_of_the_outputs() -> None:
    run, criterion = tiny_run(), RDT(samples=6, batch=4)
    weight, bias = run.params["conv.weight"], run.params["conv.bias"]
    F_w, F_b = torch.zeros_like(weight), torch.zeros_like(bias)
    for images, _ in run.samples(criterion.needs):  # 4 images, then 2
        logits = run.model(images)
        for j in range(3):
            p = logits.softmax(dim=1)[:, j].mean()
            log_p = logits.log_softmax(dim=1)[:, j].mean()
            d_w, d_b = torch.autograd.grad(log_p, (weight, bias), retain_graph=True)
            F_w += len(images) * p * d_w**2
            F_b += len(images) * p * d_b**2
    wanted = (F_w / F_w.mean()).flatten(1).sum(dim=1) + F_b / F_b.mean()
    found = criterion.scores(run, run.graph.groups)["conv"]
    torch.testing.assert_close(found, wanted.detach(), rtol=1e-12, atol=0)
    # in units of the layer's mean: 2 x 4 weights and 2 biases
    torch.testing.assert_close(found.sum(), torch.tensor(10.0, dtype=torch.float64))


def test_a_layer_that_no_output_feels_scores_zero() -> None:
    run = tiny_run()
    with torch.no_grad():
        run.params["fc.weight"].zero_()
    found = RDT(samples=4).scores(run, run.graph.groups)["conv"]
    assert found.tolist() == [0.0, 0.0]


def mean_loss(run: RunState, vector: Tensor, criterion: GraSP, T: float) -> Tensor:
    """The mean over classes of the loss, as a function of all parameters in one vector."""
    params, at = {}, 0
    for name, parameter in run.params.items():
        params[name] = vector[at : at + parameter.numel()].view_as(parameter)
        at += parameter.numel()
    losses = [
        F.cross_entropy(torch.func.functional_call(run.model, params, (images,)) / T, labels)
        for images, labels in run.samples(criterion.needs)
    ]
    assert len(losses) == 3
    return torch.stack(losses).mean()


def test_grasp_is_the_weight_times_hessian_times_gradient() -> None:
    run, criterion = tiny_run(), GraSP(samples=5, temperature=2.0)
    vector = torch.cat([p.detach().flatten() for p in run.params.values()])

    def loss(v: Tensor) -> Tensor:
        return mean_loss(run, v, criterion, 2.0)

    gradient = torch.autograd.functional.jacobian(loss, vector)
    hessian = torch.autograd.functional.hessian(loss, vector)
    products = vector * (hessian @ gradient)
    wanted = products[:8].view(2, 4).sum(dim=1) + products[8:10]  # two filters, two biases
    found = criterion.scores(run, run.graph.groups)["conv"]
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


def test_grasp_has_a_sign(resnet_run: RunState) -> None:
    found = GraSP(samples=2).scores(resnet_run, resnet_run.graph.groups)
    assert min(float(scores.min()) for scores in found.values()) < 0


def test_grasp_takes_a_hundred_images_of_each_class_at_temperature_200() -> None:
    criterion = GraSP()
    needs = criterion.needs
    assert (needs.samples, needs.batch, needs.by_class) == (100, 100, True)
    assert criterion.temperature == 200.0
