"""Documents beside the code say what the code says: every key, every schema, every paper."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from prunebench.data.folder import Description
from prunebench.experiments.config import (
    Config,
    ExperimentConfig,
    MethodConfig,
    NetworkConfig,
    PublishedConfig,
)
from prunebench.experiments.recipe import Augment, Recipe, ResizedCrop, Schedule
from prunebench.methods.base import MethodOptions

ROOT = Path(__file__).parents[2]
SECTIONS: dict[str, type[BaseModel]] = {
    "## config.yaml": Config,
    "## experiments/&lt;name&gt;.yaml": ExperimentConfig,
    "### A printed table": PublishedConfig,
    "### A network": NetworkConfig,
    "### A method": MethodConfig,
    "### Options of every method": MethodOptions,
    "## recipes/&lt;name&gt;.yaml": Recipe,
    "### A schedule": Schedule,
    "### An augmentation": Augment,
    "### A resized crop": ResizedCrop,
    "### dataset.yaml": Description,
}


def documented(heading: str) -> dict[str, str]:
    """Return the keys and defaults of the table below a heading of config/README.md."""
    text = (ROOT / "config" / "README.md").read_text(encoding="utf-8")
    section = re.split(r"^##+ ", text.split(f"{heading}\n")[1], flags=re.MULTILINE)[0]
    return dict(re.findall(r"^\| `(\w+)` \| `?(.*?)`? \|", section, flags=re.MULTILINE))


def declared(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        yield name, "required" if field.is_required() else plain(field.get_default())


def plain(value: Any) -> str:
    """Spell a default as YAML in one line."""
    if isinstance(value, BaseModel):
        return "{}"
    if isinstance(value, dict):
        value = {key: {} if isinstance(v, BaseModel) else v for key, v in value.items()}
    if isinstance(value, tuple):
        value = list(value)
    return yaml.safe_dump(value, default_flow_style=True, width=200).splitlines()[0]


@pytest.mark.parametrize(("heading", "model"), SECTIONS.items(), ids=lambda value: str(value)[:30])
def test_the_readme_has_every_key_with_its_default(heading: str, model: type[BaseModel]) -> None:
    assert documented(heading) == dict(declared(model))


def essence(schema: Any) -> Any:
    """Return what editors check by; descriptions and their form differ between pydantics."""
    if isinstance(schema, list):
        return [essence(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if "properties" in schema:
        return {
            "keys": {name: essence(part) for name, part in schema["properties"].items()},
            "required": schema.get("required"),
        }
    return {key: schema[key] for key in ("enum", "const", "minimum", "pattern") if key in schema}


@pytest.mark.parametrize(
    ("name", "model"), [("config", Config), ("experiment", ExperimentConfig), ("recipe", Recipe)]
)
def test_the_schemas_for_editors_are_up_to_date(name: str, model: type[BaseModel]) -> None:
    path = ROOT / "workflow" / "schemas" / f"{name}.schema.json"
    stored, now = json.loads(path.read_text(encoding="utf-8")), model.model_json_schema()
    again = "`prunebench schemas` writes it again"
    assert essence(stored) == essence(now), again
    for part, definition in now.get("$defs", {}).items():
        assert essence(stored["$defs"][part]) == essence(definition), again


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
