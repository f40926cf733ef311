"""Options that several sub-commands have, each with its help."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from annotated_types import Ge
from pydantic.fields import FieldInfo

from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name
from prunebench.experiments.machine import Machine
from prunebench.experiments.validation import validate
from prunebench.planning.lookup import settings_of


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
MachineJson = Annotated[
    str | None,
    typer.Option(help="All machine settings as JSON, in place of the configuration's."),
]
RunsCsv = Annotated[Path, typer.Option(help="A table of runs, as `collect` writes it.")]
Out = Annotated[Path, typer.Option(help="Folder of what is written.")]


def machine_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Generate the options of a command's parameter `machine` from the model `Machine`.

    The command gets an option for each setting in `names` (default: all), and `--machine` for all
    of them at once as JSON. An option overrides `--machine`, which overrides the configuration
    that the command's own option `config` names.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        chosen = names or tuple(Machine.model_fields)

        @wraps(command)
        def with_machine(machine: str | None, **values: Any) -> None:
            given = {name: values.pop(name) for name in chosen}
            command(machine=_machine(values["config"], machine, given), **values)

        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.name != "machine"]
        generated = [
            Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            for name, annotation in {
                **{name: _option(name, Machine.model_fields[name]) for name in chosen},
                "machine": MachineJson,
            }.items()
        ]
        keyword_only = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in own]
        with_machine.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*keyword_only, *generated]
        )
        return with_machine

    return decorate


def _machine(config: Path, text: str | None, given: Mapping[str, Any]) -> Machine:
    if text is None:
        configured = settings_of(config).machine
    else:
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigError(f"--machine: not valid JSON ({error})") from None
        configured = validate(Machine, content, "--machine")
    chosen = {name: value for name, value in given.items() if value is not None}
    return configured.model_copy(update=chosen)


def _option(name: str, field: FieldInfo) -> Any:
    """Return the typed option of a machine setting; None stands for an option that is not given."""
    kind: Any = next(iter(get_args(field.annotation)), field.annotation)  # int of int | None
    flag = f"--{name.replace('_', '-')}"
    more: dict[str, Any] = {}
    if get_origin(field.annotation) is Literal:
        allowed = get_args(field.annotation)
        kind, more = str, {"metavar": "|".join(allowed), "callback": among(*allowed)}
    elif kind is bool:
        flag += f"/--no-{name.replace('_', '-')}"
    elif minimum := [mark.ge for mark in field.metadata if isinstance(mark, Ge)]:
        more = {"min": minimum[0]}
    words = f"{(field.description or '').removesuffix('.')} (default: from the configuration)."
    return Annotated[kind | None, typer.Option(flag, help=words.replace("`", ""), **more)]
