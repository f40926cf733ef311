"""The methods by name. A package adds its own through the entry-point group prunebench.methods."""

from __future__ import annotations

import pkgutil
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from prunebench.core.errors import ConfigError
from prunebench.core.names import look_up

if TYPE_CHECKING:
    from prunebench.methods.base import Method

METHODS = {
    "asfp": "prunebench.methods.sfp:ASFP",
    "asrfp": "prunebench.methods.sfp:ASRFP",
    "bn_scale": "prunebench.methods.one_shot:BNScale",
    "early_bird": "prunebench.methods.early_bird:EarlyBird",
    "epruner": "prunebench.methods.epruner:EPruner",
    "fisher": "prunebench.methods.one_shot:Fisher",
    "fixreg": "prunebench.methods.greg:FixReg",
    "fpgm": "prunebench.methods.one_shot:FPGM",
    "grasp": "prunebench.methods.one_shot:GraSP",
    "greg_1": "prunebench.methods.greg:GReg1",
    "greg_2": "prunebench.methods.greg:GReg2",
    "group_fisher": "prunebench.methods.group_fisher:GroupFisher",
    "increg": "prunebench.methods.increg.to_ratios:IncReg",
    "increg_accuracy": "prunebench.methods.increg.to_accuracy:IncRegAccuracy",
    "l1": "prunebench.methods.one_shot:L1",
    "l1_columns": "prunebench.methods.increg.columns:L1Columns",
    "l2": "prunebench.methods.one_shot:L2",
    "mask_fisher": "prunebench.methods.one_shot:MaskFisher",
    "orthoreg": "prunebench.methods.orthoreg:OrthoReg",
    "orthoreg_from_base": "prunebench.methods.orthoreg:OrthoRegFromBase",
    "random": "prunebench.methods.one_shot:Random",
    "rdt": "prunebench.methods.one_shot:RDT",
    "scratch_b": "prunebench.methods.controls:ScratchB",
    "scratch_e": "prunebench.methods.controls:ScratchE",
    "sfp": "prunebench.methods.sfp:SFP",
    "soft_fpgm": "prunebench.methods.sfp:SoftFPGM",
    "srfp": "prunebench.methods.sfp:SRFP",
    "taylor": "prunebench.methods.one_shot:Taylor",
    "tfo": "prunebench.methods.one_shot:TFO",
    "uniform_width": "prunebench.methods.controls:UniformWidth",
    "unpruned": "prunebench.methods.controls:Unpruned",
}


def method_paths() -> dict[str, str]:
    """Return "module:class" of every method, plug-ins included; a name taken twice is an error."""
    found = dict(METHODS)
    for entry in entry_points(group="prunebench.methods"):
        if entry.name in found:
            raise ConfigError(
                f"the plug-in {entry.value} registers the method {entry.name!r}, "
                f"which {found[entry.name]} has already"
            )
        found[entry.name] = entry.value
    return dict(sorted(found.items()))


def method_class(name: str) -> type[Method[Any]]:
    """Import and return a method's class; an unknown name raises ConfigError.

    So does a plug-in that cannot be imported; a method of ours that cannot is a bug and says where.
    """
    path = look_up("method", name, method_paths())
    try:
        found: type[Method[Any]] = pkgutil.resolve_name(path)
    except (ImportError, AttributeError) as error:
        if name in METHODS:
            raise
        raise ConfigError(f"the plug-in {path} of the method {name!r}: {error}") from error
    return found
