"""Sub-commands about the configuration: check it, list its names, write its schemas."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from prunebench.cli.options import CONFIG, RESULTS, ConfigFile, Out, Results
from prunebench.core.errors import ConfigError

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def resolve(
    config: Annotated[
        str, typer.Option(help="The configuration file; - reads it from standard input as JSON.")
    ] = str(CONFIG),
    config_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of experiments/ and recipes/; without it the file's own."),
    ] = None,
    results: Results = RESULTS,
) -> None:
    """Check the configuration and write down all its runs.

    Each experiment has a file in the folder resolved/ of the results, with the full specification
    of every run.
    """
    from prunebench.experiments.config import merged_config, read_config
    from prunebench.experiments.resolved import resolution_keys, resolved_file, write_resolved
    from prunebench.planning.grid import resolve as resolve_all
    from prunebench.planning.moved_recipes import changes

    if config == "-":
        folder = config_dir or CONFIG.parent
        settings = merged_config(_standard_input(), folder)
    else:
        folder = config_dir or Path(config).parent
        settings = read_config(Path(config))
    runs = resolve_all(settings, folder)
    for name, key in resolution_keys(settings, folder).items():
        path, own = resolved_file(results, name), [run for run in runs if run.experiment == name]
        write_resolved(path, own, key)
        typer.echo(f"{len(own)} runs · {path}")
    for line in changes(runs, folder):
        typer.echo(line)


def _standard_input() -> object:
    try:
        content: object = json.load(sys.stdin)
    except ValueError as error:
        raise ConfigError(f"standard input is not JSON ({error})") from None
    return content


def list_names(
    what: Annotated[
        str | None,
        typer.Argument(
            help="datasets, experiments, methods, networks, options or recipes; all without it."
        ),
    ] = None,
    config: ConfigFile = CONFIG,
) -> None:
    """List the names that configurations may use."""
    from prunebench.cli.listings import LISTS
    from prunebench.core.names import look_up

    for heading in LISTS if what is None else [what]:
        lines = look_up("list", heading, LISTS)(config.parent)
        if what is None:
            typer.echo(f"{heading}:")
        for name, words in lines:
            typer.echo(f"{'' if what else '  '}{name:<24} {words}".rstrip())


def schemas(out: Out = Path("workflow/schemas")) -> None:
    """Write the JSON schemas of the configuration files, for editors."""
    from prunebench.core.files import write_json
    from prunebench.experiments.config import Config, ExperimentConfig
    from prunebench.experiments.recipe import Recipe

    for name, model in (("config", Config), ("experiment", ExperimentConfig), ("recipe", Recipe)):
        path = out / f"{name}.schema.json"
        write_json(path, {"$schema": SCHEMA_DIALECT, **model.model_json_schema()})
        typer.echo(str(path))
