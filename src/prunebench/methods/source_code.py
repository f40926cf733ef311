"""A hash of the code of a method, to notice that stored results were computed by other code.

A run is repeated if its specification changes, not if the source of its method does. The hash
covers the syntax trees, without comments and docstrings, of the module of the method's class and of
the modules that it imports from `methods` and `criteria`, directly or not. Only files are read:
neither the method nor torch is imported.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import resolve_name
from typing import Any

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
        return code_of(tuple(roots)) if paths[0] else None
    except (OSError, SyntaxError):
        return None


@cache
def code_of(roots: tuple[str, ...]) -> str:
    """Return the hash of some modules and of the modules that they import."""
    found: dict[str, str] = {}
    pending = list(roots)
    while pending:
        name = pending.pop()
        if name not in found:
            found[name], imported = read_module(name)
            pending += imported
    content = "\n".join(f"{name}\n{found[name]}" for name in sorted(found))
    return hashlib.sha256(content.encode()).hexdigest()


@cache
def read_module(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the code of a module, and the names of the own modules that it imports."""
    file = source_of(name)
    if file is None:
        raise FileNotFoundError(f"{name}: no source")
    tree = ast.parse(file.read_bytes())
    imported = tuple(_imported(tree, name))
    return plain_code(tree), imported


def plain_code(tree: ast.Module) -> str:
    r"""Return the code of a module without comments, docstrings and layout.

    >>> plain_code(ast.parse('def f(x):\n    "Say."\n    return (x)  # why'))
    'def f(x):\n    return x'
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def _imported(tree: ast.Module, module: str) -> Iterator[str]:
    """Yield the modules of `methods` and `criteria` that a module imports."""
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level + (node.module or "")
            source = resolve_name(dots, module.rpartition(".")[0])
            names += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    for name in names:
        if name.startswith(OWN) and name.rpartition(".")[2] not in LISTS and source_of(name):
            yield name
