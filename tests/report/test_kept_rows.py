"""A second collect gives the rows of a full one, whatever has happened to the files between."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ResultError
from prunebench.core.files import file_hash
from prunebench.experiments.config import ExperimentConfig
from prunebench.experiments.results import TrainingResult
from prunebench.experiments.spec import RunSpec
from prunebench.report import collect as collecting
from prunebench.report import kept_rows
from prunebench.report.collect import collect_to_csv, keep_rows
from prunebench.report.kept_rows import FILE
from tests.stored_files import change

from .conftest import run_spec, write_base, write_run

RECORDED = ("structure.json", "history.csv", "diagnostics.csv", "masks.safetensors")
READ = ("training.json", "metrics.json", "latency.json", *RECORDED)


class Folder:
    """A results folder with three runs of two base networks."""

    def __init__(self, results: Path) -> None:
        self.results = results
        self.specs = [
            run_spec("resnet20", method, "default", 0.5, seed)
            for method, seed in (("l1", 0), ("greg_1", 0), ("l1", 1))
        ]
        for spec in self.specs:
            write_base(results, spec.base)
            write_run(results, spec)
            folder = results / spec.path
            (folder / "masks.safetensors").write_bytes(bytes(range(16)))
            hashes = {name: file_hash(folder / name) for name in RECORDED}
            change(folder / "training.json", files=hashes, code="c1")
        self.n_read = 0

    @property
    def kept(self) -> Path:
        return self.results / "digits" / FILE

    def collect(self, specs: list[RunSpec] | None = None, **options: Any) -> str:
        """Collect and return runs.csv, or the error."""
        try:
            path = collect_to_csv(self.results, "digits", specs or self.specs, **options)
        except ResultError as error:
            return str(error)
        return path.read_text(encoding="utf-8")

    @property
    def part(self) -> Path:
        return self.results / "digits/digits/resnet20/rows_0.jsonl"

    def collect_all(self, specs: list[RunSpec] | None = None, **options: Any) -> str:
        """Collect without what was kept, and leave that as it is."""
        kept = [path for path in (self.kept, self.part) if path.exists()]
        for path in kept:
            path.rename(path.with_suffix(".away"))
        found = self.collect(specs, **options)
        self.kept.unlink(missing_ok=True)
        for path in kept:
            path.with_suffix(".away").replace(path)
        return found


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A results folder that was collected once, whose files count as old."""
    monkeypatch.setattr(kept_rows, "COARSEST_NS", -(10**12))
    made = Folder(tmp_path)
    made.collect()
    read = collecting._values

    def counted(*args: Any) -> dict[str, Any]:
        made.n_read += 1
        return read(*args)

    monkeypatch.setattr(collecting, "_values", counted)
    return made


def test_unchanged_runs_are_not_read_again(folder: Folder) -> None:
    assert folder.collect() == folder.collect_all()
    folder.n_read = 0
    folder.collect()
    assert folder.n_read == 0


def test_a_changed_run_is_read_again_and_no_other(folder: Folder) -> None:
    change(folder.results / folder.specs[1].path / "training.json", top1=12.5)
    text = folder.collect()
    assert folder.n_read == 1
    assert ",12.5," in text
    assert text == folder.collect_all()


def test_a_new_run_is_read_and_no_other(folder: Folder) -> None:
    new = run_spec("resnet20", "random", "default", 0.5, 0)
    write_run(folder.results, new)
    specs = [new, *folder.specs]
    text = folder.collect(specs)
    assert folder.n_read == 1
    assert text == folder.collect_all(specs)


def test_another_base_network_changes_all_of_its_runs(folder: Folder) -> None:
    change(folder.results / folder.specs[0].base.path / "training.json", top1=50.0)
    text = folder.collect()
    assert folder.n_read == 2
    assert text == folder.collect_all()


def flip_a_bit(path: Path) -> None:
    """Flip a bit in place, and set the old time of modification."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def replace_by_another(path: Path) -> None:
    """Put another run's file of the same size in its place."""
    other = path.with_name("other")
    other.write_bytes(bytes(reversed(path.read_bytes())))
    shutil.copystat(path, other)
    other.replace(path)


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, replace_by_another, Path.unlink])
@pytest.mark.parametrize("name", READ)
def test_a_damaged_file_is_found(folder: Folder, name: str, damage: Callable[[Path], None]) -> None:
    damage(folder.results / folder.specs[2].path / name)
    found = folder.collect()
    assert found == folder.collect_all()
    if (name, damage) != ("latency.json", Path.unlink):  # latencies need not be measured
        assert name in found.splitlines()[0]


