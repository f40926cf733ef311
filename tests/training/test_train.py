from __future__ import annotations

import csv
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from prunebench.core.errors import ConfigError, ModelError, ResultError, TrainingError
from prunebench.core.files import file_hash, read_json
from prunebench.criteria.gradients import Fisher
from prunebench.data.augment import normalize
from prunebench.data.dataset import Dataset, load
from prunebench.data.normalization import IMAGENET
from prunebench.experiments.machine import Machine
from prunebench.experiments.phases import Budget, Phase, training
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.results import TRAINED_FILES, TrainingResult, read_history
from prunebench.experiments.spec import BaseSpec, RunSpec, data_path
from prunebench.measure.accuracy import evaluate
from prunebench.measure.stored_runs import measure_cost
from prunebench.methods.base import Method, MethodOptions, Run
from prunebench.methods.registry import METHODS, method_class
from prunebench.network import load_masks, load_network, read_structure
from prunebench.training.classification import count_split
from prunebench.training.processes import Alone, Network
from prunebench.training.progress import PlainProgress
from prunebench.training.shared import Shared
from prunebench.training.train import train_base, train_run
from prunebench.training.verify_run import verify_run
from tests.stored_files import change
from tests.training.conftest import ARCHITECTURE, recipe

HERE = Machine(device="cpu", checkpoint_seconds=3600.0)


def base_spec(seed: int = 0) -> BaseSpec:
    return BaseSpec(
        dataset="synthetic",
        architecture=ARCHITECTURE,
        recipe_name="short",
        recipe=recipe(),
        seed=seed,
        threads=1,
    )


def run_spec(method: str = "l1", **more: Any) -> RunSpec:
    found = method_class(method)
    options = found.Options(**more.pop("options", {}))
    settings: dict[str, Any] = {
        "experiment": "e",
        "dataset": "synthetic",
        "architecture": ARCHITECTURE,
        "method": method,
        "setting": "default",
        "ratio": 0.5,
        "ratio_kind": "units_per_group",
        "seed": 0,
        "threads": 1,
        "revision": found.revision,
        "start": found.start,
        "options": options.model_dump(mode="json"),
        "recipes": {role: recipe() for role in found.recipe_roles},
        "recipe_names": dict.fromkeys(found.recipe_roles, "short"),
        "base": base_spec(),
    }
    return RunSpec(**(settings | more))


