"""The page of all sub-commands, from their help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from text import join, styled, table

from prunebench.cli.app import app
from prunebench.cli.prune_own import own_app


def page() -> str:
    """Return the page of all commands."""
    root: Any = typer.main.get_command(app)
    commands = {**root.commands, "prune --model": typer.main.get_command(own_app)}
    return join(
        "# Commands",
        "`prunebench --help` lists the commands, `prunebench COMMAND --help` prints what stands "
        "here. `prunebench --install-completion` completes commands and options in bash, zsh, fish "
        "and PowerShell, from the next shell on.",
        *(part for name, command in sorted(commands.items()) for part in _command(name, command)),
    )


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"## {name}"
    yield " ".join(line.strip() or "\n\n" for line in (command.help or "").splitlines())
    rows = [
        (_names(parameter), _default(parameter), _help(parameter)) for parameter in _shown(command)
    ]
    if rows:
        yield styled("options", table(("option", "default", "meaning"), rows, ()))


def _shown(command: Any) -> list[Any]:
    return [p for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{(parameter.metavar or parameter.name).upper()}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    default = parameter.default
    is_empty = default is None or default == () or default is False or callable(default)
    return "" if is_empty else f"`{default}`"


def _help(parameter: Any) -> str:
    return " ".join((getattr(parameter, "help", None) or "").split())
