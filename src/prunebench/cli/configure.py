"""Sub-commands for the configuration: start and check it, list names, write its reference."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

import prunebench
from prunebench.cli.options import CONFIG, RESULTS, ConfigFile, Results
from prunebench.core.errors import ConfigError
from prunebench.core.files import parsed_json
from prunebench.core.names import unknown_name

SCHEMAS, README = Path("workflow/schemas"), Path("config/README.md")


def init(folder: Annotated[Path, typer.Argument(help="New or existing folder.")]) -> None:
    """Write the workflow and its configuration to a folder.

    These are Snakefile, workflow/, config/, profiles/ and environment.yml. A folder that has one of
    them is refused and left as it is.
    """
    from prunebench.core.project import write_project

    for path in write_project(folder, prunebench.__version__):
        typer.echo(str(path))
    typer.echo(f"next: cd {shlex.quote(str(folder))} && snakemake --cores all")


def resolve(
    config: Annotated[
        str, typer.Option(help="Configuration file; - reads JSON from standard input.")
    ] = str(CONFIG),
    config_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of experiments/ and recipes/ (default: the configuration file's folder)."
        ),
    ] = None,
    results: Results = RESULTS,
) -> None:
    """Check the configuration and write the list of its runs.

    Each experiment gets a file in the folder resolved/ of the results, with one run per
    line.
    """
    from prunebench.experiments.config import merged_config, read_config
    from prunebench.experiments.resolved import resolution_keys, resolved_file, write_resolved
    from prunebench.planning import grid
    from prunebench.planning.adapted_recipes import changes

    if config == "-":
        folder = config_dir or CONFIG.parent
        settings = merged_config(_standard_input(), folder)
    else:
        folder = config_dir or Path(config).parent
        settings = read_config(Path(config))
    runs = grid.resolve(settings, folder)
    for name, key in resolution_keys(settings, folder).items():
        path, own = resolved_file(results, name), [run for run in runs if run.experiment == name]
        write_resolved(path, own, key)
        typer.echo(f"{len(own)} runs · {path}")
    for line in changes(runs, folder):
        typer.echo(line)


def _standard_input() -> object:
    try:
        content: object = parsed_json(sys.stdin.read())
    except ValueError as error:
        raise ConfigError(f"standard input is not JSON ({error})") from None
    return content


def list_names(
    kind: Annotated[
        str | None,
        typer.Argument(
            help="datasets, experiments, methods, networks, recipes or options (default: all but "
            "options)."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Argument(
            help="With options: a method, or a part of the configuration such as recipe (default: "
            "all)."
        ),
    ] = None,
    config: ConfigFile = CONFIG,
) -> None:
    """List the names and options that configurations may use."""
    from prunebench.cli.listings import LISTS, aligned, option_lines

    if kind == "options":
        for line in option_lines(method):
            typer.echo(line)
        return
    if kind is not None and kind not in LISTS:
        raise ConfigError(unknown_name("list", kind, [*LISTS, "options"]))
    if method is not None:
        raise ConfigError(f"list {kind} takes no further argument, got {method!r}")
    if kind is not None:
        for line in aligned(LISTS[kind](config.parent)):
            typer.echo(line)
        return
    for heading, listed in LISTS.items():
        typer.echo(f"{heading}:")
        try:
            lines = aligned(listed(config.parent))
        except ConfigError as error:  # the other lists need no configuration
            lines = [str(error)]
        for line in lines:
            typer.echo(f"  {line}")


def reference(
    schemas: Annotated[Path, typer.Option(help="Folder of the JSON schemas.")] = SCHEMAS,
    readme: Annotated[
        Path, typer.Option(help="Markdown file whose generated tables are replaced.")
    ] = README,
) -> None:
    """Write the JSON schemas and the tables of config/README.md."""
    from prunebench.cli.listings import SCHEMA_NAMES, configuration_models
    from prunebench.core.files import write_json, write_text
    from prunebench.experiments.reference import json_schema, with_tables

    models = configuration_models()
    for name in SCHEMA_NAMES:
        path = schemas / f"{name}.schema.json"
        write_json(path, json_schema(models[name]))
        typer.echo(str(path))
    write_text(readme, with_tables(readme.read_text(encoding="utf-8"), models))
    typer.echo(str(readme))
