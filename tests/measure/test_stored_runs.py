from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from prunebench.core.errors import ConfigError, ResultError
from prunebench.core.files import file_hash
from prunebench.experiments.results import CostResult, LatencyResult
from prunebench.measure import stored_runs as stage
from prunebench.measure.stored_runs import (
    measure_cost,
    measure_latency,
    measure_runs,
    store_latency,
    wanted_latencies,
)
from prunebench.network import load_network, read_structure, save_network
from tests.report.conftest import run_spec, trained
from tests.stored_files import change

# ResNet-20 on 8x8 images of one channel: 9 products for each of 16 x 64 stem outputs, and so on
BASE_MACS = 9 * 16 * 64 + 6 * 147_456 + 2 * (73_728 + 5 * 147_456) + 640
# 11 of 16 units of one first convolution: both of its block's convolutions lose 11/16
PRUNED_MACS = BASE_MACS - 2 * 147_456 * 11 // 16


def mask_run(folder: Path) -> None:
    """Zero half of the stem's filters in the masks of a run."""
    mask = torch.ones(16, 1, 3, 3, dtype=torch.bool)
    mask[:8] = False
    masks = {"conv1.weight": mask}
    save_network(folder, load_network(folder), read_structure(folder), masks)


def test_cost_of_a_run_and_its_base(pruned_folder: Path, base_folder: Path) -> None:
    metrics = measure_cost(pruned_folder, base_folder, "abc")
    assert metrics.base_macs == BASE_MACS
    assert metrics.macs == metrics.macs_theoretical == PRUNED_MACS
    # 9 x 16 weights in and out and 2 of the norm leave with each unit
    assert metrics.base_params - metrics.params == 11 * (2 * 9 * 16 + 2)
    assert metrics.base_activations - metrics.activations == 11 * 64
    assert metrics.spec_hash == "abc"
    assert metrics.weights_sha256 == file_hash(pruned_folder / "model.safetensors")
    assert CostResult.read(pruned_folder, "abc") == metrics


def test_zeros_only_lower_the_theoretical_count(pruned_folder: Path, base_folder: Path) -> None:
    mask_run(pruned_folder)
    metrics = measure_cost(pruned_folder, base_folder, "abc")
    assert metrics.macs == PRUNED_MACS
    assert metrics.macs_theoretical == PRUNED_MACS - 8 * 9 * 64
    weights = 144 + 6 * 2304 + 4608 + 5 * 9216 + 18_432 + 5 * 36_864 + 640 - 2 * 11 * 9 * 16
    assert metrics.sparsity == 8 * 9 / weights


def test_a_mask_of_the_wrong_shape_is_named(pruned_folder: Path, base_folder: Path) -> None:
    masks = {"conv1.weight": torch.zeros(3, dtype=torch.bool)}
    run = pruned_folder
    save_network(run, load_network(run), read_structure(run), masks)
    with pytest.raises(ResultError, match=r"masks\.safetensors: .* 3 entries, expected 144"):
        measure_cost(run, base_folder, "abc")


@pytest.mark.parametrize(("spec_hash", "counted"), [("abc", False), ("other", True)])
def test_cost_is_counted_once_for_a_specification(
    pruned_folder: Path, base_folder: Path, spec_hash: str, counted: bool
) -> None:
    measure_cost(pruned_folder, base_folder, "abc")
    change(pruned_folder / "metrics.json", macs=1)
    assert (measure_cost(pruned_folder, base_folder, spec_hash).macs != 1) is counted


def test_new_weights_are_measured_again(pruned_folder: Path, base_folder: Path) -> None:
    before = measure_cost(pruned_folder, base_folder, "abc")
    model = load_network(pruned_folder)
    torch.nn.init.zeros_(model.get_parameter("conv1.weight"))
    save_network(pruned_folder, model, read_structure(pruned_folder), {})
    after = measure_cost(pruned_folder, base_folder, "abc")
    assert after.weights_sha256 != before.weights_sha256


def test_weights_that_training_did_not_record_stop_it(
    pruned_folder: Path, base_folder: Path
) -> None:
    trained(run_spec("resnet20", "l1", "default", 0.5, seed=0), 90.0, weights_sha256="0123").write(
        pruned_folder
    )
    with pytest.raises(ResultError, match="expected 0123 as in training"):
        measure_cost(pruned_folder, base_folder, "abc")


