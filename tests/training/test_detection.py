"""Detectors through the same loop: methods, resuming, evaluation, storing, on scenes of digits."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prunebench.core.errors import RunStoppedError
from prunebench.data.boxes import BoxedImages
from prunebench.data.dataset import Dataset, load, prepare
from prunebench.data.digits_coco import write
from prunebench.experiments.machine import Machine
from prunebench.experiments.metric import METRICS
from prunebench.experiments.phases import Budget
from prunebench.experiments.recipe import Recipe, Schedule
from prunebench.experiments.results import (
    CostResult,
    DetectionsResult,
    TrainingResult,
    read_history,
)
from prunebench.experiments.spec import BaseSpec, RunSpec, data_path
from prunebench.measure.stored_runs import measure_cost, measure_runs
from prunebench.methods.registry import method_class
from prunebench.models.registry import build
from prunebench.network import load_network
from prunebench.report.collect import collect, collect_to_csv, write_rows
from prunebench.report.collected_detections import read_detections
from prunebench.report.figures.detections import write_detections_figure
from prunebench.report.runs_csv import metric_of, read_runs
from prunebench.training.checkpoint import CheckpointFile, StopRequest
from prunebench.training.detection import Detection
from prunebench.training.loop import Loop
from prunebench.training.processes import ALONE
from prunebench.training.progress import PlainProgress
from prunebench.training.run import RunState
from prunebench.training.train import train_base, train_run
from prunebench.training.verify_run import verify_run
from tests.training.conftest import CPU, EveryThirdStep, Stopping
from tests.training.test_resume import assert_same, outcome, phase_steps

DATASET = "coco_scenes"
RETINANET, FASTER_RCNN = "retinanet_r18_fpn_x0_125", "faster_rcnn_r18_fpn_x0_125"
OPTIONS: dict[str, dict[str, Any]] = {
    "greg_1": {"delta": 0.2, "interval_steps": 1, "stabilize_steps": 2},
    "group_fisher": {"interval_steps": 2, "units_at_once": 60},
    "mask_fisher": {"samples": 8, "batch": 4},
    "srfp": {"pretrained": True, "scope": "group", "norms": "decay"},
    "asrfp": {"pretrained": True, "scope": "group", "norms": "decay"},
}
METHODS = ["random", "l1", "fpgm", "mask_fisher", "greg_1", "srfp", "asrfp", "group_fisher"]


@pytest.fixture(scope="module")
def data_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 training, 4 validation and 6 test images of 128x128."""
    folder = tmp_path_factory.mktemp("data")
    write(folder / "scenes", (12, 4, 6))
    prepare(DATASET, folder, folder / f"{DATASET}.safetensors")
    return folder / f"{DATASET}.safetensors"


@pytest.fixture(scope="module")
def dataset(data_file: Path) -> Dataset:
    return load(data_file)


def recipe(**more: Any) -> Recipe:
    settings: dict[str, Any] = {
        "epochs": 1,
        "batch_size": 4,
        "optimizer": "adamw",
        "lr": 1e-3,
        "weight_decay": 0.01,
        "clip_norm": 10.0,
        "schedule": Schedule(kind="cosine", per="step"),
    }
    return Recipe(**(settings | more))


