"""The decision of a pruning method: units to remove and entries to set to zero."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Plan:
    """Units to remove from each group and entries to zero in each parameter.

    Attributes
    ----------
    removed
        Group name to int64 units, numbered as in the current network.
    zeroed
        Parameter name to a bool mask of the parameter's shape; True is kept.

    Raises
    ------
    ValueError
        If units are not one-dimensional int64, are negative or listed twice, or a mask is not bool.
    """

    removed: dict[str, Tensor] = field(default_factory=dict)
    zeroed: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, units in self.removed.items():
            check_units(name, units)
        for name, keep in self.zeroed.items():
            if keep.dtype != torch.bool:
                raise ValueError(f"the mask of {name!r} must be bool, not {keep.dtype}")


def check_units(group: str, units: Tensor) -> None:
    """Raise ValueError unless `units` are distinct non-negative int64 numbers."""
    if units.dtype != torch.int64 or units.ndim != 1:
        raise ValueError(
            f"units of {group!r} must be one-dimensional int64, "
            f"not {units.dtype} of shape {tuple(units.shape)}"
        )
    if units.numel() and int(units.min()) < 0:
        raise ValueError(f"units of {group!r} must not be negative, got {int(units.min())}")
    if len(set(units.tolist())) != units.numel():
        raise ValueError(f"units of {group!r} are listed twice: {units.tolist()}")
