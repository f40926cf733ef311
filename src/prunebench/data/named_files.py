"""The files that a data set's lists and annotations name; all lie in its folder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from prunebench.core.errors import DataError, cannot, shown

LONGEST_PART = 255  # bytes of a file's name


def path_below(name: str, where: str) -> Path:
    """Return a named path, relative to a folder; DataError if it leads out of the folder.

    >>> path_below("train/a.jpg", "list.txt")
    PosixPath('train/a.jpg')
    """
    path = PurePosixPath(name)
    is_part = all(part != ".." and len(part.encode()) <= LONGEST_PART for part in path.parts)
    if path.is_absolute() or not is_part or "\0" in name or not path.parts:
        raise DataError(f"{where}: {shown(name)} is no path within the data set's folder")
    return Path(path)


def read_names(path: Path) -> list[str]:
    """Return the non-empty lines of a text file."""
    try:
        return [line for line in path.read_text(encoding="utf-8").splitlines() if line]
    except OSError as error:
        raise DataError(f"{path}: {cannot('be read', error)}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not UTF-8 text") from None
