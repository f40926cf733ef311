"""Read a YAML file whose size, nesting and repetitions are limited.

An error names the file and the line. A key given twice is an error too; plain YAML would silently
keep the last value.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from prunebench.core.errors import ConfigError, cannot, shown

MERGE = "tag:yaml.org,2002:merge"
# The largest files of this project have 20 kB, a thousand values and five levels.
MOST_BYTES = 2**20
MOST_VALUES = 50_000  # a value that aliases repeat counts each time
MOST_LEVELS = 50


class _Loader(yaml.SafeLoader):
    """A YAML loader that rejects a key given twice, deep nesting and exploding aliases.

    ruamel.yaml rejects such a key too, but reads YAML 1.2. Snakemake reads config/config.yaml by
    YAML 1.1 as PyYAML does: `yes` would be true in that file and text in all others.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.level, self.values = 0, 0
        self.anchored: dict[str, int] = {}  # number of values below an anchor

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a value and those below it; ConfigError beyond a limit."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line, before = event.start_mark.line + 1, self.values
        is_alias = isinstance(event, yaml.AliasEvent)
        if is_alias and event.anchor in self.anchors and event.anchor not in self.anchored:
            raise ConfigError(f"line {line}: the alias *{event.anchor} is a part of its own value")
        self.values += self.anchored.get(event.anchor, 1) if is_alias else 1
        if self.values > MOST_VALUES:
            raise ConfigError(
                f"line {line}: more than {MOST_VALUES} values, counting those that aliases repeat"
            )
        if self.level == MOST_LEVELS:
            raise ConfigError(f"line {line}: more than {MOST_LEVELS} levels of nesting")
        self.level += 1
        node = super().compose_node(parent, index)
        self.level -= 1
        if event.anchor is not None and not is_alias:
            self.anchored[event.anchor] = self.values - before
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Return the value of a node; ConfigError for a scalar that is not of its type."""
        try:
            return super().construct_object(node, deep=deep)
        except (AttributeError, LookupError, ValueError):  # as of `!!bool maybe` and 2001-99-99
            raise _no_such_value(node) from None


def _mapping_without_duplicates(loader: _Loader, node: yaml.Node) -> dict[Any, Any]:
    if not isinstance(node, yaml.MappingNode):  # `!!map text`
        raise _no_such_value(node)
    seen: set[Any] = set()
    for key_node, _ in node.value:
        if key_node.tag == MERGE:  # a key beside `<<: *anchor` may override a merged key
            continue
        key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
        if not isinstance(key, Hashable):
            raise ConfigError(f"line {line}: a key must be a name, not {shown(key)}")
        if key in seen:
            raise ConfigError(f"line {line}: the key {shown(key)} is given twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _no_such_value(node: yaml.Node) -> ConfigError:
    value = shown(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
    kind = node.tag.rpartition(":")[2]
    return ConfigError(f"line {node.start_mark.line + 1}: {value} is no valid {kind}")


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_duplicates)


def read_yaml(path: Path) -> Any:
    """Read a YAML file; ConfigError names the file and line of an error or a duplicate key."""
    text = _read_text(path)
    try:
        return yaml.load(text, _Loader)
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or str(error)
        raise ConfigError(f"{path}{line}: not valid YAML: {' '.join(problem.split())}") from None


def _read_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: {cannot('be read', error)}") from None
    if len(content) > MOST_BYTES:
        raise ConfigError(f"{path}: has more than {MOST_BYTES} bytes, too many for such a file")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
