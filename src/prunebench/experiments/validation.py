"""Validate the content of files, with errors of one line.

An error names the file, the key, the value and the allowed values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from prunebench.core.errors import ConfigError, shown
from prunebench.core.names import unknown_name
from prunebench.experiments.settings import DOTTED_NAME, NAME, OWN_OR_NAME

M = TypeVar("M", bound=BaseModel)

EXPECTED = {  # by the first word of pydantic's error types
    "bool": "true or false",
    "dict": "a mapping",
    "float": "a number",
    "int": "an integer",
    "model": "a mapping",
    "string": "text",
    "tuple": "a list",
}
ALTERNATIVE = r"(literal|dict|list|tuple|function-\w+)\[|(bool|int|float|str)$"
LIMITS = {
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "finite_number": "a finite number",
}


def validate(
    model: type[M], content: Any, where: str, below: Callable[[str], str] | None = None
) -> M:
    """Return `content` as `model`; ConfigError is one line that begins with `where`.

    If `content` is only a part of a file, `below` maps a key to its parent's place in the file.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(f"{where}: expected a mapping, found {shown(content)}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        # A misspelt key is often also a missing one; the misspelling tells the user more.
        errors = sorted(error.errors(), key=lambda e: not _is_unknown_key(e))
        first = _deepest(errors)
        place, problem = _problem(model, first)
        key = str(first["loc"][0]) if first["loc"] else ""
        path = dotted(([below(key)] if below else []) + place)
        raise ConfigError(": ".join(part for part in (where, path, problem) if part)) from None


def dotted(location: Sequence[str | int]) -> str:
    """Format the place of a key in a file.

    >>> dotted(["networks", "resnet20", "seeds", 1])
    'networks.resnet20.seeds[1]'
    """
    parts = [f"[{part}]" if isinstance(part, int) else f".{part}" for part in location]
    return "".join(parts).removeprefix(".")


def _is_unknown_key(error: ErrorDetails) -> bool:
    return error["type"] in ("extra_forbidden", "invalid_key")


def _is_alternative(part: str | int) -> bool:
    """Whether a part of a place stands for one type of a union, such as `dict[str,float]`."""
    return isinstance(part, str) and re.match(ALTERNATIVE, part) is not None


def _deepest(errors: Sequence[ErrorDetails]) -> ErrorDetails:
    """Return the first error; of those about the types of a union, the one deepest in the value."""
    first = errors[0]
    at = next((i for i, part in enumerate(first["loc"]) if _is_alternative(part)), None)
    if at is None:
        return first
    others = [error for error in errors if error["loc"][:at] == first["loc"][:at]]
    return max(others, key=lambda error: len(error["loc"]))


def _problem(model: type[BaseModel], error: ErrorDetails) -> tuple[list[str | int], str]:
    """Return the place of an error, and its message with the allowed values."""
    place = [p for p in error["loc"] if p != "[key]" and not _is_alternative(p)]
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    if "[key]" in error["loc"]:
        place = place[:-1]
    match kind:
        case "extra_forbidden" | "invalid_key":
            return place[:-1], unknown_name("key", str(place[-1]), _fields_at(model, place[:-1]))
        case "missing":
            return place[:-1], f"the key {place[-1]!r} is missing"
        case "value_error":
            return place, str(context["error"])
        case "string_pattern_mismatch":
            if (pattern := context["pattern"]) not in (NAME, DOTTED_NAME, OWN_OR_NAME):
                return place, f"{shown(value)} does not match {pattern}"
            dots = ", dots" if pattern == DOTTED_NAME else ""
            allowed = f"lower-case letters, digits{dots} and underscores, a letter first"
            allowed += ", or module:function" if pattern == OWN_OR_NAME else ""
            return place, f"{shown(value)} is not a valid name (allowed: {allowed})"
        case "string_too_long":
            most = context["max_length"]
            return place, f"{shown(value)} has {len(value)} characters, at most {most} are allowed"
        case "literal_error":
            allowed_values = [name.strip("'") for name in re.split(", | or ", context["expected"])]
            return place, unknown_name("value", str(value), allowed_values)
        case "too_short":
            return place, f"needs at least {context['min_length']} entry, found {shown(value)}"
        case _ if kind in LIMITS:
            return place, f"must be {LIMITS[kind].format(**context)}, not {shown(value)}"
        case _ if (expected := EXPECTED.get(kind.split("_")[0])) is not None:
            return place, f"expected {expected}, found {shown(value)}"
        case _:
            return place, f"{error['msg'][0].lower()}{error['msg'][1:]}, not {shown(value)}"


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    """Return the field names of the model at `location`."""
    here: Any = model
    for part in location:
        if _is_model(here):
            here = here.model_fields[part].annotation
        else:  # a dictionary's value or a tuple's element
            here = next(reversed([a for a in get_args(here) if a is not Ellipsis]), None)
        here = next((a for a in get_args(here) if _is_model(a) and _is_union(here)), here)
    return list(here.model_fields) if _is_model(here) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _is_union(kind: Any) -> bool:
    return type(None) in get_args(kind)
