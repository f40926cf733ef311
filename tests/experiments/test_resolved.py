from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ConfigError, ResultError
from prunebench.experiments import resolved
from prunebench.experiments.config import Config
from prunebench.experiments.resolved import (
    only_table_left,
    read_resolved,
    read_together,
    resolution_keys,
    resolved_file,
    resolved_runs,
    source_hash,
    write_resolved,
)
from prunebench.experiments.spec import RunSpec
from tests.experiments.test_spec import BASE, RECIPE, run

SETTINGS = Config(experiments=("quick",))


@pytest.fixture
def two_runs() -> list[RunSpec]:
    """Two runs of one base network."""
    return [run(), run(method="l1", setting="default")]


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """A folder with an experiment and a recipe, whatever they say."""
    for name in ("experiments/quick.yaml", "recipes/short.yaml"):
        (tmp_path / "config" / name).parent.mkdir(parents=True)
        (tmp_path / "config" / name).write_text("lr: 1\n", encoding="utf-8")
    return tmp_path / "config"


def test_runs_come_back_with_their_paths_and_hashes(tmp_path: Path, two_runs: Any) -> None:
    write_resolved(tmp_path / "runs.jsonl", two_runs, "k")
    known = read_resolved(tmp_path / "runs.jsonl", "k")
    assert dict(known) == {spec.path: spec for spec in two_runs}
    assert known.entry(two_runs[0].path)["hash"] == two_runs[0].hash
    assert list(known.bases) == ["base/digits/vgg16_x0_25/digits_base/seed3"]


def test_a_run_is_validated_when_it_is_looked_up(tmp_path: Path, two_runs: Any) -> None:
    path = tmp_path / "runs.jsonl"
    write_resolved(path, two_runs, "k")
    path.write_text(path.read_text(encoding="utf-8").replace('"greg_1"', "null"), encoding="utf-8")
    known = read_resolved(path)
    assert known[two_runs[1].path] == two_runs[1]
    with pytest.raises(ResultError, match=r"greg_1.*: its line in .* is damaged; resolve it again"):
        known[two_runs[0].path]


def test_a_truncated_line_is_named(tmp_path: Path, two_runs: Any) -> None:
    path = tmp_path / "runs.jsonl"
    write_resolved(path, two_runs, "k")
    path.write_text(path.read_text(encoding="utf-8")[:-100], encoding="utf-8")
    with pytest.raises(ResultError, match=r"l1.*: its line in .* is damaged; resolve it again"):
        read_resolved(path).entry(two_runs[1].path)


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"cannot be read \(Is a directory\); a folder is in the"):
        read_resolved(tmp_path)


def test_runs_share_their_recipes_and_base_networks(tmp_path: Path, two_runs: Any) -> None:
    write_resolved(tmp_path / "runs.jsonl", two_runs, "k")
    first, second = read_resolved(tmp_path / "runs.jsonl").values()
    assert first.base is second.base
    assert all(recipe is second.recipes[role] for role, recipe in first.recipes.items())


def test_one_recipe_may_follow_two_base_networks(tmp_path: Path) -> None:
    moved = {"fine_tune": RECIPE.model_copy(update={"normalize": "imagenet"})}
    runs = [run(), run(method="l1", setting="default", recipes=moved)]
    write_resolved(tmp_path / "runs.jsonl", runs, "k")
    assert list(read_resolved(tmp_path / "runs.jsonl").values()) == runs


def test_two_base_networks_with_one_path_are_refused(tmp_path: Path) -> None:
    base = BASE.model_copy(update={"threads": 2})
    with pytest.raises(ValueError, match="two different base networks have the path 'base/digits"):
        write_resolved(tmp_path / "runs.jsonl", [run(), run(base=base)], "k")


def test_runs_are_found_by_network(tmp_path: Path, two_runs: Any) -> None:
    write_resolved(resolved_file(tmp_path, "quick"), two_runs, "k")
    assert read_together(tmp_path, {"quick": "k"}).by_network == {
        "greg_table1/digits/vgg16_x0_25": [
            "greg_table1/digits/vgg16_x0_25/greg_1/beta0.73/0.5/seed3",
            "greg_table1/digits/vgg16_x0_25/l1/default/0.5/seed3",
        ]
    }


L1_PATH = "greg_table1/digits/vgg16_x0_25/l1/default/0.5/seed3"


