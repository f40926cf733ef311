"""The criteria by name. A package adds its own through the entry-point group prunebench.criteria.

From its line here, a criterion is a one-shot method of the same name (`methods.one_shot`) and a
value of the option `criterion` of other methods (`criteria.choice`).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from prunebench.core.errors import ConfigError
from prunebench.core.plug_ins import check_plug_in, import_named, plug_ins, with_plug_ins

if TYPE_CHECKING:
    from prunebench.criteria.base import Criterion

CRITERIA = {
    "bn_scale": "prunebench.criteria.weights:BNScale",
    "fisher": "prunebench.criteria.gradients:Fisher",
    "fpgm": "prunebench.criteria.weights:FPGM",
    "grasp": "prunebench.criteria.curvature:GraSP",
    "hrank": "prunebench.criteria.hrank:HRank",
    "l1": "prunebench.criteria.weights:L1",
    "l2": "prunebench.criteria.weights:L2",
    "lamp": "prunebench.criteria.lamp:Lamp",
    "mask_fisher": "prunebench.criteria.masks:MaskFisher",
    "random": "prunebench.criteria.random:Random",
    "rdt": "prunebench.criteria.curvature:RDT",
    "taylor": "prunebench.criteria.gradients:Taylor",
    "tfo": "prunebench.criteria.gradients:TFO",
}


def criterion_paths() -> dict[str, str]:
    """Return "module:class" of every criterion, plug-ins included."""
    return with_plug_ins(CRITERIA, plug_ins("prunebench.criteria"))


def criterion_class(name: str) -> type[Criterion]:
    """Import and return a criterion's class; ConfigError for an unknown name or a bad plug-in."""
    paths = criterion_paths()
    found: type[Criterion] = import_named("criterion", name, paths, CRITERIA)
    if name not in CRITERIA:
        from prunebench.criteria.base import Criterion

        check_plug_in("criterion", name, paths[name], found, Criterion)
    return found


def criterion_name(kind: type[Criterion]) -> str:
    """Return the name that a criterion's class is registered with."""
    # A plug-in that is not imported has not defined the class.
    added = {n: p for n, p in criterion_paths().items() if p.partition(":")[0] in sys.modules}
    return next(name for name in (*CRITERIA, *added) if _is_class(name, kind))


def _is_class(name: str, kind: type[Criterion]) -> bool:
    try:
        return criterion_class(name) is kind
    except ConfigError:  # of another plug-in
        return False
