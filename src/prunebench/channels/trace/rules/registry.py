"""Which rule follows the channels through which operation."""

from __future__ import annotations

from functools import cache
from typing import Any

from prunebench.channels.trace.passes import Rule
from prunebench.channels.trace.rules.layers import LAYERS
from prunebench.channels.trace.rules.norms import NORMS
from prunebench.channels.trace.rules.pointwise import is_pointwise, pointwise
from prunebench.channels.trace.rules.reductions import FOREIGN, MIXING
from prunebench.channels.trace.rules.tensors import MOVES

RULES = {**MOVES, **LAYERS, **NORMS, **MIXING}


@cache
def rule_of(func: Any) -> Rule | None:
    """Return the rule that follows an operation's channels, or None if there is none."""
    rule = RULES.get(func.overloadpacket) or FOREIGN.get(str(func.overloadpacket))
    if rule is not None and func._overloadname not in ("dtype", "out"):
        return rule
    return pointwise if is_pointwise(func) else None
