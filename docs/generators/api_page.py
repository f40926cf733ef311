"""The names on the page docs/api.md, as mkdocstrings wants them."""

from __future__ import annotations

import inspect
import textwrap

import prunebench
from prunebench import testing

PUBLIC, TESTING = "<!-- public names -->", "<!-- names of prunebench.testing -->"


def with_names(text: str) -> str:
    """Put names in the place of the marks: the public ones, and those for testing a method."""
    paths = [prunebench._MODULES[name] for name in sorted(prunebench._MODULES, key=str.lower)]
    public = "\n\n".join(f"::: {path.replace(':', '.')}" for path in paths)
    own = [
        name
        for name, value in vars(testing).items()
        if inspect.isroutine(value)
        and value.__module__ == testing.__name__
        and not name.startswith("_")
    ]
    members = textwrap.indent("\n".join(f"- {name}" for name in own), " " * 8)
    module = f"::: {testing.__name__}\n    options:\n      members:\n{members}"
    return text.replace(PUBLIC, public).replace(TESTING, module)
