"""Look-up by name: errors that name the closest known names."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar

from prunebench.core.errors import ConfigError, shown

T = TypeVar("T")


def unknown_name(kind: str, name: str, known: Collection[str]) -> str:
    """Return the sentence for a name that is not among `known`.

    >>> unknown_name("method", "gerg_1", ["greg_1", "l1"])
    "unknown method 'gerg_1'; did you mean greg_1? (allowed: greg_1, l1)"
    >>> unknown_name("network", "ResNet-56", ["resnet56", "vgg16"])
    "unknown network 'ResNet-56'; did you mean resnet56? (allowed: resnet56, vgg16)"
    """
    close = near_names(name, known)
    hint = f"; did you mean {' or '.join(close)}?" if close else ""
    allowed = ", ".join(sorted(known)) or "none"
    return f"unknown {kind} {shown(name)}{hint} (allowed: {allowed})"


def near_names(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three of the `known` names that are close to a name, or begin with it.

    >>> near_names("layr1.conv", ["layer1.conv", "layer2.conv", "fc"])
    ['layer1.conv', 'layer2.conv']
    """
    lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.7)
    if not close and name:
        close = sorted(longer for longer in lower if longer.startswith(name.lower()))[:3]
    return [lower[other] for other in close]


def look_up(kind: str, name: str, table: Mapping[str, T]) -> T:
    """Return `table[name]`; raise ConfigError with the closest names where there is none."""
    try:
        return table[name]
    except KeyError:
        raise ConfigError(unknown_name(kind, name, table)) from None
