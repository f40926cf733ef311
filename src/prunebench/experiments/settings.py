"""Settings: the frozen base class of all options, and how numbers follow a shortened run.

A run with a share of the epochs must stay the same algorithm. A field is marked `Shrinks` if it
counts steps, which become fewer, and `Grows` if it is added at every step, so that the total over
the run stays the same. All other numbers stay.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
)

from prunebench.core.errors import shown
from prunebench.core.own_code import OWN_NAME, name_in_paths

S = TypeVar("S", bound=BaseModel)

NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Beta = Annotated[float, Field(ge=0, lt=1)]
NAME, DOTTED_NAME = r"^[a-z][a-z0-9_]*$", r"^[a-z][a-z0-9_.]*$"
LONGEST_NAME = 100  # characters
LONGEST_WHOLE = 240  # of a name with what is added to it; parts of paths have at most 255
MOST_THREADS = 256  # more than any result needs; a job starts them all
LARGEST_SEED = 2**32 - 1
Threads = Annotated[int, Field(ge=1, le=MOST_THREADS)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
OWN_OR_NAME = rf"^([a-z][a-z0-9_]*|{OWN_NAME})$"
ALLOWED = "allowed: lower-case letters, digits and underscores, a letter first"
Slug = Annotated[str, Field(pattern=NAME, max_length=LONGEST_NAME)]
DottedSlug = Annotated[str, Field(pattern=DOTTED_NAME, max_length=LONGEST_NAME)]
# The name of a network or a data set; "module:function" is one of the user's own.
OwnOrSlug = Annotated[
    str,
    Field(pattern=OWN_OR_NAME, max_length=LONGEST_NAME),
    AfterValidator(name_in_paths),
]


def is_name(text: str) -> bool:
    """Whether a text may be the name of an experiment, a recipe or a data set.

    >>> is_name("digits_base_x0_1"), is_name("../digits_base"), is_name("a" * 300)
    (True, False, False)
    """
    return len(text) <= LONGEST_WHOLE and re.fullmatch(NAME, text) is not None


class Settings(BaseModel):
    """Frozen, keyword-only settings in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _are_what_they_seem(cls, value: Any, info: ValidationInfo) -> Any:
        """Reject true and false as numbers, for 1 and 0, and NUL, which no path can have."""
        own = type(value)
        if own is float or own is int or own is dict or value is None:  # most values of results
            return value
        values = value if own in (list, tuple) else (value,)
        if bool in map(type, values):
            kind = cls.model_fields[str(info.field_name)].annotation
            if bool not in (kind, *get_args(kind)):
                raise ValueError("true and false are not allowed here")
        if any(isinstance(v, str) and "\0" in v for v in values):
            raise ValueError(f"{shown(value)} has the character NUL")
        return value


@dataclass(frozen=True)
class Shrinks:
    """Marks a number of steps, scaled to at least 1; 0 and None stay."""


@dataclass(frozen=True)
class Grows:
    """Marks an increment, added at every step or at a fixed interval of steps.

    Attributes
    ----------
    most
        Name of the field with the upper limit of the scaled value; None: no limit.
    power
        1, or 2 for an increment of another number that grows.
    """

    most: str | None = None
    power: int = 1


def shortened(settings: S, scale: float) -> S:
    """Return the settings of a run with a share `scale`, in (0, 1], of the steps."""
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
