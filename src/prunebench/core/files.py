"""Result files appear whole or not at all: written beside their place, then renamed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from prunebench.core.errors import ResultError, cannot, shown

_BLOCK = 2**20  # bytes of a file that are hashed at once


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path; on success flush it to disk and rename it to `path`.

    The temporary file keeps the suffix of `path`, for writers that look at it. It carries the
    process id, so that two writers never share one. ResultError if the file cannot be written.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        temporary.touch()  # some writers raise errors of their own if they cannot create a file
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise ResultError(f"{path}: {cannot('be written', error)}") from error
    except Exception as error:
        cause = error.__context__  # PyTorch hides the error of a file behind one of its own
        if isinstance(cause, OSError):
            raise ResultError(f"{path}: {cannot('be written', cause)}") from error
        raise
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents; ResultError if that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultError(f"{folder}: {cannot('be created', error)}") from error


def remove(path: Path) -> None:
    """Delete a file if it is there; ResultError if that is not possible."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if path.exists():  # a read-only file system refuses even without a file
            raise ResultError(f"{path}: {cannot('be deleted', error)}") from error


def remove_leftovers(folder: Path) -> None:
    """Delete what writers left behind that were killed; only for who alone writes there."""
    for path in folder.iterdir():
        if re.fullmatch(r"\..+\.\d+\.\w+", path.name):  # as `replacing` names them
            remove(path)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, atomically."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write texts by file name into a folder, each atomically, and return their paths."""
    for name, text in texts.items():
        write_text(folder / name, text)
    return [folder / name for name in texts]


def write_csv(path: Path, names: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV with the columns `names`, atomically; an absent value is an empty cell."""
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path, names: Iterable[str]) -> list[dict[str, str]]:
    """Read the rows of a CSV that has the columns `names` at least, as texts.

    Raises ResultError that names the file when it is missing, damaged or lacks a column.
    """
    head, rows = _parsed_table(read_bytes(path), path, names)
    return [dict(zip(head, row, strict=True)) for row in rows]


def parsed_columns(content: bytes, path: Path, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the columns `names` of a CSV as texts; ResultError as for `read_csv`.

    `content` are the bytes of the file `path`.
    """
    head, rows = _parsed_table(content, path, names)
    columns = dict(zip(head, zip(*rows, strict=True), strict=True)) if rows else {}
    return [columns.get(name, ()) for name in names]


def parsed_floats(texts: Sequence[str]) -> list[float]:
    """Return the numbers in some texts, as `float` does; ValueError for another text.

    The parser of JSON reads numbers of seventeen digits several times as fast.
    """
    try:
        found = from_json(f"[{','.join(texts)}]")
    except ValueError:  # nan, inf, or no number
        found = ()
    if len(found) == len(texts) and set(map(type, found)) == {float}:
        return list(found)
    return list(map(float, texts))


def _parsed_table(
    content: bytes, path: Path, names: Iterable[str]
) -> tuple[list[str], list[list[str]]]:
    """Return the names of all columns, and the rows without empty lines."""
    try:
        lines = csv.reader(io.StringIO(content.decode("utf-8"), newline=""))
        head, *rows = [row for row in lines if row] or [[]]
    except UnicodeDecodeError as error:
        raise ResultError(f"{path}: not UTF-8 text ({error})") from None
    except csv.Error as error:
        raise ResultError(f"{path}: not a CSV file ({error})") from None
    for name in names:
        if name not in head:
            raise ResultError(f"{path}: the column {name!r} is missing")
    lengths = list(map(len, rows))
    if lengths.count(len(head)) < len(rows):
        number, found = next((n, k) for n, k in enumerate(lengths, 1) if k != len(head))
        raise ResultError(f"{path}: row {number} has {found} cells, expected {len(head)}")
    return head, rows


def read_bytes(path: Path) -> bytes:
    """Read a file; ResultError if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ResultError(f"{path}: no such file") from None
    except OSError as error:
        raise ResultError(f"{path}: {cannot('be read', error)}") from None


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits; ResultError if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except FileNotFoundError:
        raise ResultError(f"{path}: no such file") from None
    except OSError as error:
        raise ResultError(f"{path}: {cannot('be read', error)}") from None
    return digest.hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON in two-space indentation, atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def parsed_json(text: str | bytes) -> Any:
    """Parse JSON; ValueError says in one line what is wrong with it."""
    try:
        return from_json(text)  # takes half of the time
    except ValueError:
        pass  # the standard library says more about it
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def read_json(path: Path) -> Any:
    """Read a JSON file; raise ResultError that names the file when it is missing or damaged."""
    return parsed_json_of(read_bytes(path), path)


def parsed_json_of(content: bytes, path: Path) -> Any:
    """Parse the content of a JSON file; ResultError names the file when it is damaged."""
    try:
        return parsed_json(content)
    except ValueError as error:
        raise ResultError(f"{path}: not valid JSON ({error})") from None


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; ResultError as for `read_json`."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ResultError(f"{path}: expected a JSON object, found {shown(content)}")
    return content
