"""Patterns of the user: modules whose channels stay, and ratios of single groups."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from prunebench.channels.groups import ChannelGraph, ChannelGroup
from prunebench.core.errors import ConfigError, shown
from prunebench.core.names import near_names

SHOWN = 8  # names in an error


def kept_whole(model: nn.Module, graph: ChannelGraph, patterns: Sequence[str]) -> dict[str, str]:
    """Return, for the groups that the patterns name, the pattern in words; they keep all units.

    A pattern names a module or those inside of it; a group is whole if one of its layers or norms
    is named. A layer that only reads a group names none.

    Raises
    ------
    ConfigError
        For a pattern that matches no module.
    """
    paths = [path for path, _ in model.named_modules() if path]
    for pattern in patterns:
        if not any(is_inside(path, pattern) for path in paths):
            raise ConfigError(no_match("keep", pattern, "module", paths))
    found = {}
    for name, group in graph.groups.items():
        for pattern in patterns:
            if any(is_inside(path, pattern) for path in makers(group)):
                found[name] = f"kept whole by keep={pattern!r}"
                break
    return found


def makers(group: ChannelGroup) -> Iterator[str]:
    """Yield the paths of the modules that produce the units, pass them on or rescale them."""
    for member in group.members:
        if member.role != "in":
            yield from (name.rpartition(".")[0] for name in member.parameters)


def is_inside(path: str, pattern: str) -> bool:
    """Whether a module, or one that it lies in, matches a pattern.

    >>> is_inside("head.fc", "head"), is_inside("head.fc", "head.*"), is_inside("header", "head")
    (True, True, False)
    """
    parts = path.split(".")
    return any(fnmatchcase(".".join(parts[: n + 1]), pattern) for n in range(len(parts)))


def check_ratios(graph: ChannelGraph, ratios: Mapping[str, float]) -> None:
    """Raise ConfigError for a pattern that matches no group, or only groups that stay whole."""
    for pattern in ratios:
        if any(fnmatchcase(name, pattern) for name in graph.groups):
            continue
        for name, group in graph.frozen.items():
            if fnmatchcase(name, pattern):
                raise ConfigError(f"ratios: the group {name!r} cannot be pruned: {group.frozen}")
        raise ConfigError(no_match("ratios", pattern, "prunable group", graph.groups))


def no_match(key: str, pattern: str, kind: str, known: Collection[str]) -> str:
    """Return the sentence for a pattern that matches nothing, with near names."""
    near = near_names(pattern.rstrip("*.") or pattern, known)
    first = list(known)[:SHOWN]
    others = ", ..." if len(known) > SHOWN else ""
    if near:
        return f"{key}: {shown(pattern)} matches no {kind}; did you mean {' or '.join(near)}?"
    return f"{key}: {shown(pattern)} matches no {kind}; there are {', '.join(first)}{others}"
