from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from prunebench.core import project
from prunebench.core.errors import ConfigError
from prunebench.core.project import TOP, write_project

ROOT = Path(__file__).parents[2]


def test_a_new_folder_gets_the_files_of_the_repository(tmp_path: Path) -> None:
    paths = write_project(tmp_path / "deep" / "study", "0.1.0")
    assert [path.name for path in paths] == list(TOP)
    assert sorted(path.name for path in (tmp_path / "deep" / "study").iterdir()) == sorted(TOP)
    for name in ("Snakefile", "workflow/rules/common.smk", "config/recipes/digits_base.yaml"):
        assert (tmp_path / "deep/study" / name).read_bytes() == (ROOT / name).read_bytes()
    # The third profile is of the repository's own tests.
    assert sorted(p.name for p in (tmp_path / "deep/study/profiles").iterdir()) == [
        "default",
        "slurm",
    ]


def test_the_environment_installs_this_version_instead_of_a_checkout(tmp_path: Path) -> None:
    write_project(tmp_path, "1.2.3")
    environment = yaml.safe_load((tmp_path / "environment.yml").read_text(encoding="utf-8"))
    assert environment["dependencies"][-1] == {"pip": ["prunebench==1.2.3"]}


def test_other_files_of_a_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    write_project(tmp_path, "0.1.0")
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", TOP)
def test_a_folder_that_has_one_of_the_files_is_left_as_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(ConfigError, match=f"{tmp_path}: already has {re.escape(name)}; name anoth"):
        write_project(tmp_path, "0.1.0")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_in_the_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "study").write_text("mine")
    with pytest.raises(ConfigError, match="study: is a file; name a new folder"):
        write_project(tmp_path / "study", "0.1.0")


def test_an_installation_without_the_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(project, "PACKAGE", tmp_path / "lib" / "python" / "prunebench")
    with pytest.raises(ConfigError, match=r"lib: has no Snakefile, config, .*; install prunebench"):
        write_project(tmp_path / "study", "0.1.0")
    assert not (tmp_path / "study").exists()


def test_nothing_is_left_behind_if_a_copy_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(project, "_copy", fail)
    with pytest.raises(OSError, match="No space left"):
        write_project(tmp_path, "0.1.0")
    assert list(tmp_path.iterdir()) == []
