"""Options that several sub-commands have, each with its help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name

T = TypeVar("T")


def among(*allowed: str) -> Callable[[typer.CallbackParam, str | None], str | None]:
    """Return the check of an option that has few values."""

    def check(param: typer.CallbackParam, value: str | None) -> str | None:
        if value is not None and value not in allowed:
            raise ConfigError(f"{param.opts[0]}: {unknown_name('value', value, allowed)}")
        return value

    return check


CONFIG, RESULTS = Path("config/config.yaml"), Path("results")

Results = Annotated[Path, typer.Option(help="Folder of all results.")]
ConfigFile = Annotated[
    Path, typer.Option("--config", help="The configuration; experiments/ and recipes/ are beside.")
]
Runs = Annotated[
    Path | None,
    typer.Option(help="A file written by `resolve`, instead of the configuration."),
]
Experiment = Annotated[
    str | None,
    typer.Option(help="File in config/experiments; needed where the configuration has several."),
]
Dataset = Annotated[str, typer.Option(help="Name of a data set; `prunebench list datasets`.")]
Architecture = Annotated[str, typer.Option(help="Name of a network; `prunebench list networks`.")]
SomeDataset = Annotated[
    str | None, typer.Option(help="Of the run; needed where there are several.")
]
SomeArchitecture = Annotated[
    str | None, typer.Option(help="Network; needed where there are several.")
]
Expect = Annotated[
    str | None,
    typer.Option(help="Hash that the specification must have; the workflow's own check."),
]
Device = Annotated[
    str | None,
    typer.Option(
        help="Where to compute; without it as configured.",
        metavar="auto|cpu|cuda",
        callback=among("auto", "cpu", "cuda"),
    ),
]
CheckpointSeconds = Annotated[
    float | None,
    typer.Option(min=0, help="Between checkpoints; without it as configured."),
]

Workers = Annotated[
    int | None, typer.Option(min=0, help="That read image files; without it as configured.")
]
Capture = Annotated[
    bool | None,
    typer.Option("--capture/--no-capture", help="Of steps on a GPU; without it as configured."),
]
Deterministic = Annotated[
    bool | None,
    typer.Option(
        "--deterministic/--no-deterministic",
        help="Of algorithms on a GPU; without it as configured.",
    ),
]
AutoAccumulate = Annotated[
    bool | None,
    typer.Option(
        "--auto-accumulate/--no-auto-accumulate",
        help="Where memory is short; without it as configured.",
    ),
]
CheckBase = Annotated[
    bool | None,
    typer.Option(
        "--check-base/--no-check-base",
        help="Against its expected accuracy; without it as configured.",
    ),
]


RunsCsv = Annotated[Path, typer.Option(help="A table of runs, as `collect` writes it.")]
Out = Annotated[Path, typer.Option(help="Folder of what is written.")]


def given(value: T | None, configured: T) -> T:
    """Return what is given on the command line, else what is configured."""
    return configured if value is None else value
