"""A hash of the code of a method, to notice that stored results were computed by other code.

A run is repeated if its specification changes, not if the source of its method does. The hash
covers the module of the method's class and the modules that it imports from `methods` and
`criteria`, directly or not. Neither the method nor torch is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunebench.core.module_code import code_of
from prunebench.core.plug_ins import source_of
from prunebench.criteria.registry import criterion_paths
from prunebench.methods.registry import method_paths

ONE_SHOT = "prunebench.methods.one_shot"
OWN = ("prunebench.methods.", "prunebench.criteria.")
LISTS = ("registry", "choice", "source_code")  # look-up by name: an added name changes no method


def method_code(method: str, options: Mapping[str, Any]) -> str | None:
    """Return the hash of a method's code and of its option `criterion`; None without sources.

    A criterion that is a method by itself includes the code of one-shot pruning.
    """
    criteria, chosen = criterion_paths(), options.get("criterion")
    names = [chosen] if isinstance(chosen, str) else list(chosen or ())
    paths = [method_paths().get(method), *(criteria.get(name) for name in names)]
    roots = [path.partition(":")[0] for path in paths if path]
    if method in criteria:
        roots.append(ONE_SHOT)
    try:
        return code_of(tuple(roots), is_own_code) if paths[0] else None
    except (OSError, SyntaxError):
        return None


def is_own_code(module: str) -> bool:
    """Whether a module belongs to the methods and criteria, other than by look-up."""
    return (
        module.startswith(OWN)
        and module.rpartition(".")[2] not in LISTS
        and source_of(module) is not None
    )
