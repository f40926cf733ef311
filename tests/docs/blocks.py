"""The blocks of code of a Markdown page, and how to run them in their order.

A line before a block says what is special about it:

    <!-- skip: reason -->        it is not run
    <!-- file: nets.py -->       it is written to this file instead of being run
    <!-- needs: lightning -->    it is run where this package, which no extra has, is installed

and a page that takes longer than a few seconds says `<!-- slow page -->`. Blocks of `bash` and
`python` are run in one folder; a `text` block right after one of them is its output, in which `…`
stands for anything.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

RUN = ("bash", "python")
SHOWN = ("text", "yaml", "yml", "json", "toml")  # unless a comment names a file
_BLOCK = re.compile(
    r"(?:^(?P<indent> *)<!-- (?P<mark>[^\n]*?) -->\n)?"
    r"^(?P<space> *)```(?P<kind>\w*)[^\n]*\n(?P<code>.*?)^(?P=space)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    kind: str
    code: str
    mark: str
    line: int
    follows: bool  # only blank lines are between the last block and this one

    def option(self, name: str) -> str | None:
        """Return what the mark says after `name:`, None without it.

        >>> Block("bash", "", "skip: needs a GPU", 1, False).option("skip")
        'needs a GPU'
        """
        start = f"{name}: "
        return self.mark.removeprefix(start) if self.mark.startswith(start) else None


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a page in their order."""
    found, end = [], 0
    for match in _BLOCK.finditer(text):
        follows = bool(found) and not text[end : match.start()].strip()
        line = text.count("\n", 0, match.start("code"))
        code = textwrap.dedent(match["code"])
        found.append(Block(match["kind"], code, match["mark"] or "", line, follows))
        end = match.end()
    return found


def is_slow(text: str) -> bool:
    """Whether a page says that it takes long."""
    return "<!-- slow page -->" in text


def fits(expected: str, output: str) -> bool:
    """Whether an output is as expected, where … stands for anything.

    >>> fits("a …", "a b"), fits("a …", "b"), fits("a", "a")
    (True, False, True)
    """
    pattern = ".*?".join(re.escape(part) for part in expected.strip().split("…"))
    return re.fullmatch(pattern, output.strip(), re.DOTALL) is not None


class Session:
    """A folder and a Python in which the blocks of a page run one after another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__main__"}

    def run(self, block: Block) -> str:
        """Run a block and return its output; AssertionError if it fails."""
        if (file := block.option("file")) is not None:
            path = self.folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
            return ""
        return self._bash(block.code) if block.kind == "bash" else self._python(block)

    def _bash(self, code: str) -> str:
        # The next block starts where this one ends, as in a terminal.
        place = self.folder / ".place"
        script = f"set -euo pipefail\n{code}\npwd > {place}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout}"
        self.folder = Path(place.read_text(encoding="utf-8").strip())
        place.unlink()
        return done.stdout

    def _python(self, block: Block) -> str:
        before, out = Path.cwd(), io.StringIO()
        os.chdir(self.folder)
        sys.path.insert(0, str(self.folder))  # as for a script there
        try:
            with redirect_stdout(out):
                exec(compile(block.code, f"block at line {block.line}", "exec"), self.names)
        finally:
            os.chdir(before)
            sys.path.remove(str(self.folder))
        return out.getvalue()


def run_page(
    text: str, folder: Path, package: str | None = None
) -> Iterator[tuple[Block, str, str | None]]:
    """Run the blocks of a page; yield each with its output and the one that the page shows.

    Of the blocks that need a package, only those of `package` are run.
    """
    session, blocks = Session(folder), blocks_of(text)
    for block, after in zip_longest(blocks, blocks[1:]):
        is_file = block.option("file") is not None
        if block.option("skip") is not None or not (block.kind in RUN or is_file):
            continue
        if block.option("needs") not in (None, package):
            continue
        output = session.run(block)
        shown = after.code if after is not None and after.kind == "text" and after.follows else None
        yield block, output, shown
