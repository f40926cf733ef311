"""Docstrings for mkdocstrings: doctests stand under their own heading, in code."""

from __future__ import annotations

import re
from typing import Any

import griffe

_FIRST = re.compile(r"\n+(?=>>> )")


def with_heading(docstring: str) -> str:
    r"""Put the heading Examples above the first doctest, which our docstrings leave out.

    >>> with_heading("Return 1.\n\n>>> one()\n1")
    'Return 1.\n\nExamples\n--------\n>>> one()\n1'
    """
    return _FIRST.sub("\n\nExamples\n--------\n", docstring, count=1)


class Doctests(griffe.Extension):
    """Applies `with_heading` to everything that is documented."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute."""
        if obj.docstring is not None:
            obj.docstring.value = with_heading(obj.docstring.value)
