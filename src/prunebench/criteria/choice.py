"""The type of an option that holds a criterion: its name, or its name with options.

In a configuration: `criterion: fisher`, or `criterion: {fisher: {samples: 500}}`.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer, SerializationInfo

from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name
from prunebench.criteria.base import Criterion
from prunebench.criteria.registry import criterion_class, criterion_name


def _read(value: Any) -> Any:
    """Turn "fisher" or {"fisher": {"samples": 500}} into a criterion."""
    if isinstance(value, Criterion):
        return value
    named = {value: {}} if isinstance(value, str) else value
    if not isinstance(named, dict) or len(named) != 1:
        raise ValueError(f"expected a criterion's name, or name: options, found {value!r}")
    (name, options) = next(iter(named.items()))
    try:
        kind = criterion_class(str(name))
    except ConfigError as error:
        raise ValueError(str(error)) from None
    fields = kind.model_fields
    for key in options if isinstance(options, dict) else ():
        if key not in fields:
            raise ValueError(unknown_name(f"option of {name}", str(key), fields))
    return kind.model_validate(options)


def _written(criterion: Criterion, info: SerializationInfo) -> dict[str, Any]:
    options = criterion.model_dump(mode="json", exclude_defaults=info.exclude_defaults)
    return {criterion_name(type(criterion)): options}


ChosenCriterion = Annotated[Criterion, BeforeValidator(_read), PlainSerializer(_written)]
