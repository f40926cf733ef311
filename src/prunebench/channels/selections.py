"""Select the layers or groups that a paper prunes, by rules over the traced structure.

A selection is a list of rules, applied in order: a rule adds the layers that it names, and a rule
that begins with "not" removes them again. A rule is one of

- a place or a kind of `LayerRole`: "stem", "first", "shortcut", "depthwise" ...;
- a group's role: "stream" or "inside" ("stem" is also a place);
- a name in `RULES`;
- a layer's path, or a pattern of paths: "layer1.*.conv1"; "conv1*" for a path without a dot.

The papers' selections: GReg and EPruner prune the `first_convolutions` of basic blocks, `first` and
`middle` of bottlenecks; SFP prunes the `convolutions` of a residual network for small images and
`except_shortcuts` in one for ImageNet; Group Fisher prunes every group: `stem`, `stream`, `inside`.

>>> check_rule("not layer1.0.*")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import get_args

from prunebench.channels.flow import LayerKind
from prunebench.channels.groups import ChannelGraph, ChannelGroup, GroupRole
from prunebench.channels.roles import LayerRole, Place, layer_roles
from prunebench.core.errors import ConfigError
from prunebench.core.names import unknown_name

NOT = "not "

RULES: dict[str, Callable[[LayerRole], bool]] = {
    "convolutions": lambda role: role.kind != "linear",
    "except_shortcuts": lambda role: role.kind != "linear" and role.place != "shortcut",
    "first_convolutions": lambda role: role.kind != "linear" and role.place == "first",
}
GROUP_ROLES: tuple[str, ...] = get_args(GroupRole)
WORDS = {*RULES, *GROUP_ROLES, *get_args(Place), *get_args(LayerKind)}


def check_rule(rule: str) -> None:
    """Raise ConfigError for a rule that is neither a known word nor a path or pattern of layers.

    Whether a path exists is checked later, since it depends on the network.
    """
    name = rule.removeprefix(NOT)
    if name not in WORDS and not any(sign in name for sign in ".*?["):
        raise ConfigError(unknown_name("role", name, WORDS))


def select_layers(graph: ChannelGraph, rules: Sequence[str]) -> dict[str, LayerRole]:
    """Return the convolutions and linear layers that the rules select, in network order.

    Raises
    ------
    ConfigError
        For an unknown word, or a path or pattern that matches no layer.
    """
    roles = layer_roles(graph)
    chosen: set[str] = set()
    for rule in rules:
        some = _layers_of(rule.removeprefix(NOT), graph, roles)
        chosen = chosen - some if rule.startswith(NOT) else chosen | some
    return {weight: role for weight, role in roles.items() if weight in chosen}


def select_groups(graph: ChannelGraph, rules: Sequence[str]) -> dict[str, ChannelGroup]:
    """Return the prunable groups that the rules select, in network order.

    Rules about layers select a group if they select all layers that produce its units: a unit that
    one of them must keep is kept in all. Gates count only if no other layer produces the units.

    Raises
    ------
    ConfigError
        As in `select_layers`.
    """
    roles = layer_roles(graph)
    layers: set[str] = set()
    groups: set[str] = set()
    for rule in rules:
        name, takes_out = rule.removeprefix(NOT), rule.startswith(NOT)
        some = _layers_of(name, graph, roles)
        if takes_out:
            layers -= some
            groups -= {n for n in groups if some.intersection(_makers(graph.groups[n], roles))}
        elif name in GROUP_ROLES:
            groups |= {group.name for group in graph.groups.values() if group.role == name}
        else:
            layers |= some
    return {
        name: group
        for name, group in graph.groups.items()
        if name in groups or layers.issuperset(_makers(group, roles))
    }


def _makers(group: ChannelGroup, roles: dict[str, LayerRole]) -> list[str]:
    """Return the weights that produce a group's units; gates only if there are no others."""
    others = [weight for weight in group.producers if roles[weight].place != "gate"]
    return others or list(group.producers)


def _layers_of(name: str, graph: ChannelGraph, roles: dict[str, LayerRole]) -> set[str]:
    """Return the weights of the layers that a rule names, without its "not"."""
    if name in RULES:
        return {weight for weight, role in roles.items() if RULES[name](role)}
    if name in get_args(Place) or name in get_args(LayerKind):
        return {weight for weight, role in roles.items() if name in (role.place, role.kind)}
    if name in GROUP_ROLES:
        groups = [group for group in graph.groups.values() if group.role == name]
        return {weight for group in groups for weight in group.producers}
    found = {weight for weight in roles if fnmatchcase(weight.rpartition(".")[0], name)}
    if not found:
        check_rule(name)
        raise ConfigError(f"role {name!r} matches no layer of the network")
    return found
