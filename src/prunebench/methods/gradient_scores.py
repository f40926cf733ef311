"""Criteria that need gradients of the loss.

`fisher` and `tfo` as OrthoReg's official code computes them (Lubana et al., arXiv 2009.05014):

- fisher: the gradient is averaged over all images first and squared once per filter, so it is the
  square of a first-order Taylor term, although the code cites Theis et al. (arXiv 1801.05787),
  who average squares of single images. Biases count wherever a convolution has one: in VGG.
- tfo: the same of batch norm's scale; the code works out the shift's product too and drops it.
  Its README cites Molchanov et al. 2017, who look at activations.

`taylor`: Molchanov et al., Importance Estimation for Neural Network Pruning, arXiv 1906.10771,
first order, of weights: method 0 ("Taylor_weight") of the official code. Each weight's term is
squared on its own, summed over the filter, and averaged over batches.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from prunebench.channels.groups import ChannelGroup
from prunebench.methods.criterion import Combine, combined
from prunebench.methods.gradients import (
    DataCriterion,
    batch_gradients,
    filter_parameters,
    mean_gradients,
    named,
    times,
)
from prunebench.methods.importance import filter_rows, member_rows, producers, scale_members
from prunebench.methods.run import Run


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


class FisherScore(DataCriterion):
    """( sum w g(w) + b g(b) )^2 with the mean gradient g."""

    def scores(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the squared first-order term of each unit."""
        params = filter_parameters(run, groups.values())
        products = times(params, mean_gradients(run, params, self.needs))
        return {
            name: combined(filter_rows(products, group), self.combine, squared_sum)
            for name, group in groups.items()
        }


class TFOScore(DataCriterion):
    """( gamma g(gamma) )^2 with the mean gradient g."""

    combine: Combine = "first"  # a depthwise layer takes over the scores of the one it reads

    def scores(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the squared term of each unit; TrainingError for a group without batch norm."""
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


class TaylorScore(DataCriterion):
    """The mean over batches of sum (w g(w))^2 with the batch's gradient g; no bias counts."""

    def scores(self, run: Run, groups: Mapping[str, ChannelGroup]) -> dict[str, Tensor]:
        """Return the mean of the batches' scores of each unit."""
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