def test_equal_structures_are_counted_once(
    pruned_folder: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_cost(pruned_folder, base_folder, "abc")
    monkeypatch.setattr(stage, "count_macs", None)  # not called again
    assert measure_cost(pruned_folder, base_folder, "other").macs == PRUNED_MACS


def test_latency_has_an_entry_per_batch_size(pruned_folder: Path, base_folder: Path) -> None:
    latency = measure_latency(
        pruned_folder, base_folder, "abc", device="cpu", batch_sizes=(1, 2), repeats=3, warmup=1
    )
    assert [entry.batch_size for entry in latency.entries] == [1, 2]
    assert latency.weights_sha256 == file_hash(pruned_folder / "model.safetensors")
    assert LatencyResult.read(pruned_folder, "abc") == latency


@pytest.mark.parametrize(("batch_sizes", "timed"), [((1,), False), ((2,), True)])
def test_latency_is_measured_once(
    pruned_folder: Path, base_folder: Path, batch_sizes: tuple[int, ...], timed: bool
) -> None:
    def measure(sizes: tuple[int, ...]) -> object:
        return measure_latency(
            pruned_folder, base_folder, "abc", device="cpu", batch_sizes=sizes, repeats=2, warmup=0
        )

    first = measure((1,))
    assert (measure(batch_sizes) != first) is timed


def test_masks_alone_are_not_timed(base_folder: Path) -> None:
    mask_run(base_folder)
    assert measure_latency(base_folder, base_folder, "abc", device="cpu").entries == ()


def test_masks_do_not_hide_the_times_of_the_same_structure(
    base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_LATENCIES", {})
    masked = tmp_path / "masked"
    shutil.copytree(base_folder, masked)
    mask_run(masked)
    counts = [
        len(measure(folder, base_folder, (1,)).entries) for folder in (masked, base_folder, masked)
    ]
    assert counts == [0, 1, 0]


def measure(run: Path, base: Path, batch_sizes: tuple[int, ...]) -> LatencyResult:
    return measure_latency(
        run, base, "abc", device="cpu", batch_sizes=batch_sizes, repeats=2, warmup=0
    )


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({"batch_size": 4}, True),
        ({"part": "whole"}, True),
        ({"batch_size": 4, "unstable": None}, False),  # of an earlier version
        ({"batch_size": 4, "device": "other processor"}, False),
        ({"device_kind": "cuda", "device": "some GPU"}, True),
        ({"device_kind": "cuda", "device": "some GPU", "mode": "graph"}, True),
        ({}, False),  # timed again
    ],
)
def test_new_entries_stand_beside_what_was_timed_elsewhere(
    pruned_folder: Path, base_folder: Path, changed: dict[str, object], kept: bool
) -> None:
    (entry,) = measure(pruned_folder, base_folder, (1,)).entries
    other = entry.model_copy(update={"median_ms": 77.0} | changed)
    result = LatencyResult.read(pruned_folder)
    result.model_copy(update={"entries": (other,)}).write(pruned_folder)
    found = store_latency(pruned_folder, "abc", (entry,)).entries
    assert found == ((other, entry) if kept else (entry,))
    assert LatencyResult.read(pruned_folder, "abc").entries == found


def test_latencies_of_unknown_stability_are_measured_again(
    pruned_folder: Path, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = measure(pruned_folder, base_folder, (1,))
    monkeypatch.setattr(stage, "_LATENCIES", {})
    (entry,) = result.entries
    old = entry.model_copy(update={"unstable": None, "median_ms": 77.0})
    result.model_copy(update={"entries": (old,)}).write(pruned_folder)
    (again,) = measure(pruned_folder, base_folder, (1,)).entries
    assert again.unstable is not None
    assert again.median_ms != 77.0


@pytest.mark.parametrize(
    ("architecture", "device", "capture", "kinds"),
    [
        ("resnet20", "cpu", True, [("forward", "eager")]),
        ("resnet20", "cuda", True, [("forward", "eager"), ("forward", "graph")]),
        ("resnet20", "cuda", False, [("forward", "eager")]),
        ("atss_r18_fpn", "cuda", True, [("forward", "eager"), ("whole", "eager")]),
    ],
)
def test_a_gpu_times_classifiers_as_graphs_too(
    base_folder: Path,
    architecture: str,
    device: str,
    capture: bool,
    kinds: list[tuple[str, str]],
) -> None:
    structure = read_structure(base_folder).model_copy(update={"architecture": architecture})
    assert wanted_latencies(structure, torch.device(device), (1, 8), capture) == [
        (*kind, size) for kind in kinds for size in (1, 8)
    ]


@pytest.mark.gpu
def test_a_run_is_timed_eagerly_and_as_a_graph(pruned_folder: Path, base_folder: Path) -> None:
    latency = measure_latency(
        pruned_folder, base_folder, "abc", device="cuda", batch_sizes=(1,), repeats=3, warmup=10
    )
    assert [entry.mode for entry in latency.entries] == ["eager", "graph"]


def test_a_missing_base_is_named(pruned_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ResultError, match=r"nowhere.*no such file"):
        measure_latency(pruned_folder, tmp_path / "nowhere", "abc", device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_not_replaced_by_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device: 'cuda', but this machine has no GPU"):
        list(measure_runs([], tmp_path, only="latency", device="cuda"))


def test_networks_of_equal_structure_share_one_measurement(
    pruned_folder: Path, base_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "_LATENCIES", {})
    other = tmp_path / "other"
    model = load_network(pruned_folder)
    with torch.no_grad():
        next(model.parameters()).mul_(2)  # other weights
    save_network(other, model, read_structure(pruned_folder), {})
    first, second, unpruned = (
        measure_latency(
            folder, base_folder, "abc", device="cpu", batch_sizes=(1,), repeats=3, warmup=0
        )
        for folder in (pruned_folder, other, base_folder)
    )
    assert second.entries == first.entries
    assert second.weights_sha256 != first.weights_sha256
    assert [entry.speedup for entry in unpruned.entries] == [1.0]
    entry = LatencyResult.read(other, "abc").entries[0]
    assert entry.q25_ms <= entry.median_ms <= entry.q75_ms
