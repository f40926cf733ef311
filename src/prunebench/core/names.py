"""Look-up by name: errors that name the closest known names, and the entry points of plug-ins."""

from __future__ import annotations

import difflib
import pkgutil
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any, TypeVar

from prunebench.core.errors import ConfigError, shown

T = TypeVar("T")


def unknown_name(kind: str, name: str, known: Collection[str]) -> str:
    """Return the sentence for a name that is not among `known`.

    >>> unknown_name("method", "gerg_1", ["greg_1", "l1"])
    "unknown method 'gerg_1'; did you mean greg_1? (allowed: greg_1, l1)"
    >>> unknown_name("network", "ResNet-56", ["resnet56", "vgg16"])
    "unknown network 'ResNet-56'; did you mean resnet56? (allowed: resnet56, vgg16)"
    """
    lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.7)
    if not close and name:
        close = sorted(longer for longer in lower if longer.startswith(name.lower()))[:3]
    close = [lower[other] for other in close]
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    allowed = ", ".join(sorted(known)) or "none"
    return f"unknown {kind} {shown(name)}{hint} (allowed: {allowed})"


def look_up(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return `table[name]`; raise ConfigError with the closest names where there is none."""
    try:
        return table[name]
    except KeyError:
        raise ConfigError(unknown_name(kind, name, table)) from None


@cache
def plug_ins(group: str) -> tuple[tuple[str, str], ...]:
    """Return name and "module:object" of the installed entry points of a group, by name."""
    return tuple(sorted((entry.name, entry.value) for entry in entry_points(group=group)))


def add_plug_ins(
    kind: str, paths: Mapping[str, str], added: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """Return `paths` with more names, sorted; raise ConfigError for a name that is taken."""
    found = dict(paths)
    for name, path in added:
        if name in found:
            raise ConfigError(
                f"the plug-in {path} registers the {kind} {name!r}, which {found[name]} has already"
            )
        found[name] = path
    return dict(sorted(found.items()))


def import_named(kind: str, name: str, paths: Mapping[str, str], built_in: Collection[str]) -> Any:
    """Import the object that "module:object" names.

    An unknown name raises ConfigError, as does a plug-in that cannot be imported. A built-in
    object that cannot be imported is a bug; its error passes through.
    """
    path = look_up(kind, name, paths)
    try:
        return pkgutil.resolve_name(path)
    except (ImportError, AttributeError) as error:
        if name in built_in:
            raise
        raise ConfigError(f"the plug-in {path} of the {kind} {name!r}: {error}") from error
