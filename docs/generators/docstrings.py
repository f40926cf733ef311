"""Docstrings for mkdocstrings: doctests stand under their own heading, and fields are described.

A field of a class is described by its comment or by the description of a pydantic field.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path
from typing import Any

import griffe

_FIRST = re.compile(r"\n+(?=>>> )")


def with_heading(docstring: str) -> str:
    r"""Put the heading Examples above the first doctest, which our docstrings leave out.

    >>> with_heading("Return 1.\n\n>>> one()\n1")
    'Return 1.\n\nExamples\n--------\n>>> one()\n1'
    """
    return _FIRST.sub("\n\nExamples\n--------\n", docstring, count=1)


def field_words(source: str, line: int) -> str:
    r"""Return what a class says about the field that begins in a line of its source, from 1.

    That is the description of a pydantic field, the comment after the field, or the lines of
    comment right above it; "" without any. Headings of several members begin with a dash.

    >>> field_words("# of\n# all\nn: int = 1\nm: int  # of one\n", 3)
    'of all'
    >>> field_words("# of\n# all\nn: int = 1\nm: int  # of one\n", 4)
    'of one'
    >>> field_words('n: int = Field(\n  1, description="Number " "of all.")', 1)
    'Number of all.'
    """
    field = _fields(source).get(line)
    if field is None:
        return ""
    call = field.value
    if isinstance(call, ast.Call) and ast.unparse(call.func) == "Field":
        for keyword in call.keywords:
            if keyword.arg == "description" and isinstance(keyword.value, ast.Constant):
                return str(keyword.value.value)
    comments = _comments(source)
    if field.end_lineno in comments:
        return comments[field.end_lineno][1]
    above = line - 1
    while comments.get(above, (False, ""))[0]:
        above -= 1
    words = " ".join(comments[n][1] for n in range(above + 1, line))
    return "" if words.startswith("-") else words


@cache
def _fields(source: str) -> dict[int, ast.AnnAssign]:
    """Return the annotated assignments by the line in which they begin."""
    nodes = ast.walk(ast.parse(source))
    return {node.lineno: node for node in nodes if isinstance(node, ast.AnnAssign)}


@cache
def _comments(source: str) -> dict[int, tuple[bool, str]]:
    """Return the comments by line: whether nothing else is on it, and the words."""
    return {
        token.start[0]: (token.line.lstrip().startswith("#"), token.string.lstrip("# "))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }


class Descriptions(griffe.Extension):
    """Applies `with_heading` and `field_words` to everything that is documented."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = with_heading(obj.docstring.value)

    def on_class_members(self, *, cls: griffe.Class, **_: Any) -> None:
        """Describe the fields of a class whose docstring does not list them."""
        if cls.docstring is not None and "Attributes\n---" in cls.docstring.value:
            return
        assert isinstance(cls.filepath, Path)
        source = cls.filepath.read_text(encoding="utf-8")
        for field in cls.attributes.values():
            if field.docstring is None and field.lineno is not None:
                words = field_words(source, field.lineno)
                field.docstring = griffe.Docstring(words, parent=field) if words else None
            if isinstance(field.value, griffe.ExprCall) and str(field.value.function) == "Field":
                field.value = field.value.arguments[0]  # the default
