"""The criteria by name. A package adds its own through the entry-point group prunebench.criteria.

From its line here, a criterion is a one-shot method of the same name (`methods.one_shot`) and a
value of the option `criterion` of other methods (`criteria.choice`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunebench.core.names import add_plug_ins, import_named, plug_ins

if TYPE_CHECKING:
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
