"""The methods by name. A package adds its own through the entry-point group prunebench.methods.

Every criterion (`criteria.registry`) is a one-shot method of the same name, and is not listed here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prunebench.core.errors import ConfigError
from prunebench.core.plug_ins import check_plug_in, import_named, plug_ins, with_plug_ins
from prunebench.criteria.registry import CRITERIA, criterion_class, criterion_paths

if TYPE_CHECKING:
    from prunebench.methods.base import Method

METHODS = {
    "asfp": "prunebench.methods.sfp:ASFP",
    "asrfp": "prunebench.methods.sfp:ASRFP",
    "early_bird": "prunebench.methods.early_bird:EarlyBird",
    "epruner": "prunebench.methods.epruner:EPruner",
    "fixreg": "prunebench.methods.greg:FixReg",
    "greg_1": "prunebench.methods.greg:GReg1",
    "greg_2": "prunebench.methods.greg:GReg2",
    "group_fisher": "prunebench.methods.group_fisher:GroupFisher",
    "increg": "prunebench.methods.increg.to_ratios:IncReg",
    "increg_accuracy": "prunebench.methods.increg.to_accuracy:IncRegAccuracy",
    "l1_columns": "prunebench.methods.increg.columns:L1Columns",
    "orthoreg": "prunebench.methods.orthoreg:OrthoReg",
    "orthoreg_from_base": "prunebench.methods.orthoreg:OrthoRegFromBase",
    "scratch_b": "prunebench.methods.controls:ScratchB",
    "scratch_e": "prunebench.methods.controls:ScratchE",
    "sfp": "prunebench.methods.sfp:SFP",
    "slimming": "prunebench.methods.slimming:Slimming",
    "soft_fpgm": "prunebench.methods.sfp:SoftFPGM",
    "srfp": "prunebench.methods.sfp:SRFP",
    "uniform_width": "prunebench.methods.controls:UniformWidth",
    "unpruned": "prunebench.methods.controls:Unpruned",
}


def method_paths() -> dict[str, str]:
    """Return "module:class" of every method and every criterion, plug-ins included."""
    found = with_plug_ins(METHODS, criterion_paths().items())
    return with_plug_ins(found, plug_ins("prunebench.methods"))


def method_class(name: str) -> type[Method[Any]]:
    """Import and return a method's class; ConfigError for an unknown name or a bad plug-in.

    The method of a criterion is made from the criterion's class.
    """
    paths = method_paths()
    found: Any = import_named("method", name, paths, {*METHODS, *CRITERIA})
    if name in criterion_paths():
        from prunebench.methods.one_shot import one_shot

        return one_shot(criterion_class(name))
    if name not in METHODS:
        from prunebench.methods.base import Method

        check_plug_in("method", name, paths[name], found, Method)
    method: type[Method[Any]] = found
    return method


def usable_methods() -> Iterator[tuple[str, type[Method[Any]]]]:
    """Yield names and classes of all methods, those of plug-ins last.

    A plug-in that cannot be used is skipped with a warning.
    """
    built_in = {*METHODS, *CRITERIA}
    for name in sorted(method_paths(), key=lambda name: (name not in built_in, name)):
        try:
            found = method_class(name)
        except ConfigError as error:
            print(f"prunebench: {error}; it is skipped", file=sys.stderr)
        else:
            yield name, found
