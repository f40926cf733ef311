"""The values of runs' rows, kept in files so that unchanged runs are not read again.

`collect` keeps those of an experiment beside runs.csv. Before that, the jobs that measure a part of
the runs of a network keep those of the part, so that a first `collect` need not read all runs.

Values are taken from here only if nothing that they follow from has changed: the code that collects
them, the run's specification, and size, times and inode of each file that was read for them. A
file cannot be written without a change of its times. In doubt, as for a copied results folder, all
files are read again.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import to_json

import prunebench
from prunebench.core.errors import ResultError, cannot
from prunebench.core.files import make_folder, parsed_json, read_bytes, write_bytes
from prunebench.experiments.resolved import source_hash
from prunebench.experiments.spec import digest

FILE = "collected.jsonl"  # of an experiment
PARTS = "*/*/rows_*.jsonl"  # of the parts of its networks
# A file that is written twice within the resolution of its times has the same times after both. So
# values from files as new as that are not kept.
COARSEST_NS = 2 * 10**9  # the resolution of FAT

Values = dict[str, Any]  # as JSON has them


class Stamp(NamedTuple):
    """What tells a file from a changed one."""

    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int


class KeptRows:
    """The values that were read from some runs, in a file.

    Each line has its own hash, so that a damaged one counts as missing. `write` keeps the runs that
    were asked for. Values are also taken from the files `parts`.
    """

    def __init__(self, results: Path, path: Path, parts: Iterable[Path] = ()) -> None:
        self._results, self._path = results, path
        make_folder(path.parent)
        self._now_ns = _now_ns(path.parent)
        self._head = f"{_key()}\n".encode()
        self._own = _read_lines(path, self._head)
        self._others = [_read_lines(part, self._head) for part in parts]
        self._new: dict[bytes, bytes] = {}
        self._stamp = cache(self._stamp_of)  # several runs read the file of one base network

    @classmethod
    def of_experiment(cls, results: Path, experiment: str) -> KeptRows:
        """Return the values that `collect` keeps, with those of the parts."""
        folder = results / experiment
        return cls(results, folder / FILE, sorted(folder.glob(PARTS)))

    def values(
        self, path: str, spec_hash: str, files: Iterable[str], read: Callable[[], Values]
    ) -> Values:
        """Return the values of the run at `path`, from `read` if they may have changed.

        They follow from the specification and from `files`, which are paths below the results.
        """
        key, stamps = path.encode(), {name: self._stamp(name) for name in files}
        made_from = [spec_hash, {name: stamp and list(stamp) for name, stamp in stamps.items()}]
        for lines in (self._own, *self._others):
            line = lines.get(key)
            old = None if line is None else _parsed(line)
            if line is not None and old is not None and old["from"] == made_from:
                self._new[key] = line
                known: Values = old["values"]
                return known
        values = read()
        newest = max((max(s.mtime_ns, s.ctime_ns) for s in stamps.values() if s), default=0)
        if newest + COARSEST_NS < self._now_ns:
            self._new[key] = _line(key, {"from": made_from, "values": values})
        return values

    def write(self) -> None:
        """Write the file, if anything has changed."""
        if self._new != self._own:
            write_bytes(self._path, self._head + b"".join(self._new.values()))

    def _stamp_of(self, name: str) -> Stamp | None:
        """Return the stamp of a file, None if it cannot be opened.

        It is opened, since a network file system then asks its server, while it may answer
        `os.stat` from its memory for a minute.
        """
        try:
            file = os.open(f"{self._results}/{name}", os.O_RDONLY)
        except OSError:
            return None
        try:
            found = os.fstat(file)
        finally:
            os.close(file)
        return Stamp(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)


def _key() -> str:
    """Return a hash of the code that collects."""
    return digest([prunebench.__version__, source_hash("core", "experiments", "report")])


def _now_ns(folder: Path) -> int:
    """Return the time by the clock of the file system, whose server may be another host."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError as error:
        raise ResultError(f"{folder}: {cannot('be written', error)}") from None


def _line(path: bytes, content: dict[str, Any]) -> bytes:
    text = to_json(content, inf_nan_mode="constants")
    return b"%s %s %s\n" % (sha256(text).hexdigest().encode(), path, text)


def _read_lines(path: Path, head: bytes) -> dict[bytes, bytes]:
    """Return the lines by the paths of their runs; none if other code has written the file."""
    if not path.exists():
        return {}
    first, *lines = read_bytes(path).splitlines(keepends=True) or [b""]
    if first != head:
        return {}
    parts = [(line, line.split(b" ", 2)) for line in lines]
    return {own[1]: line for line, own in parts if len(own) == 3}


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return the content of a line, None if it is damaged."""
    recorded, _, text = line.rstrip(b"\n").split(b" ", 2)
    if sha256(text).hexdigest().encode() != recorded:
        return None
    content: dict[str, Any] = parsed_json(text)
    return content
