"""The criteria by name, for methods that let the configuration choose one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, PlainSerializer

from prunebench.core.names import unknown_name
from prunebench.criteria.base import Criterion, RandomScore
from prunebench.criteria.curvature import GraSPScore, RDTScore
from prunebench.criteria.gradients import FisherScore, TaylorScore, TFOScore
from prunebench.criteria.masks import MaskFisherScore
from prunebench.criteria.weights import BNScaleScore, FPGMScore, L1Score, L2Score

CRITERIA: dict[str, type[Criterion]] = {
    "bn_scale": BNScaleScore,
    "fisher": FisherScore,
    "fpgm": FPGMScore,
    "grasp": GraSPScore,
    "l1": L1Score,
    "l2": L2Score,
    "mask_fisher": MaskFisherScore,
    "random": RandomScore,
    "rdt": RDTScore,
    "taylor": TaylorScore,
    "tfo": TFOScore,
}
_NAMES = {kind: name for name, kind in CRITERIA.items()}


def _read(value: Any) -> Any:
    """Take "fisher" or {"fisher": {"samples": 500}} for a criterion."""
    if isinstance(value, Criterion):
        return value
    named = {value: {}} if isinstance(value, str) else value
    if not isinstance(named, dict) or len(named) != 1:
        raise ValueError(f"expected a criterion's name, or name: options, found {value!r}")
    (name, options) = next(iter(named.items()))
    if name not in CRITERIA:
        raise ValueError(unknown_name("criterion", str(name), CRITERIA))
    fields = CRITERIA[name].model_fields
    for key in options if isinstance(options, dict) else ():
        if key not in fields:
            raise ValueError(unknown_name(f"option of {name}", str(key), fields))
    return CRITERIA[name].model_validate(options)


def _written(criterion: Criterion) -> dict[str, Any]:
    return {_NAMES[type(criterion)]: criterion.model_dump(mode="json")}


# An option that holds a criterion: its name, or its name with options of its own.
ChosenCriterion = Annotated[Criterion, BeforeValidator(_read), PlainSerializer(_written)]