def fresh(architecture: str) -> nn.Module:
    """The same weights at each call."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build(architecture, num_classes=10)


MakeLoop = Callable[..., Loop]


@pytest.fixture
def make_loop(dataset: Dataset) -> MakeLoop:
    """A function method, architecture -> Loop; with `after` it stops after so many steps."""

    def make(
        name: str,
        architecture: str = RETINANET,
        *,
        after: int | None = None,
        dead: bool = False,
        folder: Path | None = None,
        base: Recipe | None = None,
        **options: Any,
    ) -> Loop:
        method = method_class(name)(method_class(name).Options(**(OPTIONS.get(name, {}) | options)))
        roles = {"regularize": {"epochs": None}, "prune": {"epochs": None}}
        recipes = {role: base or recipe(**roles.get(role, {})) for role in method.needed_roles()}
        phases = tuple(method.phases(recipes, Budget(kind="macs", ratio=0.4)))
        run = RunState(
            seed=0,
            device=CPU,
            dataset=dataset,
            build=lambda: fresh(architecture),
            phases=phases,
            base_recipe=recipe(),
        )
        run.start_from(fresh(architecture))
        stop = StopRequest()
        progress = Stopping(stop, after, dead)
        checkpoint = None
        if folder is not None:
            folder.mkdir(exist_ok=True)
            kind = EveryThirdStep if dead else CheckpointFile
            checkpoint = kind(folder, "spec", 3600.0, progress.say)
        return Loop(run, method, progress=progress, stop=stop, checkpoint=checkpoint)

    return make


@pytest.mark.parametrize("name", METHODS)
def test_every_method_meets_a_target_on_a_detector(name: str, make_loop: MakeLoop) -> None:
    loop = make_loop(name)
    torch.manual_seed(0)
    loop.train()
    run = loop.run
    assert 0.55 * run.base_macs < run.costs.macs() <= 0.6 * run.base_macs
    assert run.records.plans[-1].masked_removed_difference < 1e-9  # type: ignore[operator]
    rows = [row for row in run.records.history if not row.event]
    assert rows
    assert all(row.train_accuracy is None and row.train_loss is not None for row in rows)


@pytest.fixture(scope="module")
def wholes() -> dict[str, Loop]:
    """Runs that nothing has stopped, by method; a test adds the one that it needs."""
    return {}


@pytest.mark.parametrize(
    ("name", "architecture", "dead"),
    [
        ("greg_1", RETINANET, False),
        pytest.param("greg_1", RETINANET, True, marks=pytest.mark.slow),
        ("group_fisher", RETINANET, False),
        pytest.param("group_fisher", RETINANET, True, marks=pytest.mark.slow),
        ("srfp", RETINANET, False),
        ("srfp", RETINANET, True),
        ("l1", FASTER_RCNN, False),  # samples regions by the global generator
        ("l1", FASTER_RCNN, True),
    ],
)
def test_a_run_of_a_detector_taken_up_again_ends_with_the_same_bits(
    name: str,
    architecture: str,
    dead: bool,
    make_loop: MakeLoop,
    wholes: dict[str, Loop],
    tmp_path: Path,
) -> None:
    if name not in wholes:
        torch.manual_seed(0)
        wholes[name] = make_loop(name, architecture)
        wholes[name].train()
    whole, before = wholes[name], 0
    for number, steps in enumerate(phase_steps(whole)):
        here = {"folder": tmp_path / str(number), "dead": dead}
        torch.manual_seed(0)
        first = make_loop(name, architecture, after=before + max(steps // 2, 2 + dead), **here)
        with pytest.raises(SystemError if dead else RunStoppedError):
            first.train()
        torch.manual_seed(1)  # the checkpoint has the generator's state
        second = make_loop(name, architecture, **here)
        second.train()
        assert_same(outcome(second), outcome(whole))
        before += steps


def test_frozen_parameters_stay_as_they_are(make_loop: MakeLoop) -> None:
    frozen = recipe(frozen=("backbone.conv1.*", "backbone.stages.0.*"))
    loop = make_loop("unpruned", base=frozen, fine_tune=True)
    before = {name: p.detach().clone() for name, p in loop.run.params.items()}
    loop.train()
    same = {name for name, p in loop.run.params.items() if torch.equal(p, before[name])}
    assert same == {n for n in before if n.startswith(("backbone.conv1.", "backbone.stages.0."))}
    assert all(p.requires_grad for p in loop.run.params.values())


def test_true_boxes_have_an_ap_of_100(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    model, split = fresh(RETINANET), dataset.test
    assert isinstance(split, BoxedImages)
    truth = split.targets(torch.arange(len(split)))
    places = iter(range(len(split)))

    def detect(x: torch.Tensor, sizes: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        found = []
        for place in [next(places) for _ in x]:
            real = truth[place][truth[place][:, 0] >= 0]
            found.append(
                {"boxes": real[:, 1:], "labels": real[:, 0].long(), "scores": torch.ones(len(real))}
            )
        return found

    monkeypatch.setattr(model, "detect", detect)
    own = Detection(dataset.info)
    found = own.evaluate(model, split, _normalization(dataset), ALONE)
    assert found.percent == pytest.approx(100.0)
    assert found.figures["ap50"] == pytest.approx(100.0)
    assert set(found.by_class) == set("0123456789")


def test_a_detector_that_finds_nothing_has_an_ap_of_0(dataset: Dataset) -> None:
    found = Detection(dataset.info).evaluate(
        fresh(RETINANET), dataset.test, _normalization(dataset), ALONE
    )
    assert found.percent == 0.0


def _normalization(dataset: Dataset) -> Any:
    from prunebench.data.normalization import normalization

    return normalization("dataset", dataset.info)


@pytest.fixture(scope="module")
def results(data_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with a base network and a pruned one."""
    results = tmp_path_factory.mktemp("results")
    target = data_path(results, DATASET)
    target.parent.mkdir()
    target.write_bytes(data_file.read_bytes())
    machine = Machine(device="cpu", checkpoint_seconds=3600.0)
    train_base(base_spec(), results, progress=PlainProgress(), machine=machine)
    train_run(run_spec(), results, progress=PlainProgress(), machine=machine)
    return results


def base_spec() -> BaseSpec:
    return BaseSpec(
        dataset=DATASET,
        architecture=RETINANET,
        recipe_name="short",
        recipe=recipe(),
        seed=0,
        threads=1,
    )


def run_spec() -> RunSpec:
    return RunSpec(
        experiment="e",
        dataset=DATASET,
        architecture=RETINANET,
        method="l1",
        setting="default",
        ratio=0.5,
        ratio_kind="macs",
        seed=0,
        threads=1,
        revision=1,
        start="base",
        options={"roles": ["stem", "stream", "inside"]},
        recipes={"fine_tune": recipe()},
        recipe_names={"fine_tune": "short"},
        base=base_spec(),
    )


