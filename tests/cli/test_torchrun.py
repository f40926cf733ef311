"""torchrun takes an abbreviation of its own options for them, also behind the program's name."""

from __future__ import annotations

import pytest
import typer
from torch.distributed.run import get_args_parser

from prunebench.cli.app import app

ALONE = {"--run"}  # of jobs with several runs, for which torchrun is not the launcher
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = [
    (name, option)
    for name in ("base", "prune")
    for parameter in COMMANDS[name].params
    for option in (*parameter.opts, *parameter.secondary_opts)
    if option.startswith("--") and option not in ALONE
]


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_torchrun_passes_our_options_on(command: str, option: str) -> None:
    words = ["prunebench", command, option, "x"]
    found = get_args_parser().parse_args(["--standalone", "-m", *words])
    assert [found.training_script, *found.training_script_args] == words