def test_a_latency_that_was_measured_later_is_found(folder: Folder) -> None:
    path = folder.results / folder.specs[0].path / "latency.json"
    path.rename(path.with_name("away"))
    assert folder.collect() == folder.collect_all()
    path.with_name("away").rename(path)
    folder.n_read = 0
    assert folder.collect() == folder.collect_all()
    assert folder.n_read == 1 + 3


def test_a_run_of_another_specification_is_stale(folder: Folder) -> None:
    other = folder.specs[0].model_copy(update={"options": {"rounds": 2}})
    assert other.path == folder.specs[0].path
    found = folder.collect([other])
    assert "stale result of the specification" in found


def test_names_and_the_mark_of_other_code_are_those_of_today(folder: Folder) -> None:
    names = {role: "renamed" for role in folder.specs[0].recipes}
    specs = [spec.model_copy(update={"recipe_names": names}) for spec in folder.specs]
    config = ExperimentConfig.model_construct(epochs_scale=0.5, published=None)
    options = {"config": config, "code_now": lambda *_: "c2"}
    text = folder.collect(specs, **options)
    assert folder.n_read == 0
    assert text == folder.collect_all(specs, **options)
    assert "renamed" in text
    assert ",other," in text


def test_other_code_collects_everything_again(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prunebench.__version__", "99")
    folder.collect()
    assert folder.n_read == 3


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, replace_by_another, Path.unlink])
def test_what_was_kept_may_be_damaged_itself(
    folder: Folder, damage: Callable[[Path], None]
) -> None:
    before = folder.collect()
    damage(folder.kept)
    assert folder.collect() == before
    assert folder.n_read > 0
    folder.n_read = 0
    assert folder.collect() == before
    assert folder.n_read == 0  # and is whole again


def test_a_file_that_has_just_been_written_may_change_within_its_time(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_rows, "COARSEST_NS", 2 * 10**9)
    change(folder.results / folder.specs[0].path / "training.json", top1=12.5)
    folder.collect()
    folder.n_read = 0
    folder.collect()
    assert folder.n_read == 1


@pytest.mark.parametrize("seed", range(3))
def test_any_sequence_of_changes_ends_with_the_rows_of_a_full_collect(
    folder: Folder, seed: int
) -> None:
    chance = random.Random(seed)

    def measure_again(path: Path) -> None:
        write_run(folder.results, next(s for s in folder.specs if s.path in str(path)))

    for _ in range(12):
        spec = chance.choice(folder.specs)
        path = folder.results / spec.path / chance.choice(READ)
        act = chance.choice([flip_a_bit, truncate, replace_by_another, measure_again])
        if path.exists() and path.stat().st_size:
            act(path)
        if chance.random() < 0.5:
            keep_rows(folder.results, folder.specs, folder.part)
        specs = chance.sample(folder.specs, chance.randint(1, 3))
        assert folder.collect(specs) == folder.collect_all(specs)


def test_runs_whose_rows_a_part_has_kept_are_not_read(folder: Folder) -> None:
    text = folder.collect()
    folder.kept.unlink()
    keep_rows(folder.results, folder.specs[:2], folder.part)
    folder.n_read = 0
    assert folder.collect() == text
    assert folder.n_read == 1
    folder.part.unlink()
    folder.collect()
    assert folder.n_read == 1


def test_a_part_leaves_out_runs_that_are_not_measured_or_damaged(folder: Folder) -> None:
    folder.kept.unlink()
    (folder.results / folder.specs[0].path / "latency.json").unlink()
    truncate(folder.results / folder.specs[1].path / "history.csv")
    keep_rows(folder.results, folder.specs, folder.part)
    assert folder.part.read_text(encoding="utf-8").count("\n") == 2  # the head, and one run
    assert "history.csv: SHA-256" in folder.collect()


def test_a_copied_results_folder_is_read_again(folder: Folder, tmp_path: Path) -> None:
    copy = shutil.copytree(tmp_path, tmp_path / "copy", ignore=shutil.ignore_patterns("copy"))
    text = folder.collect()
    assert folder.n_read == 0
    folder.results = copy
    assert folder.collect() == text
    assert folder.n_read == 3


def test_files_of_a_base_network_are_read_once(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.kept.unlink()
    read: list[Path] = []
    original = TrainingResult.read.__func__  # type: ignore[attr-defined]

    def counted(cls: type, path: Path, spec_hash: str | None = None) -> TrainingResult:
        read.append(path)
        return original(cls, path, spec_hash)

    monkeypatch.setattr(TrainingResult, "read", classmethod(counted))
    folder.collect()
    assert len(read) == 3 + 2
