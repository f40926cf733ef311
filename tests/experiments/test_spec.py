from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import create_model

from prunebench.experiments.recipe import Augment, Recipe, Schedule
from prunebench.experiments.spec import BaseSpec, RunSpec, canonical_ratio, data_path, ratio_slug

RECIPE = Recipe(epochs=12, batch_size=64, lr=0.1, weight_decay=5e-4)
BASE = BaseSpec(
    dataset="digits",
    architecture="vgg16_x0_25",
    recipe_name="digits_base",
    recipe=RECIPE,
    seed=3,
    threads=1,
)


def run(**more: Any) -> RunSpec:
    spec = {
        "experiment": "greg_table1",
        "dataset": "digits",
        "architecture": "vgg16_x0_25",
        "method": "greg_1",
        "setting": "beta0.73",
        "ratio": 0.5,
        "ratio_kind": "units_per_group",
        "seed": 3,
        "threads": 1,
        "revision": 1,
        "start": "base",
        "options": {"roles": ["inside"]},
        "recipes": {"fine_tune": RECIPE},
        "recipe_names": {"fine_tune": "digits_fine_tune"},
        "base": BASE,
    }
    return RunSpec(**{**spec, **more})


@pytest.mark.parametrize(
    ("ratio", "kind", "folder"),
    [
        (0.5, "units_per_group", "0.5"),
        (0.50, "macs", "macs-0.5"),
        (5e-1, "params", "params-0.5"),
        (0, "units_per_group", "0"),
        (0.9375, "weights", "weights-0.9375"),
        (1e-5, "units_global", "units_global-0.00001"),
        (0.1 + 0.2, "units_per_group", "0.30000000000000004"),
        (None, "auto", "auto"),
    ],
)
def test_a_ratio_has_one_form_in_paths(ratio: float | None, kind: Any, folder: str) -> None:
    assert ratio_slug(ratio, kind) == folder


def test_results_paths_keep_their_form() -> None:
    assert run().path == "greg_table1/digits/vgg16_x0_25/greg_1/beta0.73/0.5/seed3"
    assert BASE.path == "base/digits/vgg16_x0_25/digits_base/seed3"
    assert data_path(Path("results"), "digits") == Path("results/data/digits.safetensors")
    epruner = run(method="epruner", setting="default", ratio=None, ratio_kind="auto")
    assert epruner.path == "greg_table1/digits/vgg16_x0_25/epruner/default/auto/seed3"


def test_hashes_are_the_same_on_every_machine_and_in_every_version() -> None:
    # If a hash changes, every stored run runs again, and the changelog must say so.
    assert BASE.hash == "c323fccc0b6bd40e"
    assert run().hash == "36e6d011954a9100"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 4},
        {"threads": 2},
        {"revision": 2},
        {"ratio": 0.75},
        {"options": {"roles": ["stem"]}},
        {"recipes": {"fine_tune": RECIPE.model_copy(update={"lr": 0.2})}},
        {"base": BASE.model_copy(update={"threads": 2})},
        {"widths_hash": "0123456789abcdef"},
    ],
)
def test_everything_that_a_run_depends_on_changes_its_hash(change: dict[str, Any]) -> None:
    assert run(**change).hash != run().hash


@pytest.mark.parametrize(
    "change",
    [
        {"experiment": "greg_table2"},
        {"setting": "default"},
        {"recipe_names": {"fine_tune": "other"}},
        {"base": BASE.model_copy(update={"recipe_name": "other"})},
        {"widths_from": "greg_table1/digits/vgg16_x0_25/l1/default/0.5/seed3"},
        {"options": {"roles": ["inside"], "widths_from": "l1"}},
    ],
)
def test_names_change_no_hash(change: dict[str, Any]) -> None:
    assert run(**change).hash == run().hash


def test_new_keys_with_defaults_leave_hashes_as_they_are() -> None:
    schedule = create_model("NewSchedule", __base__=Schedule, new_key=(int, 3))
    augment = create_model("NewAugment", __base__=Augment, new_key=(int, 3))
    parts: Any = {"schedule": (schedule, schedule()), "augment": (augment, augment())}
    recipe = create_model("NewRecipe", __base__=Recipe, new_key=(int, 3), **parts)
    base = create_model("NewBase", __base__=BaseSpec, new_key=(int, 3), recipe=(recipe, ...))
    kinds: Any = {"recipes": (dict[str, recipe], ...), "base": (base, ...)}  # type: ignore[valid-type]
    new = create_model("NewRun", __base__=RunSpec, new_key=(int, 3), **kinds)
    milestones = Schedule(kind="milestones", milestones=(2, 3))
    changed = RECIPE.model_copy(update={"schedule": milestones, "augment": Augment(flip=True)})
    for old in (run(), run(recipes={"fine_tune": changed})):
        after = new.model_validate(old.model_dump(mode="json"))
        assert (after.new_key, after.base.recipe.schedule.new_key) == (3, 3)
        assert (after.hash, after.base.hash) == (old.hash, old.base.hash)


def test_a_specification_survives_json() -> None:
    again = RunSpec.model_validate(run().model_dump(mode="json"))
    assert again == run()
    assert again.hash == run().hash


@pytest.mark.parametrize(
    ("text", "ratio"),
    [
        ("0.5", "0.5"),
        ("0.50", "0.5"),
        (".5", "0.5"),
        ("5e-1", "0.5"),
        ("0", "0"),
        ("macs-0.70", "macs-0.7"),
        ("macs-7e-1", "macs-0.7"),
        ("units_per_group-0.5", "0.5"),
        ("auto", "auto"),
        ("half", "half"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_a_ratio_given_by_hand_is_converted_to_its_form_in_paths(text: str, ratio: str) -> None:
    assert canonical_ratio(text) == ratio
