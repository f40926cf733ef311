"""Folders of finished runs that look like those of the experiment `digits`, without training."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from prunebench.experiments.recipe import Recipe, Schedule
from prunebench.experiments.results import (
    CostResult,
    DiagnosticRow,
    HistoryRow,
    LatencyEntry,
    LatencyResult,
    TrainingResult,
    write_diagnostics,
    write_history,
)
from prunebench.experiments.spec import BaseSpec, RunSpec
from prunebench.report.collect import collect_to_csv
from prunebench.report.runs_csv import read_runs

FINE_TUNE = Recipe(epochs=12, batch_size=64, lr=0.01, weight_decay=5e-4)
BASE = Recipe(
    epochs=20,
    batch_size=64,
    lr=0.1,
    weight_decay=5e-4,
    schedule=Schedule(kind="milestones", milestones=(10, 15)),
)
# layer, full width, stage
RESNET = [("conv1", 16, None)] + [
    (f"layers.{stage}.{block}.conv{conv}", 16 * 2**stage, stage)
    for stage in range(3)
    for block in range(3)
    for conv in (1, 2)
]
VGG = [
    (f"features.{i}", width, stage)
    for i, (width, stage) in enumerate(
        [(16, 0)] * 2 + [(32, 1)] * 2 + [(64, 2)] * 3 + [(128, 3)] * 3 + [(128, 4)] * 3
    )
]
NETWORKS = {
    "resnet20": (RESNET, (0, 1), 98.6, 2_530_000, 271_000),
    "vgg16_x0_25": (VGG, (0,), 99.1, 1_310_000, 926_000),
}
# points lost at half the units, phases with their epochs
METHODS = {
    "random": (1.6, (("fine_tune", 12),)),
    "l1": (0.7, (("fine_tune", 12),)),
    "greg_1": (0.35, (("regularize", 8), ("fine_tune", 12))),
    "sfp": (1.1, (("train", 20),)),
    "asfp": (1.0, (("train", 20),)),
    "srfp": (0.9, (("train", 20),)),
    "asrfp": (0.6, (("train", 20),)),
    "epruner": (0.45, (("fine_tune", 12),)),
    "scratch_e": (1.3, (("train", 20),)),
    "scratch_b": (0.8, (("train", 40),)),
    "unpruned": (0.0, ()),
}
FRESH = {"sfp", "asfp", "srfp", "asrfp", "scratch_e", "scratch_b"}
# of one method on one network, for `few_runs`
CURVE = [
    {"ratio": r, "speedup_macs": s, "accuracy": y} for r, s, y in ((0.5, 2, 98), (0.75, 4, 96))
]
EPRUNER_SETTINGS = {"beta0.9": 0.42, "beta0.73": 0.55, "beta0.6": 0.7}


def make_results(results: Path) -> list[RunSpec]:
    """Write every run's and every base's files; return the resolved specifications."""
    specs = [spec for network in NETWORKS for spec in _specs(network)]
    for spec in specs:
        write_base(results, spec.base)
        write_run(results, spec)
    return specs


def _specs(network: str) -> Iterator[RunSpec]:
    for method in METHODS:
        cells: list[tuple[str, float | None]] = [("default", r) for r in (0.5, 0.75, 0.875)]
        if method == "epruner":
            cells = [(setting, None) for setting in EPRUNER_SETTINGS]
        if method == "unpruned":
            cells = [("default", 0.0)]
        for setting, ratio in cells:
            for seed in NETWORKS[network][1]:
                yield run_spec(network, method, setting, ratio, seed)


def run_spec(network: str, method: str, setting: str, ratio: float | None, seed: int) -> RunSpec:
    roles = {} if method == "unpruned" else {"base": BASE}
    if method not in FRESH and method != "unpruned":
        roles = {"fine_tune": FINE_TUNE}
    return RunSpec(
        experiment="digits",
        dataset="digits",
        architecture=network,
        method=method,
        setting=setting,
        ratio=ratio,
        ratio_kind="auto" if ratio is None else "units_per_group",
        seed=seed,
        threads=1,
        revision=1,
        start="fresh" if method in FRESH else "base",
        options={} if setting == "default" else {"beta": EPRUNER_SETTINGS[setting]},
        recipes=roles,
        recipe_names={role: f"digits_{role}" for role in roles},
        base=BaseSpec(
            dataset="digits",
            architecture=network,
            recipe_name="digits_base",
            recipe=BASE,
            seed=seed,
            threads=1,
        ),
    )


def write_base(results: Path, spec: BaseSpec) -> None:
    accuracy = NETWORKS[spec.architecture][2] + 0.28 * spec.seed
    trained(spec, accuracy, val_accuracy=accuracy - 0.1).write(results / spec.path)


def trained(spec: BaseSpec | RunSpec, accuracy: float, **known: Any) -> TrainingResult:
    """The training.json of a run without phases, with the known values."""
    plain = {
        "spec_hash": spec.hash,
        "base_hash": None,
        "weights_sha256": "",
        "pretrained": None,
        "accuracy": accuracy,
        "val_accuracy": accuracy - 0.2,
        "accuracy_best_val": accuracy + 0.05,
        "accuracy_best_test": accuracy + 0.1,
        "accuracy_masked": None,
        "epochs": 0.0,
        "seconds": {},
        "selection_seconds": 0,
        "summary": {},
        "capped": (),
        "masked_removed_difference": 3e-15,
        "plans": (),
        "resumed_at": (),
        "peak_memory_mb": 500,
        "device": "cpu",
        "threads": 1,
        "processes": 1,
        "more_parts": 1,
        "deterministic": False,
        "data_sha256": "",
        "versions": {"prunebench": "0.1.0", "torch": "2.14.0", "python": "3.11.2"},
        "commit": "3e95582",
        "spec": spec.model_dump(mode="json"),
    }
    return TrainingResult.model_validate(plain | known)


def write_run(results: Path, spec: RunSpec) -> None:
    layers, _, base_accuracy, base_macs, base_params = NETWORKS[spec.architecture]
    lost, phases = METHODS[spec.method]
    noise = random.Random(spec.path)
    share = spec.ratio if spec.ratio is not None else EPRUNER_SETTINGS[spec.setting]
    widths = {}
    for name, full, stage in layers:
        here = share
        if spec.ratio is None:
            here = min(0.9, share * noise.uniform(0.5, 1.4))
        widths[name] = {"full": full, "kept": max(1, round(full * (1 - here))), "stage": stage}
        widths[name]["block"] = None
    kept = 1 - share
    macs = round(base_macs * (0.75 * kept**2 + 0.25 * kept)) if share else base_macs
    params = round(base_params * kept**2) if share else base_params
    drop = lost * (2 ** (6 * (share - 0.5))) + noise.gauss(0, 0.15) if share else 0.0
    if spec.architecture != "resnet20":
        drop *= 1.5
        if spec.method in ("random", "scratch_e") and share > 0.8:
            drop = 87.0 if spec.method == "random" else 34.0
    accuracy = base_accuracy + 0.28 * spec.seed - drop
    folder = results / spec.path
    weights = f"{noise.getrandbits(256):064x}"
    own = {"spec_hash": spec.hash, "weights_sha256": weights}
    trained(
        spec,
        accuracy,
        weights_sha256=weights,
        base_hash=None if spec.method in FRESH else spec.base.hash,
        epochs=float(sum(epochs for _, epochs in phases)),
        seconds={name: 0.4 * epochs for name, epochs in phases},
        selection_seconds=2.4 if spec.method == "epruner" else 0.05 * share,
        summary={"magnitude_ratio": 30 + 40 * share} if spec.method == "greg_1" else {},
        capped=("regularize",) if spec.method == "greg_1" and share > 0.8 else (),
    ).write(folder)
    CostResult(
        macs=macs,
        params=params,
        macs_theoretical=macs,
        sparsity=0.0,
        activations=round(60_000 * kept),
        base_macs=base_macs,
        base_params=base_params,
        base_activations=60_000,
        uncounted_operators={},
        **own,
    ).write(folder)
    write(folder / "structure.json", {"architecture": spec.architecture, "layers": widths})
    LatencyResult(entries=tuple(_latencies(base_macs / macs, noise)), **own).write(folder)
    write_history(folder, _history(spec, phases, accuracy, noise))
    write_diagnostics(folder, _diagnostics(spec))


def _diagnostics(spec: RunSpec) -> Iterator[DiagnosticRow]:
    if spec.method == "greg_1":
        for step in (18, 36, 54):
            for quantity, value in (("penalty", step / 54), ("magnitude_ratio", 1.1**step)):
                for i in range(3):
                    layer, number = f"layers.{i}", value * (1 + i / 10)
                    yield DiagnosticRow("regularize", step, layer, quantity, number)
    if spec.method == "epruner":
        for i in range(3):
            yield DiagnosticRow("select", 0, f"layers.{i}", "mean_cluster_size", i + 1.5)


def latency(device_kind: str, batch_size: int, median_ms: float, base_ms: float) -> LatencyEntry:
    return LatencyEntry(
        device_kind=device_kind,
        device="some device",
        batch_size=batch_size,
        precision="fp32",
        memory_format="channels_last",
        median_ms=median_ms,
        q25_ms=median_ms * 0.98,
        q75_ms=median_ms * 1.02,
        base_median_ms=base_ms,
        base_q25_ms=base_ms * 0.98,
        base_q75_ms=base_ms * 1.02,
        speedup=base_ms / median_ms,
        repeats=11,
        warmup=6,
        threads=1,
    )


def _latencies(speedup: float, noise: random.Random) -> Iterator[LatencyEntry]:
    for batch_size, base_ms, power in ((1, 2.1, 0.2), (64, 31.0, 0.7)):
        gain = speedup**power * noise.uniform(0.97, 1.03)
        yield latency("cpu", batch_size, base_ms / gain, base_ms)


def _history(
    spec: RunSpec, phases: tuple[tuple[str, int], ...], end: float, noise: random.Random
) -> Iterator[HistoryRow]:
    def pruned(phase: str, epoch: int, accuracy: float) -> HistoryRow:
        return HistoryRow(
            phase, epoch, 18 * epoch, val_accuracy=accuracy, test_accuracy=accuracy, event="pruned"
        )

    accuracy = 10.0 if spec.method in FRESH else 98.4
    if phases and phases[0][0] != "regularize" and spec.method not in ("sfp", "asfp"):
        accuracy = accuracy if spec.method in FRESH else noise.uniform(20, 75)
        yield pruned("select", 0, accuracy)
    for phase, epochs in phases:
        goal = end if phase != "regularize" else 97.5
        for epoch in range(1, epochs + 1):
            accuracy = goal - (goal - accuracy) * 0.55 + noise.gauss(0, 0.12)
            yield HistoryRow(
                phase,
                epoch,
                18 * epoch,
                lr=0.01,
                train_loss=2 * math.exp(-epoch / 4),
                train_accuracy=accuracy,
                val_accuracy=accuracy,
                test_accuracy=accuracy,
                seconds=0.4,
            )
        if phase == "regularize":
            accuracy -= 0.4
            yield pruned(phase, epochs, accuracy)


def write(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[RunSpec]]:
    """A results folder and its resolved runs; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("results")
    return folder, make_results(folder)


