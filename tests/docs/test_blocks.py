"""Every command and block of code in docs/*.md and README.md is run, or says why it cannot be."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import typer

from prunebench.cli.app import app
from prunebench.cli.prune_own import own_app
from tests.docs.blocks import RUN, SHOWN, Block, blocks_of, fits, is_slow, run_page

ROOT = Path(__file__).parents[2]
FOLDERS = (("generators",), ("formulas",))
# Run in tests/workflow/test_adding.py and tests/docs/test_networks.py.
ELSEWHERE = ("docs/adding.md", "docs/networks.md")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if path.relative_to(ROOT).parts[1:2] not in FOLDERS
}
RUNNING = [
    pytest.param(name, marks=pytest.mark.slow if is_slow(text) else ())
    for name, text in PAGES.items()
    if name not in ELSEWHERE
    and any(block.kind in RUN and block.option("skip") is None for block in blocks_of(text))
]
NEEDED = sorted(
    {
        (name, package)
        for name, text in PAGES.items()
        for block in blocks_of(text)
        if (package := block.option("needs")) is not None
    }
)
COMMANDS: dict[str, Any] = {
    **typer.main.get_command(app).commands,  # type: ignore[attr-defined]
    "prune --model": typer.main.get_command(own_app),
}
EXPERIMENTS = {path.stem for path in (ROOT / "config" / "experiments").glob("*.yaml")}


def check_page(name: str, folder: Path, package: str | None = None) -> None:
    """Run a page in a folder; AssertionError if an output is not the one that it shows."""
    known = set(sys.modules)
    try:
        for block, output, shown in run_page(PAGES[name], folder, package):
            if shown is not None:
                assert fits(shown, output), f"line {block.line}: expected\n{shown}\ngot\n{output}"
    finally:
        for module in set(sys.modules) - known:
            if str(folder) in str(getattr(sys.modules[module], "__file__", "")):
                del sys.modules[module]  # a file of the page


@pytest.mark.parametrize("name", RUNNING)
def test_the_blocks_of_a_page_run_in_their_order(name: str, tmp_path: Path) -> None:
    check_page(name, tmp_path)


@pytest.mark.parametrize(("name", "package"), NEEDED)
def test_the_blocks_that_need_a_package_run(name: str, package: str, tmp_path: Path) -> None:
    if find_spec(package) is None:
        pytest.skip(f"{name} has blocks that need {package}, which .ci/nightly installs")
    check_page(name, tmp_path, package)


def all_blocks() -> Iterator[tuple[str, Block]]:
    for name, text in PAGES.items():
        for block in blocks_of(text):
            yield f"{name}, line {block.line}", block


def test_every_block_says_what_it_is() -> None:
    for place, block in all_blocks():
        assert block.kind in (*RUN, *SHOWN), f"{place}: a block of {block.kind or 'nothing'}"
        if block.mark.startswith("skip"):
            assert len(block.option("skip") or "") > 10, f"{place}: a skip without a reason"


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield the words of every command of prunebench and snakemake, skipped blocks included."""
    for place, block in all_blocks():
        if block.kind == "bash":
            for line in block.code.replace("\\\n", " ").splitlines():
                for part in re.split(r"&&|;", line):
                    words = shlex.split(part, comments=True)
                    if words:
                        yield place, words


def test_commands_and_options_exist() -> None:
    """It also holds for pages whose blocks take too long or need a cluster."""
    checked = 0
    for place, words in command_lines():
        if words[0] != "prunebench" or words[1].startswith("-"):
            continue
        name = "prune --model" if words[1:3] == ["prune", "--model"] else words[1]
        assert name in COMMANDS, f"{place}: {name}"
        known = {
            option
            for parameter in COMMANDS[name].params
            for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.partition("=")[0] for word in words[2:] if word.startswith("-")}
        assert used <= {*known, "--help"}, f"{place}: {used - known}"
        checked += 1
    assert checked > 5


def test_experiments_exist() -> None:
    pages = "\n".join(PAGES.values())
    own = set(re.findall(r"config/experiments/(\w+)\.yaml -->", pages))
    named = {name for names in re.findall(r"experiments=([a-z]\w+)", pages) for name in [names]}
    assert named
    assert named - own <= EXPERIMENTS


def test_a_wrong_output_fails() -> None:
    assert not fits("3 groups\n…", "4 groups\nfrozen: none")
    assert fits("… groups\n…", "4 groups\nfrozen: none")


def test_a_block_that_fails_stops_the_page(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="no-such-file"):
        list(run_page("```bash\ncat no-such-file\n```\n", tmp_path))
    with pytest.raises(ZeroDivisionError):
        list(run_page("```python\n1 / 0\n```\n", tmp_path))


def test_blocks_share_a_folder_and_names(tmp_path: Path) -> None:
    page = (
        "```bash\nmkdir a && cd a && echo 3 > b\n```\n"
        "```python\nfrom pathlib import Path\nn = int(Path('b').read_text())\n```\n"
        "```python\nprint(n + 1)\n```\n\n```text\n4\n```\n"
        "<!-- skip: it would fail -->\n```bash\nfalse\n```\n"
        "<!-- needs: no_such_package -->\n```python\nimport no_such_package\n```\n"
    )
    ran = list(run_page(page, tmp_path))
    assert [(block.kind, output, shown) for block, output, shown in ran] == [
        ("bash", "", None),
        ("python", "", None),
        ("python", "4\n", "4\n"),
    ]
