"""Gradients for criteria, taken without touching the network that is scored.

Batch norm uses its running statistics. Gradients are those of images that the run draws for the
present phase (`Run.samples`), so the same call gives the same numbers after a resume.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from prunebench.channels.groups import ChannelGroup
from prunebench.channels.trace import untouched
from prunebench.methods.criterion import Criterion
from prunebench.methods.importance import bias_name, producers
from prunebench.methods.run import Needs, Run

Count = Annotated[int, Field(ge=1)]


class DataCriterion(Criterion):
    """Options of a criterion that looks at images.

    OrthoReg's code names 10,000 images and stops after the batch that exceeds them: 79 of 128.
    """

    samples: Count = 10_112  # all where there are fewer
    batch: Count = 128
    augment: bool = True  # as in training: OrthoReg's code

    @property
    def needs(self) -> Needs:
        """Return the images as a method asks a run for them."""
        return Needs(samples=self.samples, batch=self.batch, augment=self.augment)


@contextmanager
def differentiating(model: nn.Module) -> Iterator[None]:
    """Run in eval mode with gradients; modes and buffers are put back."""
    with untouched(model), torch.enable_grad():
        yield


def filter_parameters(run: Run, groups: Iterable[ChannelGroup]) -> dict[str, nn.Parameter]:
    """Return weights and biases of all layers that produce the groups, by name."""
    found: dict[str, nn.Parameter] = {}
    for group in groups:
        for member in producers(group):
            names = (member.parameters[0], bias_name(member))
            found |= {name: run.params[name] for name in names if name in run.params}
    return found


def batch_gradients(
    run: Run, params: Mapping[str, nn.Parameter], needs: Needs
) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield the number of images and the gradients of their mean cross-entropy, batch by batch."""
    with differentiating(run.model):
        for inputs, labels in run.samples(needs):
            loss = F.cross_entropy(run.model(inputs).float(), labels)
            yield len(labels), list(torch.autograd.grad(loss, list(params.values())))


def mean_gradients(run: Run, params: Mapping[str, nn.Parameter], needs: Needs) -> dict[str, Tensor]:
    """Return the gradients of the mean cross-entropy over all images."""
    sums, images = zeros_like(params), 0
    for count, gradients in batch_gradients(run, params, needs):
        for total, gradient in zip(sums, gradients, strict=True):
            total.add_(gradient, alpha=count)
        images += count
    return {name: total / images for name, total in zip(params, sums, strict=True)}


def zeros_like(params: Mapping[str, Tensor]) -> list[Tensor]:
    """Return zeros of the shapes of all parameters."""
    return [torch.zeros_like(parameter) for parameter in params.values()]


def times(params: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return parameter times value for each value, by name."""
    return {name: params[name].detach() * value for name, value in values.items()}


def named(params: Mapping[str, Tensor], values: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the values by the names of the parameters that they belong to."""
    return dict(zip(params, values, strict=True))
