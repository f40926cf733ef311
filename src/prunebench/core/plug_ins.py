"""Names of other code: methods, criteria, networks and data sets that are not built in.

They are entry points of installed packages, and the lines of the file prunebench.toml in the
current folder, such as `mine = "mine:Mine"` below `[methods]`; its modules may lie in
the current folder. Names are listed without an import. A plug-in is imported where its class is
needed, within a time limit, so that one that fails or hangs concerns only the experiments that use
it.
"""

from __future__ import annotations

import os
import pkgutil
import re
import signal
import sys
import threading
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Any

from prunebench.core.errors import ConfigError, cannot, in_one_line, shown
from prunebench.core.names import look_up, unknown_name

MOST_SECONDS = 30.0  # of the import of one plug-in
LIMIT = "PRUNEBENCH_PLUG_IN_SECONDS"  # environment variable with another limit
OWN_FILE = Path("prunebench.toml")
SECTIONS = ("criteria", "datasets", "methods", "networks")
NAME = r"[a-z][a-z0-9_]*"
AND = " and "  # between the two paths of a name that is registered twice


@cache
def plug_ins(group: str) -> tuple[tuple[str, str], ...]:
    """Return name and "module:object" of the entry points of a group, by name.

    Those of installed packages, and those in prunebench.toml.
    """
    installed = {(entry.name, entry.value) for entry in entry_points(group=group)}
    return tuple(sorted({*installed, *_in_file(group.removeprefix("prunebench."))}))


def _in_file(section: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a section of prunebench.toml; ConfigError if it cannot be read."""
    if not OWN_FILE.is_file():
        return
    with_current_folder()
    where = OWN_FILE.absolute()
    try:
        content = tomllib.loads(OWN_FILE.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{where}: {cannot('be read', error)}") from None
    except ValueError as error:
        raise ConfigError(f"{where}: not a TOML file ({in_one_line(error)})") from None
    for name in content:
        if name not in SECTIONS:
            raise ConfigError(f"{where}: {unknown_name('section', name, SECTIONS)}")
    named = content.get(section, {})
    for name, path in named.items() if isinstance(named, dict) else [(section, named)]:
        if re.fullmatch(NAME, name) is None or not isinstance(path, str) or ":" not in path:
            raise ConfigError(
                f"{where}: {section}: {name} = {shown(path)} is not of the form "
                'my_name = "module:object"'
            )
        yield name, path


def with_current_folder() -> None:
    """Let modules of the current folder be imported, as `python -m` does."""
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)


def with_plug_ins(paths: Mapping[str, str], added: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return `paths` with more names, sorted; a name that is taken gets both paths.

    >>> with_plug_ins({"l1": "own:L1"}, [("l1", "other:L1"), ("a", "other:A")])
    {'a': 'other:A', 'l1': 'own:L1 and other:L1'}
    """
    found = dict(paths)
    for name, path in added:
        found[name] = f"{found[name]}{AND}{path}" if name in found else path
    return dict(sorted(found.items()))


def registered_name(kind: str, name: str, paths: Mapping[str, str]) -> str:
    """Return the path of a name; ConfigError for an unknown one, with where names are registered.

    It says so since the usual reason is another current folder than that of the study.
    """
    try:
        return look_up(kind, name, paths)
    except ConfigError as error:
        raise ConfigError(f"{error}; {where_registered()}") from None


def where_registered() -> str:
    """Return in words where names of one's own are registered, and whether they are here."""
    place = OWN_FILE.absolute()
    if place.is_file():
        return f"names of your own are registered in {place}"
    return f"names of your own are registered in {OWN_FILE}, and {place.parent} has no such file"


def import_named(kind: str, name: str, paths: Mapping[str, str], built_in: Collection[str]) -> Any:
    """Import the object that "module:object" names.

    An unknown name raises ConfigError, as does one that is registered twice, and a plug-in that
    cannot be imported. A built-in object that cannot be imported is a bug; its error passes
    through.
    """
    path = registered_name(kind, name, paths)
    if AND in path:
        raise ConfigError(f"two objects are registered as the {kind} {name!r}: {path}")
    if name in built_in:
        return pkgutil.resolve_name(path)
    try:
        with limited_time():
            return pkgutil.resolve_name(path)
    except (Exception, SystemExit, ImportTookTooLongError) as error:
        problem = "it exits" if isinstance(error, SystemExit) else in_one_line(error)
        raise ConfigError(f"the plug-in {path} of the {kind} {name!r}: {problem}") from error


def check_plug_in(kind: str, name: str, path: str, found: Any, base: type) -> None:
    """Raise ConfigError unless a plug-in is a subclass of `base` with a summary."""
    problem = None
    if not isinstance(found, type) or not issubclass(found, base):
        problem = f"is no subclass of {base.__module__}.{base.__name__}"
    elif not isinstance(getattr(found, "summary", None), str):
        problem = "has no summary, a line of text"
    if problem is not None:
        raise ConfigError(f"the plug-in {path} of the {kind} {name!r} {problem}")


@cache
def source_of(module: str) -> Path | None:
    """Return the file of a module, None if there is none; no module is imported."""
    top, *below = module.split(".")
    try:
        package = find_spec(top)
    except (ImportError, ValueError):  # `__main__` and names that are none
        return None
    for folder in (package and package.submodule_search_locations) or ():
        path = Path(folder, *below)
        for file in (path.with_suffix(".py"), path / "__init__.py"):
            if file.is_file():
                return file
    if package is None or below or not package.has_location:
        return None
    return Path(str(package.origin))


class ImportTookTooLongError(BaseException):
    """The import of a plug-in exceeds its limit; no `except Exception` of its code stops this."""


@contextmanager
def limited_time() -> Iterator[None]:
    """Raise ImportTookTooLongError if the block takes longer than allowed.

    Only the main thread can be interrupted; there is no limit in others.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    seconds = float(os.environ.get(LIMIT, MOST_SECONDS))

    def stop(number: int, frame: FrameType | None) -> None:
        raise ImportTookTooLongError(f"its import takes more than {seconds:g} seconds ({LIMIT})")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
