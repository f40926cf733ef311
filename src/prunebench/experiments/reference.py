"""The reference of keys and options: values, default and description of every field of a model.

The tables of config/README.md, the JSON schemas in workflow/schemas and `prunebench list options`
are all generated here from the models' fields, so they always agree with the code.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import BaseModel

from prunebench.core.names import look_up
from prunebench.experiments.settings import DOTTED_NAME, NAME, OWN_OR_NAME

SCHEMA_DIALECT = "https://json-schema.org/draft/2020-12/schema"
LOWER = {"minimum": "≥", "exclusiveMinimum": ">"}
UPPER = {"maximum": "≤", "exclusiveMaximum": "<"}


@dataclass(frozen=True)
class Option:
    """One field of a model, in words; `values` and `description` may hold Markdown code spans."""

    name: str
    values: str
    default: str  # "required", or YAML
    description: str


def options_of(model: type[BaseModel]) -> list[Option]:
    """Return the options of a model in the order of its fields."""
    schema = model.model_json_schema()
    options = []
    for name in model.model_fields:
        default = _default(model, name)
        values = _values(schema["properties"][name], schema.get("$defs", {}))
        if default != "null" and _allows_null(schema["properties"][name]):
            values += " or `null`"
        options.append(Option(name, values, default, _description(model, name)))
    return options


def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a configuration file, for editors."""
    return {"$schema": SCHEMA_DIALECT, **model.model_json_schema()}


def table(model: type[BaseModel]) -> str:
    """Return the options of a model as a Markdown table."""
    rows = [("key", "default", "values", "meaning"), ("---",) * 4]
    for option in options_of(model):
        default = "required" if option.default == "required" else f"`{option.default}`"
        rows.append((f"`{option.name}`", default, option.values, option.description))
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows
    )


def with_tables(text: str, models: Mapping[str, type[BaseModel]]) -> str:
    """Replace each table between `<!-- generated: NAME -->` and `<!-- end -->` in a Markdown text.

    ConfigError names a NAME that is not among `models`.
    """

    def generated(found: re.Match[str]) -> str:
        return f"{found[1]}\n{table(look_up('generated table', found[2], models))}\n{found[3]}"

    marked = r"(<!-- generated: (\w+) -->)\n.*?(<!-- end -->)"
    return re.sub(marked, generated, text, flags=re.DOTALL)


def _default(model: type[BaseModel], name: str) -> str:
    """Spell the default of a field as YAML in one line; models show only what they change."""
    field = model.model_fields[name]
    if field.is_required():
        return "required"
    made = model.model_construct({name}, **{name: field.get_default(call_default_factory=True)})
    value = made.model_dump(mode="json", include={name}, exclude_unset=True, warnings=False)[name]
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).splitlines()[0]


def _description(model: type[BaseModel], name: str) -> str:
    """Return the description of a field; a subclass that changes only the default inherits it."""
    parents = (parent for parent in model.__mro__ if issubclass(parent, BaseModel))
    fields = (parent.model_fields.get(name) for parent in parents)
    return next((field.description for field in fields if field and field.description), "")


def _values(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Describe the allowed values of a JSON schema in words, except null.

    >>> _values({"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}}, {})
    'list of numbers > 0'
    """
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return _noun(definitions[name].get("title", name))
    if choices := schema.get("anyOf") or schema.get("allOf"):
        return " or ".join(_values(s, definitions) for s in choices if s.get("type") != "null")
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum") or [schema["const"]])
    match schema.get("type"):
        case "boolean":
            return "`true`, `false`"
        case "integer" | "number" as kind:
            return f"{kind}{_range(schema)}"
        case "string" if pattern := schema.get("pattern"):
            if pattern == OWN_OR_NAME:
                return "name or `module:function`"
            return "name" if pattern in (NAME, DOTTED_NAME) else f"string matching `{pattern}`"
        case "array" if items := schema.get("prefixItems"):
            return f"list of {len(items)} {_plural(_values(items[0], definitions))}"
        case "array":
            return f"list of {_plural(_values(schema['items'], definitions))}"
        case "object":
            return _mapping(schema, definitions)
        case kind:
            return str(kind)


def _allows_null(schema: Mapping[str, Any]) -> bool:
    return any(choice.get("type") == "null" for choice in schema.get("anyOf", []))


def _range(schema: Mapping[str, Any]) -> str:
    """Return the allowed range of a number.

    >>> _range({"minimum": 0, "exclusiveMaximum": 1}), _range({"minimum": 2}), _range({})
    (' in [0, 1)', ' ≥ 2', '')
    """
    low = [(sign, schema[key]) for key, sign in LOWER.items() if key in schema]
    high = [(sign, schema[key]) for key, sign in UPPER.items() if key in schema]
    if low and high:
        opening, closing = "[" if low[0][0] == "≥" else "(", "]" if high[0][0] == "≤" else ")"
        return f" in {opening}{_plain(low[0][1])}, {_plain(high[0][1])}{closing}"
    return "".join(f" {sign} {_plain(bound)}" for sign, bound in low + high)


def _plain(bound: float) -> str:
    """Return a bound, a whole number with all its digits."""
    return str(int(bound)) if float(bound).is_integer() else f"{bound:g}"


def _mapping(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Describe a mapping by its keys and values, as far as the schema knows them."""
    if named := schema.get("patternProperties"):
        return f"mapping of names to {_plural(_values(next(iter(named.values())), definitions))}"
    content = schema.get("additionalProperties")
    if not isinstance(content, dict):
        return "mapping"
    values = _plural(_values(content, definitions))
    if "propertyNames" in schema:
        return f"mapping of {_values(schema['propertyNames'], definitions)} to {values}"
    return f"mapping to {values}"


def _noun(title: str) -> str:
    """Turn the title of a model into words.

    >>> _noun("ResizedCrop"), _noun("NetworkConfig")
    ('resized crop', 'network')
    """
    return re.sub(r"\B([A-Z])", r" \1", title.removesuffix("Config")).lower()


def _plural(values: str) -> str:
    """Return the plural of a described value; a list of choices stays.

    >>> _plural("number in [0, 1)"), _plural("resized crop"), _plural("`a`, `b`")
    ('numbers in [0, 1)', 'resized crops', '`a`, `b`')
    >>> _plural("number or string")
    'numbers or strings'
    """
    if " or " in values:
        return " or ".join(map(_plural, values.split(" or ")))
    return re.sub(r"^(integer|list|mapping|name|number|string)\b|^[a-z ]+$", r"\g<0>s", values)
