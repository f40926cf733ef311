"""Documents beside the code agree with the code: the reference of keys, schemas, papers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from prunebench.cli.listings import SCHEMA_NAMES, configuration_models
from prunebench.criteria.registry import CRITERIA, criterion_class
from prunebench.experiments.config import ExperimentConfig
from prunebench.experiments.reference import json_schema, with_tables
from prunebench.experiments.validation import validate
from prunebench.methods.registry import method_class, method_paths

ROOT = Path(__file__).parents[2]
README = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
AGAIN = "`prunebench reference` writes it again"


def test_the_tables_of_the_readme_are_up_to_date() -> None:
    models = configuration_models()
    assert with_tables(README, models) == README, AGAIN
    assert re.findall(r"<!-- generated: (\w+) -->", README) == list(models)


def test_the_example_of_the_readme_is_valid() -> None:
    example = README.split("```yaml\n")[1].split("```")[0]
    assert validate(ExperimentConfig, yaml.safe_load(example), "README.md").title


def essence(schema: Any) -> Any:
    """Return the keys of a schema that editors use; the form of others differs by pydantic."""
    if isinstance(schema, list):
        return [essence(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "properties" in schema:
        return {
            "keys": {name: essence(part) for name, part in schema["properties"].items()},
            "required": schema.get("required"),
        }
    keys = ("description", "enum", "const", "minimum", "pattern")
    return {key: schema[key] for key in keys if key in schema}


@pytest.mark.parametrize("name", SCHEMA_NAMES)
def test_the_schemas_for_editors_are_up_to_date(name: str) -> None:
    path = ROOT / "workflow" / "schemas" / f"{name}.schema.json"
    stored = json.loads(path.read_text(encoding="utf-8"))
    now = json_schema(configuration_models()[name])
    assert essence(stored) == essence(now), AGAIN
    for part, definition in now.get("$defs", {}).items():
        assert essence(stored["$defs"][part]) == essence(definition), AGAIN


def described_models() -> Iterator[type[BaseModel]]:
    yield from configuration_models().values()
    yield from (criterion_class(name) for name in CRITERIA)
    yield from (method_class(name).Options for name in method_paths())


@pytest.mark.parametrize("model", sorted({*described_models()}, key=lambda m: m.__name__))
def test_every_option_is_described_by_full_sentences(model: type[BaseModel]) -> None:
    poor = [
        name
        for name, field in model.model_fields.items()
        if not re.fullmatch(r"[A-Z`\d].*\.", field.description or "")
    ]
    assert poor == []


def test_the_six_papers_are_cited() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    cited = [
        paper.get("url", "").removeprefix("https://arxiv.org/abs/")
        for paper in citation["references"]
    ]
    assert cited[:6] == [
        "2009.05014",
        "1804.09461",
        "2010.09498",
        "2101.07985",
        "2012.09243",
        "2108.00708",
    ]