@pytest.mark.parametrize(
    ("changed", "starts"),
    [
        ({}, ["base/digits/vgg16_x0_25/digits_base/seed3"]),
        ({"start": "fresh"}, []),
        ({"start": "fresh", "widths_from": L1_PATH}, [L1_PATH]),
    ],
)
def test_a_run_starts_from_its_base_or_from_the_run_whose_widths_it_takes(
    tmp_path: Path, changed: dict[str, Any], starts: list[str]
) -> None:
    write_resolved(resolved_file(tmp_path, "quick"), [run(**changed)], "k")
    assert read_together(tmp_path, {"quick": "k"}).starts_of(run().path) == starts


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{\n  "key": "k",\n  "bases": []}', '{"key": "k", "bases": {}}']
)
def test_a_file_in_another_format_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "runs.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(ResultError, match=r"runs\.jsonl: not a resolved experiment"):
        read_resolved(tmp_path / "runs.jsonl")


def test_a_file_with_another_key_is_refused(tmp_path: Path, two_runs: Any) -> None:
    write_resolved(tmp_path / "runs.jsonl", two_runs, "k")
    with pytest.raises(ResultError, match=r"runs\.jsonl: resolved from another configuration"):
        read_resolved(tmp_path / "runs.jsonl", "another")


def test_two_experiments_with_different_networks_of_one_base_path_are_refused(
    tmp_path: Path,
) -> None:
    write_resolved(resolved_file(tmp_path, "one"), [run(experiment="one")], "k")
    base = BASE.model_copy(update={"threads": 2})
    write_resolved(resolved_file(tmp_path, "two"), [run(experiment="two", base=base)], "l")
    assert len(read_together(tmp_path, {"one": "k"}).runs) == 1
    with pytest.raises(ResultError, match=r"two\.jsonl: base/digits/.*another network"):
        read_together(tmp_path, {"one": "k", "two": "l"})


def key_of(config_dir: Path, experiment: str = "quick", **changed: Any) -> str:
    settings = Config(experiments=("quick", "digits"), **changed)
    return resolution_keys(settings, config_dir)[experiment]


def test_the_key_depends_on_configuration_files_and_experiment(config_dir: Path) -> None:
    keys = {key_of(config_dir), key_of(config_dir, "digits"), key_of(config_dir, seeds=(1,))}
    (config_dir / "recipes" / "short.yaml").write_text("lr: 2\n", encoding="utf-8")
    keys.add(key_of(config_dir))
    (config_dir / "recipes" / "long.yaml").write_text("lr: 2\n", encoding="utf-8")
    keys.add(key_of(config_dir))
    assert len(keys) == 5


def test_a_file_that_cannot_be_read_is_named_where_the_key_needs_it(config_dir: Path) -> None:
    (config_dir / "recipes" / "lost.yaml").symlink_to("nowhere.yaml")
    with pytest.raises(ResultError, match=r"recipes/lost.yaml: no such file"):
        key_of(config_dir)


def test_the_key_is_independent_of_other_files_and_experiments(config_dir: Path) -> None:
    key = key_of(config_dir)
    (config_dir / "README.md").write_text("Every key.", encoding="utf-8")
    assert key_of(config_dir) == key
    assert resolution_keys(SETTINGS, config_dir)["quick"] == key  # whatever else is asked for


def test_resolved_experiments_start_no_process(
    config_dir: Path, tmp_path: Path, two_runs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = resolution_keys(SETTINGS, config_dir)["quick"]
    write_resolved(resolved_file(tmp_path, "quick"), two_runs, key)
    monkeypatch.delattr(subprocess, "run")
    assert len(resolved_runs(SETTINGS, config_dir, tmp_path).runs) == 2


def test_an_experiment_with_only_its_runs_csv_is_not_resolved(
    config_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "runs.csv").touch()
    monkeypatch.delattr(subprocess, "run")
    assert resolved_runs(SETTINGS, config_dir, tmp_path).runs == {}


def test_the_error_of_the_resolving_process_is_raised(
    config_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "prunebench: x.yaml: unknown key 'lr'\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(ConfigError, match=r"^x\.yaml: unknown key 'lr'$"):
        resolved_runs(SETTINGS, config_dir, tmp_path)


def test_only_the_table_remains_without_run_folders(tmp_path: Path) -> None:
    assert not only_table_left(tmp_path, "quick")
    (tmp_path / "quick" / "figures").mkdir(parents=True)
    (tmp_path / "quick" / "runs.csv").touch()
    assert only_table_left(tmp_path, "quick")
    (tmp_path / "quick/digits/resnet20/l1/default/0.5/seed0").mkdir(parents=True)
    assert not only_table_left(tmp_path, "quick")


def test_an_edit_of_a_source_changes_only_the_hash_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resolved, "PACKAGE", tmp_path)
    for name in ("report/plot.py", "report/templates/x.j2", "methods/l1.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x = 1\n", encoding="utf-8")
    report, methods = source_hash("report"), source_hash("methods")
    (tmp_path / "report" / "templates" / "x.j2").write_text("x = 2\n", encoding="utf-8")
    assert source_hash("report") != report
    assert source_hash("methods") == methods
