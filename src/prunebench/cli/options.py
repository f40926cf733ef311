"""Options that several sub-commands share, each with its help."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from annotated_types import Ge, Le
from pydantic.fields import FieldInfo
from typer.core import TyperCommand

from prunebench.core.errors import ConfigError
from prunebench.core.files import parsed_json
from prunebench.core.names import unknown_name
from prunebench.core.own_code import name_in_paths
from prunebench.experiments.machine import Machine
from prunebench.experiments.settings import MOST_THREADS
from prunebench.experiments.validation import validate
from prunebench.planning.lookup import settings_of


def among(*allowed: str) -> Callable[[typer.CallbackParam, str | None], str | None]:
    """Return a check that an option has one of the allowed values."""

    def check(param: typer.CallbackParam, value: str | None) -> str | None:
        if value is not None and value not in allowed:
            raise ConfigError(f"{param.opts[0]}: {unknown_name('value', value, allowed)}")
        return value

    return check


CONFIG, RESULTS = Path("config/config.yaml"), Path("results")

Results = Annotated[Path, typer.Option(help="Folder of all results.")]
ConfigFile = Annotated[
    Path,
    typer.Option(
        "--config", help="Configuration file, beside the folders experiments/ and recipes/."
    ),
]
Runs = Annotated[
    Path | None,
    typer.Option(help="File written by `prunebench resolve`, to use instead of the configuration."),
]
Experiment = Annotated[
    str | None,
    typer.Option(help="Experiment; required if the configuration has more than one."),
]
Dataset = Annotated[
    str,
    typer.Option(
        help="Data set (see `prunebench list datasets`), or module:function.", parser=name_in_paths
    ),
]
Architecture = Annotated[
    str,
    typer.Option(
        help="Network (see `prunebench list networks`), or module:function.", parser=name_in_paths
    ),
]
SomeDataset = Annotated[
    str | None,
    typer.Option(
        help="Data set; required if the experiment has more than one.", parser=name_in_paths
    ),
]
SomeArchitecture = Annotated[
    str | None,
    typer.Option(
        help="Network; required if the experiment has more than one.", parser=name_in_paths
    ),
]
RunPaths = Annotated[
    list[str] | None,
    typer.Option(
        "--run",
        help="Path of a run below the folder of results, instead of the options that choose it; "
        "can be repeated.",
        metavar="PATH",
    ),
]
Logs = Annotated[
    Path | None,
    typer.Option(
        "--log-folder",  # torchrun takes --logs for an abbreviation of its own options
        help="Folder of logs: the output of each run is appended to a file there (default: it is "
        "printed).",
    ),
]
Threads = Annotated[
    int,
    typer.Option(
        min=1, max=MOST_THREADS, help="Number of PyTorch threads; changes results bit for bit."
    ),
]
Expect = Annotated[
    str | None,
    typer.Option(
        help="Expected hash of the specification, as the workflow planned it; several with spaces."
    ),
]
MachineJson = Annotated[
    str | None,
    typer.Option(help="Machine settings as JSON, instead of those of the configuration."),
]
RunsCsv = Annotated[Path, typer.Option(help="Path to a runs.csv written by `prunebench collect`.")]
Out = Annotated[Path, typer.Option(help="Folder to write to.")]


class Command(TyperCommand):
    """A sub-command whose usage line leaves out the hidden argument of `experiment_option`."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the parts of the usage line."""
        return [piece for piece in super().collect_usage_pieces(ctx) if piece != "[]"]


def experiment_option(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take its option `experiment` as an argument, too, which its help leaves out.

    ConfigError if both are given and differ.
    """

    @wraps(command)
    def with_argument(argument: str | None, **values: Any) -> None:
        if argument is not None:
            if values["experiment"] not in (None, argument):
                raise ConfigError(f"--experiment: {argument} is given as well; choose one")
            values["experiment"] = argument
        command(**values)

    signature = inspect.signature(command, eval_str=True)
    own = [p.replace(kind=Parameter.KEYWORD_ONLY) for p in signature.parameters.values()]
    hidden = Annotated[str | None, typer.Argument(hidden=True, metavar="")]
    argument = Parameter("argument", Parameter.KEYWORD_ONLY, default=None, annotation=hidden)
    with_argument.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[argument, *own]
    )
    return with_argument


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
            content = parsed_json(text)
        except ValueError as error:
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
    else:
        for mark in field.metadata:
            match mark:
                case Ge():
                    more["min"] = mark.ge
                case Le():
                    more["max"] = mark.le
    words = f"{(field.description or '').removesuffix('.')} (default: from the configuration)."
    return Annotated[kind | None, typer.Option(flag, help=words.replace("`", ""), **more)]
