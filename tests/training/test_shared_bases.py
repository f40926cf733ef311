"""Base networks that one results folder shares and others take instead of training them."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import Any, NoReturn

import pytest
from safetensors.torch import load_file, save_file

from prunebench.core.errors import ConfigError, ResultError
from prunebench.core.files import file_hash
from prunebench.experiments import shared_bases
from prunebench.experiments.machine import Machine
from prunebench.experiments.results import TRAINED_FILES, TrainingResult
from prunebench.experiments.shared_bases import share_base, shared_base, take_base
from prunebench.experiments.spec import BaseSpec, data_path
from prunebench.experiments.stored_spec import stored_spec
from prunebench.training.loop import Loop
from prunebench.training.progress import PlainProgress
from prunebench.training.train import train_base, train_run
from prunebench.training.verify_run import verify_run
from tests.stored_files import change
from tests.training.conftest import recipe
from tests.training.test_train import base_spec, run_spec

SPEC = base_spec()
FILES = (*TRAINED_FILES, TrainingResult.FILE)


@pytest.fixture(scope="module")
def others(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results folder of somebody who has trained the base network; never changed."""
    results = tmp_path_factory.mktemp("others")
    data_path(results, "synthetic").parent.mkdir()
    shutil.copy(data_file, data_path(results, "synthetic"))
    train_base(SPEC, results, progress=PlainProgress(), machine=Machine(device="cpu"))
    return results


@pytest.fixture
def shared(others: Path, tmp_path: Path) -> Path:
    """A folder with that network."""
    share_base(others / SPEC.path, tmp_path / "shared")
    return tmp_path / "shared"


@pytest.fixture
def results(data_file: Path, tmp_path: Path) -> Path:
    """A results folder with data alone."""
    folder = tmp_path / "results"
    data_path(folder, "synthetic").parent.mkdir(parents=True)
    shutil.copy(data_file, data_path(folder, "synthetic"))
    return folder


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def train(loop: Loop) -> NoReturn:
        pytest.fail("trains")

    monkeypatch.setattr(Loop, "train", train)


def make_base(results: Path, shared: Path, spec: BaseSpec = SPEC) -> TrainingResult:
    machine = Machine(device="cpu", shared_bases=shared)
    return train_base(spec, results, progress=PlainProgress(), machine=machine)


