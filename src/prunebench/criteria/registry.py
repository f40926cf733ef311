"""The criteria by name. A package adds its own through the entry-point group prunebench.criteria.

From its line here, a criterion is a one-shot method of the same name (`methods.one_shot`) and a
value of the option `criterion` of other methods (`ChosenCriterion`).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from prunebench.core.errors import ConfigError
from prunebench.core.names import add_plug_ins, import_named, plug_ins, unknown_name
from prunebench.criteria.base import Criterion

CRITERIA = {
    "bn_scale": "prunebench.criteria.weights:BNScale",
    "fisher": "prunebench.criteria.gradients:Fisher",
    "fpgm": "prunebench.criteria.weights:FPGM",
    "grasp": "prunebench.criteria.curvature:GraSP",
    "l1": "prunebench.criteria.weights:L1",
    "l2": "prunebench.criteria.weights:L2",
    "mask_fisher": "prunebench.criteria.masks:MaskFisher",
    "random": "prunebench.criteria.random:Random",
    "rdt": "prunebench.criteria.curvature:RDT",
    "taylor": "prunebench.criteria.gradients:Taylor",
    "tfo": "prunebench.criteria.gradients:TFO",
}


def criterion_paths() -> dict[str, str]:
    """Return "module:class" of every criterion; raise ConfigError for a name registered twice."""
    return add_plug_ins("criterion", CRITERIA, plug_ins("prunebench.criteria"))


def criterion_class(name: str) -> type[Criterion]:
    """Import and return a criterion's class; ConfigError for an unknown name or a bad plug-in."""
    found: type[Criterion] = import_named("criterion", name, criterion_paths(), CRITERIA)
    return found


def criterion_name(kind: type[Criterion]) -> str:
    """Return the name that a criterion's class is registered with."""
    names = (*CRITERIA, *criterion_paths())  # plug-ins are imported only if they are needed
    return next(name for name in names if criterion_class(name) is kind)


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


def _written(criterion: Criterion) -> dict[str, Any]:
    return {criterion_name(type(criterion)): criterion.model_dump(mode="json")}


# An option that holds a criterion: its name, or its name with options of its own.
ChosenCriterion = Annotated[Criterion, BeforeValidator(_read), PlainSerializer(_written)]
