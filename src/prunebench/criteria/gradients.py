"""Criteria computed from gradients of the loss.

- `fisher`, `tfo`: as in OrthoReg's official code (Lubana et al., arXiv 2009.05014). `fisher`
  averages the gradient over all images first and squares once per filter. It is therefore the
  square of a first-order Taylor term, although the code cites Theis et al. (arXiv 1801.05787), who
  average the squares of single images. Biases count where a convolution has one: in VGG. `tfo`
  does the same for batch norm's scale; the code also computes the shift's product but drops it.
  Its README cites Molchanov et al. 2017, who use activations.
- `taylor`: Molchanov et al., Importance Estimation for Neural Network Pruning, arXiv 1906.10771,
  first order, of weights: method 0 ("Taylor_weight") of the official code. It squares each
  weight's term, sums over the filter, and averages over batches.

Gradients are computed in eval mode, so batch norm uses its running statistics, and leave the
network unchanged. The images are those that the run draws for the present phase
(`ScoringRun.samples`), so that a resumed run computes the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from pydantic import Field
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.unit_weights import (
    bias_name,
    filter_rows,
    member_rows,
    producers,
    scale_members,
)
from prunebench.channels.untouched import untouched
from prunebench.criteria.base import (
    Combine,
    Criterion,
    Needs,
    ScoringRun,
    combined,
)
from prunebench.experiments.settings import Count


class DataCriterion(Criterion):
    """A criterion that needs training images."""

    samples: Count = Field(
        10_112,
        description="Number of training images; all of them if there are fewer. OrthoReg's code "
        "names 10,000 and stops after the batch that exceeds them: 79 batches of 128.",
    )
    batch: Count = Field(128, description="Images per batch.")
    augment: bool = Field(
        True, description="Augment the images as in training (default: OrthoReg's code)."
    )

    @property
    def needs(self) -> Needs:
        """Return the images to ask the run for."""
        return Needs(samples=self.samples, batch=self.batch, augment=self.augment)


@contextmanager
def differentiating(model: nn.Module) -> Iterator[None]:
    """Run in eval mode with gradients; restore modes and buffers afterwards."""
    with untouched(model), torch.enable_grad():
        yield


def filter_parameters(run: ScoringRun, groups: Iterable[ChannelGroup]) -> dict[str, nn.Parameter]:
    """Return the weights and biases of all layers that produce the groups, by name."""
    found: dict[str, nn.Parameter] = {}
    for group in groups:
        for member in producers(group):
            names = (member.parameters[0], bias_name(member))
            found |= {name: run.params[name] for name in names if name in run.params}
    return found


def batch_gradients(
    run: ScoringRun, params: Mapping[str, nn.Parameter], needs: Needs
) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield, for each batch, its number of images and the gradients of their mean loss."""
    with differentiating(run.model):
        for inputs, targets in run.samples(needs):
            gradients = torch.autograd.grad(run.loss(inputs, targets), list(params.values()))
            yield len(inputs), list(gradients)


def mean_gradients(
    run: ScoringRun, params: Mapping[str, nn.Parameter], needs: Needs
) -> dict[str, Tensor]:
    """Return the gradients of the mean loss over all images."""
    sums, images = zeros_like(params), 0
    for count, gradients in batch_gradients(run, params, needs):
        for total, gradient in zip(sums, gradients, strict=True):
            total.add_(gradient, alpha=count)
        images += count
    return {name: total / images for name, total in zip(params, sums, strict=True)}


def zeros_like(params: Mapping[str, Tensor]) -> list[Tensor]:
    """Return a tensor of zeros like each parameter."""
    return [torch.zeros_like(parameter) for parameter in params.values()]


def times(params: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the product of parameter and value for each value, by name."""
    return {name: params[name].detach() * value for name, value in values.items()}


def named(params: Mapping[str, Tensor], values: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the values by the names of their parameters."""
    return dict(zip(params, values, strict=True))


def squared_sum(terms: Tensor) -> Tensor:
    """Return the square of each row's sum, (units, terms) to (units,).

    >>> squared_sum(torch.tensor([[1.0, 2.0, -4.0]]))
    tensor([1.])
    """
    return terms.sum(dim=1).square()


def sum_of_squares(terms: Tensor) -> Tensor:
    """Return the sum of each row's squares, (units, terms) to (units,).

    >>> sum_of_squares(torch.tensor([[1.0, 2.0, -4.0]]))
    tensor([21.])
    """
    return terms.square().sum(dim=1)


class Fisher(DataCriterion):
    """( sum w g(w) + b g(b) )^2 with the mean gradient g."""

    summary = "one-shot, smallest (sum of w g)^2 of a filter (OrthoReg's score and baseline)"

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the squared first-order term of each unit."""
        params = filter_parameters(run, groups.values())
        products = times(params, mean_gradients(run, params, self.needs))
        return {
            name: combined(filter_rows(products, group), self.combine, squared_sum)
            for name, group in groups.items()
        }


class TFO(DataCriterion):
    """( gamma g(gamma) )^2 with the mean gradient g."""

    summary = "one-shot, smallest (gamma g)^2 of batch norm (OrthoReg's baseline)"

    combine: Combine = "first"  # a depthwise layer inherits the scores of the layer it reads

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the squared term of each unit; TrainingError if a group has no batch norm."""
        scales = {name: scale_members(run.model, group) for name, group in groups.items()}
        names = [member.parameters[0] for members in scales.values() for member in members]
        params = {name: run.params[name] for name in names}
        products = times(params, mean_gradients(run, params, self.needs))
        return {
            name: combined(
                [member_rows(products, member) for member in members], self.combine, squared_sum
            )
            for name, members in scales.items()
        }


class Taylor(DataCriterion):
    """The mean over batches of sum (w g(w))^2 with the batch's gradient g; biases do not count."""

    summary = "one-shot, smallest sum of (w g)^2 of a filter (Molchanov et al.)"

    def scores(self, run: ScoringRun, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return each unit's score, averaged over the batches."""
        weights = {m.parameters[0] for group in groups.values() for m in producers(group)}
        params = {name: p for name, p in run.params.items() if name in weights}
        batches = []
        for _, gradients in batch_gradients(run, params, self.needs):
            products = times(params, named(params, gradients))
            batches.append(
                {
                    name: combined(filter_rows(products, group), self.combine, sum_of_squares)
                    for name, group in groups.items()
                }
            )
        return {
            name: torch.stack([scores[name] for scores in batches]).mean(dim=0) for name in groups
        }