def test_files_name_the_accuracy_by_the_metric(results: Path) -> None:
    folder = results / run_spec().path
    text = (folder / TrainingResult.FILE).read_text(encoding="utf-8")
    assert '"map":' in text
    assert '"top1":' not in text
    stored = TrainingResult.read(folder)
    assert set(stored.by_class or {}) == set("0123456789")
    assert "val_map,test_map" in (folder / "history.csv").read_text(encoding="utf-8")
    rows = read_history(folder, stored.metric)
    assert rows[-1].test_accuracy == stored.accuracy


def test_a_stored_detector_is_verified(results: Path) -> None:
    sentence = verify_run(results / run_spec().path)
    assert "AP " in sentence
    assert "again (AP50 " in sentence


def test_a_stored_detector_loads_smaller(results: Path) -> None:
    whole, pruned = (load_network(results / spec.path) for spec in (base_spec(), run_spec()))
    weights = [sum(p.numel() for p in model.parameters()) for model in (whole, pruned)]
    assert weights[1] < 0.8 * weights[0]
    x = torch.rand(1, 3, 128, 128)
    with torch.inference_mode():
        levels = [[level[0].shape for level in model.eval()(x)] for model in (whole, pruned)]
    assert levels[0] == levels[1]


def test_rows_of_a_detector_have_the_published_columns(results: Path, tmp_path: Path) -> None:
    spec = run_spec()
    cost = measure_cost(results / spec.path, results / spec.base.path, spec.hash)
    assert isinstance(cost, CostResult)
    rows = collect(results, [spec])
    assert (rows[0].top1, rows[0].base_top1) == (None, None)
    assert rows[0].map is not None
    write_rows(tmp_path / "runs.csv", rows)
    head = (tmp_path / "runs.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {"base_map", "map", "val_map", "map_best_test", "top1"} <= set(head)
    assert "val_top1" not in head
    frame = read_runs(tmp_path / "runs.csv")
    assert metric_of(frame).short == "AP"
    assert frame["accuracy"].iloc[0] == rows[0].map


RECIPE = """
epochs: 1
batch_size: 4
optimizer: adamw
lr: 0.001
weight_decay: 0.01
clip_norm: 10
accumulation: {accumulation}
"""


@pytest.mark.slow
def test_two_processes_have_the_loss_of_one(data_file: Path, tmp_path: Path) -> None:
    (tmp_path / "config" / "recipes").mkdir(parents=True)
    (tmp_path / "config" / "config.yaml").write_text("{experiments: any, workers: 0, device: cpu}")
    for name, parts in (("pair", 1), ("alone", 2)):
        text = RECIPE.format(accumulation=parts)
        (tmp_path / "config" / "recipes" / f"{name}.yaml").write_text(text)
    target = data_path(tmp_path / "results", DATASET)
    target.parent.mkdir(parents=True)
    target.write_bytes(data_file.read_bytes())
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    for name, launcher in (("pair", torchrun), ("alone", [])):
        words = [sys.executable, *launcher, "-m", "prunebench", "base", "--recipe", name]
        words += ["--dataset", DATASET, "--architecture", RETINANET]
        subprocess.run(words, cwd=tmp_path, check=True, timeout=300)
    folders = [
        tmp_path / "results" / "base" / DATASET / RETINANET / name / "seed0"
        for name in ("pair", "alone")
    ]
    ap = METRICS["detection"]
    losses = [read_history(folder, ap)[0].train_loss for folder in folders]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert TrainingResult.read(folders[0]).processes == 2


def test_detections_are_measured_collected_and_drawn(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DetectionsResult, "FEWEST", 0.0)  # after one epoch, scores are low
    spec = run_spec()
    (line,) = measure_runs([spec], results, only="cost", device="cpu")
    assert line.endswith("boxes in 4 images")
    measured = (results / spec.path / DetectionsResult.FILE).read_bytes()
    (again,) = measure_runs([spec], results, only="cost", device="cpu")
    assert again == line
    assert (results / spec.path / DetectionsResult.FILE).read_bytes() == measured
    runs_csv = collect_to_csv(results, "e", [spec])
    (network,) = read_detections(runs_csv.parent).networks
    assert list(network.runs) == ["l1/default/macs-0.5"]
    assert network.classes == tuple("0123456789")
    assert len(network.jpeg) == len(network.truth) == len(network.base) == 4
    assert all(0 <= box.x1 < box.x2 <= 128 for boxes in network.truth for box in boxes)
    paths = write_detections_figure(runs_csv, tmp_path)
    assert [path.name for path in paths] == [
        "detections.svg",
        "detections.png",
        "detections.pdf",
    ]


def test_costs_are_measured_without_the_images(results: Path, tmp_path: Path) -> None:
    copied = tmp_path / "results"
    shutil.copytree(results, copied)
    data_path(copied, DATASET).unlink()
    for earlier in copied.rglob(DetectionsResult.FILE):
        earlier.unlink()
    (line,) = measure_runs([run_spec()], copied, only="cost", device="cpu")
    assert "fewer MACs" in line
    assert "no images to show" in line
    assert not (copied / run_spec().path / DetectionsResult.FILE).exists()