@pytest.fixture(scope="module")
def trained(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a base network, never changed."""
    results = tmp_path_factory.mktemp("results")
    data_path(results, "synthetic").parent.mkdir()
    shutil.copy(data_file, data_path(results, "synthetic"))
    train_base(base_spec(), results, progress=PlainProgress(), machine=HERE)
    return results


@pytest.fixture
def results(trained: Path, tmp_path: Path) -> Path:
    """A results folder with a base network of one's own."""
    return Path(shutil.copytree(trained, tmp_path / "results"))


def train(spec: RunSpec, results: Path, machine: Machine = HERE) -> TrainingResult:
    return train_run(spec, results, progress=PlainProgress(), machine=machine)


def test_a_run_writes_all_its_files(results: Path) -> None:
    spec = run_spec()
    train(spec, results)
    assert {path.name for path in (results / spec.path).iterdir()} == {
        "diagnostics.csv",
        "finished.json",
        "history.csv",
        "masks.safetensors",
        "model.safetensors",
        "structure.json",
        "training.json",
    }


def published_run(results: Path) -> tuple[RunSpec, TrainingResult]:
    """Run l1 from a base network with a normalization of its own, trained on all images."""
    own = {"normalize": "imagenet", "trained_on": "train_and_val"}
    base = base_spec().model_copy(update={"recipe": recipe(**own)})
    train_base(base, results, progress=PlainProgress(), machine=HERE)
    spec = run_spec(base=base, recipes={"fine_tune": recipe(**own)})
    return spec, train(spec, results)


def test_a_base_network_trained_on_all_images_leaves_no_validation_split(results: Path) -> None:
    spec, result = published_run(results)
    assert (result.val_accuracy, result.accuracy_best_val) == (None, None)
    assert [plan.val_accuracy_before for plan in result.plans] == [None]
    history = read_history(results / spec.path)
    # 600 images in batches of 64: ten steps an epoch, eight without the validation split
    assert [row.step for row in history] == [0, 10, 20]
    assert {row.val_accuracy for row in history} == {None}


def test_a_run_is_normalized_as_its_base_network(results: Path) -> None:
    spec, result = published_run(results)
    stored = read_structure(results / spec.path).normalization
    assert stored is not None
    assert stored.mean == IMAGENET.mean
    data = load(data_path(results, "synthetic"))
    model = load_network(results / spec.path)
    assert count_split(model, data.test, IMAGENET).percent == result.accuracy


def test_a_run_without_training_has_two_accuracies(results: Path) -> None:
    options = {"recalibrate": 300, "fine_tune": False}
    spec = run_spec(options=options, recipes={}, recipe_names={})
    result = train(spec, results)
    removed, recalibrated = read_history(results / spec.path)
    assert (removed.event, recalibrated.event) == ("pruned", "recalibrated")
    assert result.plans[0].test_accuracy_after == removed.test_accuracy
    assert result.accuracy == recalibrated.test_accuracy != removed.test_accuracy
    assert (result.epochs, result.accuracy_masked) == (0, None)
    assert "top-1" in verify_run(results / spec.path)


def test_runs_of_one_process_share_scores_and_have_the_same_results(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {"samples": 100, "recalibrate": 100, "fine_tune": False}
    specs = [
        run_spec("fisher", options=few, recipes={}, recipe_names={}, ratio=ratio, ratio_kind=kind)
        for ratio, kind in ((0.25, "units_per_group"), (0.5, "units_global"))
    ]
    elsewhere = Path(shutil.copytree(results, tmp_path / "elsewhere"))
    alone = [train(spec, elsewhere) for spec in specs]
    scored = []
    kind, scores = Fisher, Fisher.scores
    monkeypatch.setattr(kind, "scores", lambda *args: scored.append(args) or scores(*args))
    shared = Shared()
    together = [
        train_run(spec, results, progress=PlainProgress(), machine=HERE, shared=shared)
        for spec in specs
    ]
    assert len(scored) == len(shared.computed) == len(shared.datasets) == 1
    assert [one.weights_sha256 for one in together] == [one.weights_sha256 for one in alone]
    # the time of the shared scores belongs to every selection
    (computed,) = shared.computed.values()
    assert all(one.selection_seconds >= computed.seconds for one in together)
    other = run_spec("fisher", options=few | {"samples": 50}, recipes={}, recipe_names={})
    train_run(other, results, progress=PlainProgress(), machine=HERE, shared=shared)
    assert len(scored) == 2


def test_a_ratio_that_is_not_reached_is_printed_and_stored(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # of 4, 8 and 16 filters, int(0.6), int(1.2) and int(2.4) are zeroed
    spec = run_spec("sfp", ratio=0.15)
    reached = train(spec, results).summary["ratio_reached"]
    assert 0 < reached < 0.9 * 0.15
    line = f"ratio      {reached:.4g} reached, 0.15 of units_per_group asked for · {results}"
    assert line in capsys.readouterr().out
    assert "ratio_reached" not in train(run_spec(), results).summary


def test_rounded_widths_are_stored_instead_of_a_missed_ratio(results: Path) -> None:
    spec = run_spec("l1", ratio=0.5, options={"round_to": 4})
    assert train(spec, results).summary == {"round_to": 4}


def spoil(folder: Path, value: float) -> None:
    """Put a value that is not finite into the stored weights, and record their new hash."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["bn1.running_var"][0] = value
    save_file(tensors, path)
    recorded = read_json(folder / "training.json")["files"] | {path.name: file_hash(path)}
    change(folder / "training.json", weights_sha256=recorded[path.name], files=recorded)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_base_network_that_is_not_finite_is_refused(results: Path, value: float) -> None:
    spec = run_spec()
    spoil(results / spec.base.path, value)
    sentence = r"base/.*seed0/model.safetensors: 'bn1.running_var' holds a value that is not finite"
    with pytest.raises(ResultError, match=sentence):
        train(spec, results)
    with pytest.raises(ResultError, match=sentence):  # as finished already
        train_base(base_spec(), results, progress=PlainProgress(), machine=HERE)


def test_a_finished_run_that_is_not_finite_is_neither_kept_nor_measured(results: Path) -> None:
    spec = run_spec()
    train(spec, results)
    measure_cost(results / spec.path, results / spec.base.path, spec.hash)
    spoil(results / spec.path, math.nan)
    sentence = rf"{spec.path}/model.safetensors: 'bn1.running_var' holds a value"
    with pytest.raises(ResultError, match=sentence):
        train(spec, results)
    with pytest.raises(ResultError, match=sentence):
        measure_cost(results / spec.path, results / spec.base.path, spec.hash)


class Spoils(Method[MethodOptions]):
    """Its loss stays finite, since batch norm trains by the statistics of the batch."""

    summary = "spoils a running variance"

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        return [training("train", recipes["fine_tune"], hooks=frozenset({"after_epoch"}))]

    def after_epoch(self, run: Run) -> None:
        run.model.get_buffer("bn1.running_var")[0] = math.nan


def test_a_network_that_is_not_finite_is_not_evaluated(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(METHODS, "spoils", f"{__name__}:Spoils")
    spec = run_spec("spoils")
    with pytest.raises(ModelError, match=rf"{spec.path}: .*'bn1.running_var' holds a value"):
        train(spec, results)
    assert not (results / spec.path / "training.json").exists()


def test_the_stored_network_has_the_stored_accuracy(results: Path, dataset: Dataset) -> None:
    spec = run_spec()
    training = train(spec, results)
    info, test = dataset.info, dataset.test
    model = load_network(results / spec.path)
    found = evaluate(model, test.images, test.labels, mean=info.mean, std=info.std)
    assert found.percent == training.accuracy
    assert model.classes == info.classes
    pixels = test.images[:4]
    torch.testing.assert_close(model.preprocess(pixels), normalize(pixels, info.mean, info.std))
    # streams of 4 + 4 + 8 stay; half of 3 x 4, 3 x 8, 3 x 16 inside of blocks leave
    assert sum(read_structure(results / spec.path).widths.values()) == 16 + 6 + 12 + 24


def test_the_result_says_what_it_is_made_of(results: Path) -> None:
    spec = run_spec()
    training = train(spec, results)
    base = TrainingResult.read(results / spec.base.path)
    assert training.spec_hash == spec.hash
    assert training.base_hash == base.weights_sha256
    assert training.epochs == 2.0
    assert (training.masked_removed_difference or 0.0) < 1e-12
    assert training.seconds.keys() == {"select", "fine_tune"}
    assert training.versions["torch"] == torch.__version__.partition("+")[0]
    assert RunSpec.model_validate(training.spec) == spec
    assert training.options == method_class("l1").Options().model_dump(mode="json")
    assert training.date is not None
    assert abs(datetime.now(UTC).date() - date.fromisoformat(training.date)) <= timedelta(days=1)


def test_best_epochs_come_from_the_rows_that_may_be_reported(results: Path) -> None:
    spec = run_spec()
    training = train(spec, results)
    with (results / spec.path / "history.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["reportable"] == "True"]
    assert training.accuracy_best_test == max(float(row["test_top1"]) for row in rows)
    assert training.accuracy == float(rows[-1]["test_top1"])


def test_a_finished_run_is_not_trained_again(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = run_spec()
    first = train(spec, results)
    assert train(spec, results) == first
    assert "finished already" in capsys.readouterr().out


@pytest.mark.parametrize("key", ["base_hash", "spec_hash"])
def test_a_result_that_does_not_belong_here_is_made_anew(
    key: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = run_spec()
    first = train(spec, results)
    change(results / spec.path / "training.json", **{key: "0"})
    capsys.readouterr()
    second = train(spec, results)
    assert "finished already" not in capsys.readouterr().out
    assert second.weights_sha256 == first.weights_sha256


def cut(path: Path) -> None:
    """Keep the first half of a file, as a full disk or a killed copy leaves it."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    """Flip a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [cut, flip, Path.unlink])
@pytest.mark.parametrize("name", [*TRAINED_FILES, "training.json"])
def test_a_damaged_file_is_found_and_the_run_made_anew(
    name: str, spoil: Callable[[Path], None], results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = run_spec(options={"fine_tune": False}, recipes={}, recipe_names={})
    first = train(spec, results)
    path = results / spec.path / name
    spoil(path)
    if name != "training.json":
        with pytest.raises(ResultError, match=name):
            verify_run(results / spec.path)
    capsys.readouterr()
    second = train(spec, results)
    out = capsys.readouterr().out
    assert "finished already" not in out
    assert name in out or spoil is Path.unlink
    assert second.files is not None
    assert first.files is not None
    same = set(TRAINED_FILES) - {"history.csv"}  # it holds times
    assert {n: second.files[n] for n in same} == {n: first.files[n] for n in same}
    verify_run(results / spec.path)


def test_a_finished_run_only_gets_its_receipt_again(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = run_spec()
    first = train(spec, results)
    folder = results / spec.path
    receipt = read_json(folder / "finished.json")
    assert receipt == {"spec_hash": spec.hash, "weights_sha256": first.weights_sha256}
    (folder / "finished.json").unlink()  # as Snakemake does before it starts a job again
    before = (folder / "training.json").stat().st_mtime_ns
    capsys.readouterr()
    train(spec, results)
    assert "finished already" in capsys.readouterr().out
    assert read_json(folder / "finished.json") == receipt
    assert (folder / "training.json").stat().st_mtime_ns == before


def test_results_that_cannot_be_written_keep_the_checkpoint(results: Path) -> None:
    spec = run_spec(experiment="refused")
    expected = train(run_spec(), results)
    in_the_way = results / spec.path / "history.csv"
    in_the_way.mkdir(parents=True)
    machine = HERE.model_copy(update={"checkpoint_seconds": 0.0})
    then = "move it away; the same command then goes on from the last checkpoint"
    with pytest.raises(ResultError, match=rf"history.csv: cannot be written \(Is a dir.*: {then}"):
        train(spec, results, machine)
    in_the_way.rmdir()
    found = train(spec, results, machine)
    assert found.resumed_at
    assert found.weights_sha256 == expected.weights_sha256
    assert not (results / spec.path / "resume.pt").exists()


def test_a_missing_base_is_named(results: Path) -> None:
    spec = run_spec(base=base_spec(seed=5))
    with pytest.raises(ResultError, match=r"seed5/training\.json: no such file"):
        train(spec, results)


def test_a_base_of_another_specification_is_named(results: Path) -> None:
    other = base_spec().model_copy(update={"recipe": recipe(lr=0.02)})
    with pytest.raises(ResultError, match=r"stale result .*, expected .*; train it again"):
        train(run_spec(base=other), results)


def test_a_fresh_run_begins_with_its_bases_first_weights(results: Path) -> None:
    scratch = run_spec("srfp", ratio=0.0, options={"scope": "group"})
    base = load_network(results / scratch.base.path).state_dict()
    train(scratch, results)
    own = load_network(results / scratch.path).state_dict()
    assert all(torch.equal(base[name], tensor) for name, tensor in own.items())


def test_a_control_takes_over_the_widths_of_a_run(results: Path) -> None:
    source = run_spec()
    train(source, results)
    control = run_spec("scratch_e", widths_from=source.path)
    training = train(control, results)
    assert (
        read_structure(results / control.path).groups
        == read_structure(results / source.path).groups
    )
    assert training.base_hash is None
    assert training.accuracy_masked is None


def test_zeros_that_stay_are_stored_as_masks(results: Path) -> None:
    spec = run_spec("sfp", options={"scope": "layer"})
    training = train(spec, results)
    masks = load_masks(results / spec.path)
    assert not read_structure(results / spec.path).is_smaller
    assert masks["conv1.weight"].flatten(1).all(dim=1).sum() == 2  # of 4 filters
    assert training.accuracy_masked == training.accuracy


def given_weights(results: Path, **more: Any) -> BaseSpec:
    """The specification of a base network whose weights are the trained one's."""
    source = results / base_spec().path / "model.safetensors"
    shutil.copy(source, results / "given.safetensors")
    settings = recipe(weights="given.safetensors", **more)
    return base_spec().model_copy(update={"recipe_name": "given", "recipe": settings})


def test_a_base_may_be_given_and_is_evaluated_first(results: Path) -> None:
    trained = TrainingResult.read(results / base_spec().path)
    spec = given_weights(results, expected_top1=trained.accuracy)
    machine = HERE.model_copy(update={"data_dir": results})
    found = train_base(spec, results, progress=PlainProgress(), machine=machine)
    assert found.pretrained is not None
    assert found.pretrained["weights"] == "given.safetensors"
    assert found.accuracy == trained.accuracy
    assert found.epochs == 0
    assert train(run_spec(base=spec), results).base_hash == found.weights_sha256


def test_casts_of_given_weights_are_logged_and_recorded(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = given_weights(results)
    tensors = load_file(results / "given.safetensors")
    halves = {name: t.half() if name == "fc.weight" else t for name, t in tensors.items()}
    save_file(halves, results / "given.safetensors")
    machine = HERE.model_copy(update={"data_dir": results})
    found = train_base(spec, results, progress=PlainProgress(), machine=machine)
    assert found.pretrained is not None
    assert found.pretrained["casts"] == {"float16 to float32": "1"}
    words = "1 tensors of given.safetensors are cast from float16 to float32"
    assert f"weights    {words} · {spec.path}" in capsys.readouterr().out


def test_a_given_base_far_from_its_expected_accuracy_stops(results: Path) -> None:
    spec = given_weights(results, expected_top1=1.0)
    machine = HERE.model_copy(update={"data_dir": results})
    with pytest.raises(TrainingError, match=r"given/seed0 has .* and its recipe expects 1 ± 1 %"):
        train_base(spec, results, progress=PlainProgress(), machine=machine)
    assert not (results / spec.path / "training.json").exists()
    unchecked = machine.model_copy(update={"check_base": False})
    train_base(spec, results, progress=PlainProgress(), machine=unchecked)
    with pytest.raises(TrainingError, match="continue with check_base: false"):
        train(run_spec(base=spec), results)
    assert train(run_spec(base=spec), results, unchecked).accuracy > 0


def test_a_base_that_computes_something_else_than_when_it_was_stored_stops(results: Path) -> None:
    path = results / base_spec().path / "training.json"
    stored = read_json(path)
    # With the same data and weights, the stored accuracy is taken as it is.
    change(path, top1=stored["top1"] + 5, data_sha256="other")
    with pytest.raises(TrainingError, match="when it was stored; train it again"):
        train(run_spec(), results)


def test_a_base_with_other_weights_than_it_was_stored_with_stops(results: Path) -> None:
    path = results / base_spec().path / "model.safetensors"
    tensors = load_file(path)
    tensors["fc.bias"] += 1
    save_file(tensors, path)
    with pytest.raises(ResultError, match=r"model.safetensors: SHA-256 is \w+, expected \w+ as in"):
        train(run_spec(), results)


@pytest.fixture
def without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "avx2": True})


BF16 = recipe(precision="bf16", epochs=1)


@pytest.mark.usefixtures("without_bf16")
def test_a_processor_without_bf16_stops_before_training_and_names_the_fp32_recipe(
    results: Path,
) -> None:
    spec = run_spec(recipes={"fine_tune": BF16}, recipe_names={"fine_tune": "brief_bf16"})
    with pytest.raises(ConfigError) as error:
        train(spec, results)
    assert re.fullmatch(
        r"recipe 'brief_bf16': precision: 'bf16' needs bf16 instructions, and this processor "
        r"\(.+\) has none; use 'brief' with precision: fp32",
        str(error.value),
    )
    with pytest.raises(ConfigError, match="recipe 'slim': precision: 'bf16'"):
        train_base(
            base_spec().model_copy(update={"recipe": BF16, "recipe_name": "slim"}),
            results,
            progress=PlainProgress(),
            machine=HERE,
        )


@pytest.mark.usefixtures("without_bf16")
def test_a_processor_without_bf16_takes_weights_that_were_trained_in_it(results: Path) -> None:
    spec = given_weights(results)
    recipe_in_bf16 = spec.recipe.model_copy(update={"precision": "bf16"})
    machine = HERE.model_copy(update={"data_dir": results})
    changed = spec.model_copy(update={"recipe": recipe_in_bf16})
    assert train_base(changed, results, progress=PlainProgress(), machine=machine).accuracy > 0


@pytest.mark.parametrize("instructions", ["avx512_bf16", "amx_bf16", "bf16"])
def test_a_processor_with_bf16_trains_in_it(
    instructions: str, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {instructions: True})
    spec = run_spec(recipes={"fine_tune": BF16}, recipe_names={"fine_tune": "brief_bf16"})
    assert train(spec, results).epochs == 1


class Short:
    """A network that has memory for batches of so many images only."""

    def __init__(self, network: Network, most: int) -> None:
        self.network, self.most = network, most

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")
        return self.network.forward(x)


@pytest.fixture
def memory_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """A function that limits how many images fit into memory at once."""

    def limit(most: int) -> None:
        def network(self: Alone, *arguments: Any) -> Network:
            return Network(Short(Network(arguments[1]), most).forward)

        monkeypatch.setattr(Alone, "network", network)

    return limit


def test_a_batch_that_does_not_fit_is_named(
    results: Path, memory_for: Callable[[int], None]
) -> None:
    memory_for(40)
    with pytest.raises(
        TrainingError,
        match=r"phase 'fine_tune': a step of 64 images of 8x8 in 1 parts does not fit into cpu; "
        r"use more accumulation or a smaller batch \(CUDA out of memory.\)",
    ):
        train(run_spec(), results)


def test_a_run_short_of_memory_is_tried_once_in_two_parts(
    results: Path, memory_for: Callable[[int], None]
) -> None:
    halves = {"fine_tune": recipe(accumulation=2)}
    expected = train(run_spec(recipes=halves), results)
    shutil.rmtree(results / run_spec().path)
    memory_for(40)
    retrying = HERE.model_copy(update={"auto_accumulate": True})
    found = train(run_spec(), results, retrying)
    assert (expected.more_parts, found.more_parts) == (1, 2)
    assert found.weights_sha256 == expected.weights_sha256
    shutil.rmtree(results / run_spec().path)
    memory_for(20)
    with pytest.raises(TrainingError, match="does not fit"):
        train(run_spec(), results, retrying)


def test_a_deterministic_run_says_so_and_has_the_same_bits_here(results: Path) -> None:
    plain = train(run_spec(), results)
    shutil.rmtree(results / run_spec().path)
    found = train(run_spec(), results, HERE.model_copy(update={"deterministic": True}))
    assert (plain.deterministic, found.deterministic) == (False, True)
    assert found.weights_sha256 == plain.weights_sha256


@pytest.mark.slow
def test_a_compiled_network_trains_to_about_the_same(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = train(run_spec(), results)
    # This backend traces forward and backward but needs no compiler of C++.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    os.environ.pop("TORCHINDUCTOR_CACHE_DIR", None)  # PyTorch sets it where it has compiled before
    found = train(run_spec(recipes={"fine_tune": recipe(compile=True)}), results)
    assert found.accuracy == pytest.approx(plain.accuracy, abs=2)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(results.resolve() / ".compiled")
