"""Settings of a shortened run: what a number counts, its field declares, and one rule follows it.

A length in steps shrinks with the epochs. A number that adds up over the steps grows as they
become fewer, so that the same goal is reached. All other numbers stay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

S = TypeVar("S", bound=BaseModel)


NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class Settings(BaseModel):
    """Frozen, keyword-only settings in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse true and false as numbers, which Python takes for 1 and 0."""
        kind = cls.model_fields[str(info.field_name)].annotation
        values = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(v, bool) for v in values) and bool not in (kind, *get_args(kind)):
            raise ValueError("true and false are no values of this key")
        return value


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
