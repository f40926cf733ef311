"""The sub-command for authors of methods: new-method."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def new_method(
    name: Annotated[
        str, typer.Argument(help="Name of the method: lower-case letters, digits, underscores.")
    ],
    training: Annotated[
        bool,
        typer.Option(
            "--training",
            help="Write a method that trains, with phases and hooks (default: a criterion, which "
            "is a one-shot method at once).",
        ),
    ] = False,
) -> None:
    """Write a new method with its test, and print its row.

    The files are a working example to change: the test passes at once. In a checkout of prunebench
    they become part of the package. In any other folder they are NAME.py and test_NAME.py, and the
    file prunebench.toml registers the name for all commands that run in this folder.
    """
    from prunebench.cli.written_method import write_method

    for line in write_method(name, Path(), is_training=training):
        typer.echo(line)