def content(folder: Path) -> dict[str, tuple[str, int]]:
    """Return hash and time of each file in a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (file_hash(path), path.stat().st_mtime_ns) for path in files}


@pytest.mark.usefixtures("no_training")
def test_a_shared_base_network_is_copied_without_a_training_step(
    others: Path, shared: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(shared)
    make_base(results, shared)
    own, other = results / SPEC.path, others / SPEC.path
    assert {path.name for path in own.iterdir()} == {*FILES, "finished.json"}
    assert all((own / name).read_bytes() == (other / name).read_bytes() for name in FILES)
    assert content(shared) == before
    assert capsys.readouterr().out == f"{own}: base network taken from {shared / SPEC.hash}\n"
    assert verify_run(own).startswith(SPEC.path)
    make_base(results, shared)
    assert capsys.readouterr().out == f"{own}: finished already\n"


def test_a_run_starts_from_a_taken_base_network(others: Path, shared: Path, results: Path) -> None:
    make_base(results, shared)
    machine, spec = Machine(device="cpu"), run_spec()
    mine, theirs = (
        train_run(spec, folder, progress=PlainProgress(), machine=machine)
        for folder in (results, Path(shutil.copytree(others, results.parent / "copy")))
    )
    assert mine.weights_sha256 == theirs.weights_sha256
    assert mine.base_hash == theirs.base_hash


@pytest.mark.usefixtures("no_training")
def test_a_taken_base_network_replaces_an_unfinished_one(shared: Path, results: Path) -> None:
    own = results / SPEC.path
    own.mkdir(parents=True)
    (own / "resume.pt").write_bytes(b"checkpoint")
    (own / TRAINED_FILES[0]).write_bytes(b"old")
    make_base(results, shared)
    assert not (own / "resume.pt").exists()
    assert verify_run(own)


@pytest.mark.usefixtures("no_training")
def test_an_equal_recipe_of_another_name_is_the_same_specification(
    shared: Path, results: Path
) -> None:
    spec = SPEC.model_copy(update={"recipe_name": "own_name"})
    make_base(results, shared, spec)
    assert stored_spec(results / spec.path) == (spec, results.resolve())
    assert verify_run(results / spec.path).startswith("base/synthetic/resnet20_x0_25/own_name")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_found(shared: Path, results: Path, name: str) -> None:
    path = shared / SPEC.hash / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ResultError, match=str(path)):
        shared_base(shared, SPEC, data_path(results, "synthetic"))


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(shared: Path, results: Path, name: str) -> None:
    (shared / SPEC.hash / name).unlink()
    with pytest.raises(ResultError, match=f"{shared / SPEC.hash / name}: no such file"):
        shared_base(shared, SPEC, data_path(results, "synthetic"))


def test_a_damaged_base_network_is_said_and_trained_here(
    shared: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = shared / SPEC.hash / "model.safetensors"
    weights = bytearray(path.read_bytes())
    weights[-1] ^= 1
    path.write_bytes(weights)
    result = make_base(results, shared)
    line, *more = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{path}: SHA-256 is ")
    assert line.endswith(
        f"expected {result.weights_sha256} as in training.json; the file is damaged; "
        "not taken from the shared base networks, but trained here"
    )
    assert any("epoch   2" in line for line in more)
    assert verify_run(results / SPEC.path)


def test_other_data_are_refused(shared: Path, results: Path) -> None:
    entry, data = shared / SPEC.hash, data_path(results, "synthetic")
    change(entry / TrainingResult.FILE, data_sha256="0123456789abcdef")
    words = f"{entry}: trained with the data 0123456789ab, and {data} has [0-9a-f]{{12}}$"
    with pytest.raises(ResultError, match=words):
        shared_base(shared, SPEC, data)


def test_a_network_under_the_hash_of_another_specification_is_refused(
    shared: Path, results: Path
) -> None:
    other = base_spec(seed=1)
    (shared / SPEC.hash).rename(shared / other.hash)
    with pytest.raises(ResultError, match=f"of the specification {SPEC.hash}, expected "):
        shared_base(shared, other, data_path(results, "synthetic"))
    change(shared / other.hash / TrainingResult.FILE, spec_hash=other.hash)
    with pytest.raises(ResultError, match=f"spec_hash is {other.hash}, expected {SPEC.hash}"):
        shared_base(shared, other, data_path(results, "synthetic"))


def test_other_specifications_are_not_there(shared: Path, results: Path) -> None:
    longer = SPEC.model_copy(update={"recipe": recipe(epochs=3)})
    assert shared_base(shared, longer, data_path(results, "synthetic")) is None


def test_a_folder_that_does_not_exist_is_an_error(results: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"shared_bases: {tmp_path}/typo: no such folder"):
        make_base(results, tmp_path / "typo")


def test_a_network_that_changes_while_it_is_copied_is_trained_here(
    shared: Path,
    results: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def taken(entry: Path, spec: BaseSpec, folder: Path) -> None:
        take_base(entry, spec, folder)
        (folder / "history.csv").write_text("half")

    monkeypatch.setattr("prunebench.training.train.take_base", taken)
    make_base(results, shared)
    assert f"{results / SPEC.path}: training again" in capsys.readouterr().out
    assert verify_run(results / SPEC.path)


def test_sharing_again_changes_nothing(others: Path, shared: Path) -> None:
    before = content(shared)
    line = share_base(others / SPEC.path, shared)
    assert line == f"{SPEC.path} · shared already as {shared / SPEC.hash}"
    assert content(shared) == before


def test_others_can_read_what_is_shared(others: Path, tmp_path: Path) -> None:
    base = tmp_path / "private" / SPEC.path
    shutil.copytree(others / SPEC.path, base)
    for name in FILES:
        (base / name).chmod(0o600)
    before = os.umask(0o022)
    try:
        share_base(base, tmp_path / "shared")
    finally:
        os.umask(before)
    entry = tmp_path / "shared" / SPEC.hash
    assert stat.S_IMODE(entry.stat().st_mode) == 0o755
    assert {stat.S_IMODE((entry / name).stat().st_mode) for name in FILES} == {0o644}


@pytest.fixture
def another(others: Path, tmp_path: Path) -> Path:
    """A base network of the same specification with other weights, as of another machine."""
    base = tmp_path / "another" / SPEC.path
    shutil.copytree(others / SPEC.path, base)
    weights = load_file(base / "model.safetensors")
    save_file({name: tensor * 2 for name, tensor in weights.items()}, base / "model.safetensors")
    files: dict[str, Any] = {name: file_hash(base / name) for name in TRAINED_FILES}
    change(base / TrainingResult.FILE, files=files, weights_sha256=files["model.safetensors"])
    return base


def test_another_network_of_the_specification_is_never_replaced(
    another: Path, shared: Path
) -> None:
    before = content(shared)
    with pytest.raises(ResultError, match="holds another network of this specification"):
        share_base(another, shared)
    assert content(shared) == before


def test_of_two_that_share_at_once_the_first_counts(
    others: Path, another: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, copy = tmp_path / "shared", shared_bases._copy

    def copied_late(folder: Path, to: Path) -> None:
        monkeypatch.undo()
        share_base(others / SPEC.path, shared)
        copy(folder, to)

    monkeypatch.setattr(shared_bases, "_copy", copied_late)
    with pytest.raises(ResultError, match="holds another network of this specification"):
        share_base(another, shared)
    assert [path.name for path in shared.iterdir()] == [SPEC.hash]


def test_a_full_disk_leaves_nothing_behind(
    others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, to: Path) -> NoReturn:
        to.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    entry = tmp_path / "shared" / SPEC.hash
    with pytest.raises(ResultError, match=rf"{entry}: cannot be written \(No space left on"):
        share_base(others / SPEC.path, tmp_path / "shared")
    assert list((tmp_path / "shared").iterdir()) == []


def test_a_damaged_base_network_is_not_shared(others: Path, tmp_path: Path) -> None:
    base = tmp_path / "damaged" / SPEC.path
    shutil.copytree(others / SPEC.path, base)
    (base / "history.csv").write_text("half")
    with pytest.raises(ResultError, match=f"{base / 'history.csv'}: SHA-256 is "):
        share_base(base, tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


def test_a_network_without_recorded_hashes_is_not_shared(others: Path, tmp_path: Path) -> None:
    base = tmp_path / "early" / SPEC.path
    shutil.copytree(others / SPEC.path, base)
    change(base / TrainingResult.FILE, files=None)
    with pytest.raises(ResultError, match="an earlier version trained this network"):
        share_base(base, tmp_path / "shared")


def test_a_run_is_not_shared(shared: Path, results: Path) -> None:
    make_base(results, shared)
    spec = run_spec()
    train_run(spec, results, progress=PlainProgress(), machine=Machine(device="cpu"))
    with pytest.raises(ResultError, match="a run; only base networks can be shared"):
        share_base(results / spec.path, shared)
