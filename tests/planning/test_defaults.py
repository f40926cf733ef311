"""Every default that hashes leave out: it must stay what it was when results were stored.

`defaults.json` holds them. After a new option or key, or a raised revision or schema, write it
again: python -m tests.planning.test_defaults
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from prunebench.criteria.registry import CRITERIA, criterion_class
from prunebench.experiments.recipe import Augment, Recipe, ResizedCrop, Schedule
from prunebench.experiments.spec import SCHEMA, BaseSpec, RunSpec
from prunebench.methods.registry import METHODS, method_class

FILE = Path(__file__).with_name("defaults.json")
AGAIN = "write defaults.json again: python -m tests.planning.test_defaults"


def defaults_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the default of each field that has one, as JSON."""
    found = {
        name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
        if not field.is_required()
    }
    dumped: dict[str, Any] = model.model_construct(set(found), **found).model_dump(
        mode="json", include=set(found), warnings=False
    )
    return dumped


def present() -> dict[str, dict[str, Any]]:
    """Return version and defaults of everything that a hash covers, by name."""
    parts = (BaseSpec, RunSpec, Recipe, Schedule, Augment, ResizedCrop)
    found = {part.__name__: {"schema": SCHEMA, "defaults": defaults_of(part)} for part in parts}
    classes: dict[str, Any] = {f"criterion {name}": criterion_class(name) for name in CRITERIA}
    for name, criterion in classes.items():
        found[name] = {"revision": criterion.revision, "defaults": defaults_of(criterion)}
    for name in sorted({*METHODS, *CRITERIA}):
        method = method_class(name)
        found[f"method {name}"] = {
            "revision": method.revision,
            "defaults": defaults_of(method.Options),
        }
    return found


def check_defaults(name: str, stored: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Fail if a default has changed under the same version, or the file is out of date."""
    (version, number), *_ = now.items()
    old, new = stored["defaults"], now["defaults"]
    changed = [key for key in old if key in new and new[key] != old[key]]
    if changed and stored.get(version) == number:
        pytest.fail(
            f"{name}: the default of {changed[0]!r} was {old[changed[0]]!r} and is "
            f"{new[changed[0]]!r}, but runs that leave it out keep their hashes: raise the schema "
            "version / the method's revision"
        )
    assert stored == now, f"{name}: {AGAIN}"


STORED: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


@pytest.mark.parametrize("name", sorted({*STORED, *present()}))
def test_no_default_changes_by_itself(name: str) -> None:
    assert name in STORED, f"{name}: {AGAIN}"
    assert name in present(), f"{name}: {AGAIN}"
    check_defaults(name, STORED[name], present()[name])


def test_a_changed_default_must_raise_a_version() -> None:
    now = {"revision": 1, "defaults": {"delta": 2}}
    with pytest.raises(pytest.fail.Exception, match="raise the schema version / the method's rev"):
        check_defaults("method m", {"revision": 1, "defaults": {"delta": 1}}, now)
    with pytest.raises(AssertionError, match=r"write defaults\.json again"):
        check_defaults("method m", {"revision": 0, "defaults": {"delta": 1}}, now)
    with pytest.raises(AssertionError, match=r"write defaults\.json again"):
        check_defaults("method m", {"revision": 1, "defaults": {}}, now)


if __name__ == "__main__":
    FILE.write_text(json.dumps(present(), indent=1) + "\n", encoding="utf-8")
