"""Settings of a shortened run: what a number counts, its field declares, and one rule follows it.

A length in steps shrinks with the epochs. A number that adds up over the steps grows as they
become fewer, so that the same goal is reached. All other numbers stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel

S = TypeVar("S", bound=BaseModel)


@dataclass(frozen=True)
class Shrinks:
    """Marks a whole number of steps; at least one is left, 0 and None stay."""


@dataclass(frozen=True)
class Grows:
    """Marks what is added in each step, or at each of several that are as many steps apart.

    Attributes
    ----------
    most
        Field that holds what it never exceeds; None: nothing.
    power
        2 for what changes another number that grows.
    """

    most: str | None = None
    power: int = 1


def shortened(settings: S, scale: float) -> S:
    """Return settings for a share `scale` of the steps, in (0, 1]."""
    changed: dict[str, Any] = {}
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        for mark in field.metadata if value else ():
            if isinstance(mark, Shrinks):
                changed[name] = max(1, round(scale * value))
            elif isinstance(mark, Grows):
                grown = value / scale**mark.power
                changed[name] = min(grown, getattr(settings, mark.most)) if mark.most else grown
    return settings.model_copy(update=changed)
