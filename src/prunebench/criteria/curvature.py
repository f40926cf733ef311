"""Criteria computed from one gradient per class, or from second derivatives: `rdt` and `grasp`.

Both are baselines of OrthoReg and follow its official code (Lubana et al., arXiv 2009.05014).
`grasp` is due to Wang et al., Picking Winning Tickets Before Training by Preserving Gradient Flow,
arXiv 2002.07376. The code fixes 100 classes; here the classes are the network's outputs and the
data set's labels.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.unit_weights import filter_rows
from prunebench.criteria.base import Combine, Needs, ScoringRun, at_least_single, combined
from prunebench.criteria.gradients import (
    DataCriterion,
    differentiating,
    filter_parameters,
    named,
    times,
    zeros_like,
)
from prunebench.experiments.settings import Count, Positive


def row_sum(terms: Tensor) -> Tensor:
    """Return the sum of each row, (units, terms) to (units,)."""
    return terms.sum(dim=1)


class RDT(DataCriterion):
    """The sum over a filter of F, divided by the mean of F over the layer's weights.

    F = sum over batches of B sum_j p_j (d log p_j / dw)^2. B is the batch size, j runs over the
    classes, and p_j and log p_j are means over the batch. A bias is divided by the mean over the
    biases. F is not multiplied by w^2. A layer without any gradient scores 0.
    """

    needs_labels = True  # it looks at the probability of each class
    summary = "one-shot, smallest sensitivity of the outputs (OrthoReg's baseline rdt)"

    combine: Combine = "sum"  # the same as joint

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the relative sensitivity of each unit."""
        params = filter_parameters(run, groups.values())
        relative = {
            name: value / value.mean() if bool(value.any()) else value
            for name, value in output_sensitivity(run, params, self.needs).items()
        }
        return {
            name: combined(filter_rows(relative, group), self.combine, row_sum)
            for name, group in groups.items()
        }


def output_sensitivity(
    run: ScoringRun, params: Mapping[str, nn.Parameter], needs: Needs
) -> dict[str, Tensor]:
    """Return F of every parameter: one backward pass per class and batch."""
    sums = zeros_like(params)
    with differentiating(run.model):
        for inputs, labels in run.samples(needs):
            logits = at_least_single(run.model(inputs))
            log_p = F.log_softmax(logits, dim=1).mean(dim=0)
            p = F.softmax(logits.detach(), dim=1).mean(dim=0)
            for j in range(len(p)):
                gradients = torch.autograd.grad(
                    log_p[j], list(params.values()), retain_graph=j < len(p) - 1
                )
                for total, gradient in zip(sums, gradients, strict=True):
                    total.add_(len(labels) * p[j] * gradient.square())
    return named(params, sums)


class GraSP(DataCriterion):
    """sum w (Hg)(w) + b (Hg)(b), signed: the lowest scores, also below zero, are pruned first.

    g and H are the gradient and the Hessian of the cross-entropy of logits / T, over all trainable
    parameters of the network, each of one batch per class and averaged over the classes.
    """

    needs_labels = True  # a batch of each class
    summary = "one-shot, smallest sum of w (Hg) of a filter (Wang et al.; OrthoReg's baseline)"

    combine: Combine = "sum"  # the same as joint
    samples: Count = Field(
        100, description="Number of training images per class, all in one batch; `batch` is unused."
    )
    temperature: Positive = Field(200.0, description="T, by which the logits are divided.")

    @property
    def needs(self) -> Needs:
        """Return one batch per class."""
        return Needs(samples=self.samples, batch=self.samples, augment=self.augment, by_class=True)

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return each unit's contribution to the change of the gradient's norm."""
        wanted = filter_parameters(run, groups.values())
        flow = gradient_flow(run, self.needs, self.temperature)
        products = times(wanted, {name: flow[name] for name in wanted})
        return {
            name: combined(filter_rows(products, group), self.combine, row_sum)
            for name, group in groups.items()
        }


def gradient_flow(run: ScoringRun, needs: Needs, temperature: float) -> dict[str, Tensor]:
    """Return H g of every trainable parameter, by name."""
    params = {name: p for name, p in run.params.items() if p.requires_grad}
    parameters = list(params.values())
    mean, product = zeros_like(params), zeros_like(params)
    classes = 0

    def gradients(inputs: Tensor, labels: Tensor, *, twice: bool) -> tuple[Tensor, ...]:
        loss = F.cross_entropy(at_least_single(run.model(inputs)) / temperature, labels)
        return torch.autograd.grad(loss, parameters, create_graph=twice)

    with differentiating(run.model):
        for inputs, labels in run.samples(needs):
            classes += 1
            for total, gradient in zip(mean, gradients(inputs, labels, twice=False), strict=True):
                total.add_(gradient)
        for inputs, labels in run.samples(needs):
            found = gradients(inputs, labels, twice=True)
            along = torch.stack([(g * m).sum() for g, m in zip(found, mean, strict=True)]).sum()
            for total, second in zip(product, torch.autograd.grad(along, parameters), strict=True):
                total.add_(second)
    return {name: total / classes**2 for name, total in named(params, product).items()}