@pytest.fixture(scope="session")
def runs_csv(results: tuple[Path, list[RunSpec]]) -> Path:
    return collect_to_csv(results[0], "digits", results[1])


@pytest.fixture
def runs(runs_csv: Path) -> pd.DataFrame:
    return read_runs(runs_csv)


@pytest.fixture
def one_run(tmp_path: Path) -> tuple[Path, RunSpec]:
    """A results folder with one run and its base, to be changed by the test."""
    spec = run_spec("resnet20", "l1", "default", 0.5, seed=0)
    write_base(tmp_path, spec.base)
    write_run(tmp_path, spec)
    return tmp_path, spec


def few_runs(*rows: dict[str, Any]) -> pd.DataFrame:
    """Return runs that differ from one plain run in the given columns alone."""
    plain = {
        "dataset": "digits",
        "architecture": "resnet20",
        "method": "l1",
        "setting": "default",
        "ratio": 0.5,
        "ratio_kind": "units_per_group",
        "experiment": "digits",
        "seed": 0,
        "base_accuracy": 99.0,
        "base_val_accuracy": 98.5,
        "accuracy": 98.0,
        "accuracy_masked": math.nan,
        "drop": 1.0,
        "macs": 50,
        "macs_theoretical": 50,
        "speedup_macs": 2.0,
        "speedup_theoretical": 2.0,
        "sparsity_pct": 0.0,
        "params_reduction_pct": 75.0,
        "start": "base",
        "base_hash": "b0",
        "epochs": 12.0,
        "fine_tune_epochs": 12.0,
        "recipes": '{"fine_tune":{"name":"short","lr":0.01}}',
        "capped": math.nan,
        "widths": '{"a":[4,8],"b":[4,16]}',
        "stages": "[0,1]",
        "insides": json.dumps(
            {"penalty": {"step": [8, 16], "low": [1, 1], "middle": [1, 2], "high": [1, 3]}}
        ),
        "history": json.dumps(
            {
                "phase": ["select", "fine_tune", "fine_tune"],
                "epoch": [0, 1, 2],
                "event": ["pruned", "", ""],
                "train_loss": [None, 0.5, 0.1],
                "val_accuracy": [30.0, 96.0, 97.0],
                "test_accuracy": [31.0, 97.0, 98.0],
            }
        ),
    }
    return pd.DataFrame([plain | row for row in rows])


def history(before: list[str], after: list[str], event: str = "pruned") -> str:
    """Return a run's history: phases of epochs before and after a removal."""
    phases = [*before, before[-1] if before else "select", *after]
    return json.dumps(
        {
            "phase": phases,
            "epoch": [*range(1, len(before) + 1), len(before), *range(1, len(after) + 1)],
            "event": [*("" for _ in before), event, *("" for _ in after)],
            "train_loss": [None] * len(phases),
            "val_accuracy": [None] * len(phases),
            "test_accuracy": [None] * len(phases),
        }
    )


def shown(figure: Figure) -> list[Axes]:
    """Return the panels that hold something."""
    return [axes for axes in figure.axes if axes.get_visible()]


def words(drawn: Figure | Axes) -> list[str]:
    """Return all texts."""
    return [text.get_text() for text in drawn.findobj(Text) if text.get_text()]


def legend(figure: Figure) -> list[str]:
    """Return the entries of the legends."""
    return [text.get_text() for one in figure.legends for text in one.get_texts()]
