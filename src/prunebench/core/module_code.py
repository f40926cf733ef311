"""A hash of the code of some modules and of those that they import.

It covers syntax trees, without comments and docstrings. Only files are read: no module is imported.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from importlib.util import resolve_name

from prunebench.core.plug_ins import source_of


@cache
def code_of(roots: tuple[str, ...], is_followed: Callable[[str], bool]) -> str:
    """Return the hash of some modules and of the modules that they import, directly or not.

    Imported modules count if `is_followed` of their name. OSError or SyntaxError without a source
    that can be parsed.
    """
    found: dict[str, str] = {}
    pending = list(roots)
    while pending:
        name = pending.pop()
        if name not in found:
            found[name], imported = read_module(name)
            pending += filter(is_followed, imported)
    content = "\n".join(f"{name}\n{found[name]}" for name in sorted(found))
    return hashlib.sha256(content.encode()).hexdigest()


@cache
def read_module(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the code of a module, and the names that it imports: modules and their content."""
    file = source_of(name)
    if file is None:
        raise FileNotFoundError(f"{name}: no source")
    tree = ast.parse(file.read_bytes())
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    imported = tuple(_imported(tree, package))
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


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield what the module of a syntax tree imports; `package` is where its dots begin."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level + (node.module or "")
            source = resolve_name(dots, package)
            yield from (source, *(f"{source}.{alias.name}" for alias in node.names))
