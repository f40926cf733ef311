"""Costs and latencies of detectors: heads that run at every level, and post-processing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prunebench.experiments.results import LatencyEntry, LatencyResult
from prunebench.measure import stored_runs
from prunebench.measure.latency import compare_latency, pass_of
from prunebench.measure.layer_counts import activations, count_layers
from prunebench.measure.macs import count_macs, count_params
from prunebench.measure.stored_runs import measure_latency
from prunebench.models.detection.detector import Detector
from prunebench.models.registry import build
from prunebench.network import read_structure, save_network
from tests.models.detection.test_saved_detectors import saved
from tests.report.conftest import latency

CLASSES, CHANNELS = 10, 32  # an eighth of 256


def of_heads(name: str, parts: tuple[str, ...]) -> tuple[int, int, int]:
    """MACs by fvcore, convolution outputs and parameters of a detector's heads, at 128x128."""
    model, image = build(name, num_classes=CLASSES).eval(), torch.zeros(1, 3, 128, 128)
    by_layer, layers = count_macs(model, image).by_layer, count_layers(model, image)
    assert by_layer == {layer.name: layer.macs for layer in layers if layer.macs}
    return (
        sum(macs for layer, macs in by_layer.items() if layer.startswith(parts)),
        activations(layer for layer in layers if layer.name.startswith(parts)),
        sum(count_params(model.get_submodule(part)) for part in parts),
    )


def test_a_shared_head_counts_at_every_level_and_its_weights_once() -> None:
    macs, outputs, params = of_heads("retinanet_r18_fpn_x0_125", ("head",))
    locations = 16**2 + 8**2 + 4**2 + 2**2 + 1**2
    towers, last = 2 * 4 * CHANNELS, 9 * (CLASSES + 4)  # nine anchors
    assert macs == 9 * CHANNELS * (towers + last) * locations
    assert outputs == (towers + last) * locations
    assert params == (9 * CHANNELS + 1) * (towers + last)


def test_two_stages_count_proposals_at_every_level_and_512_regions() -> None:
    parts = ("proposals", "objectness", "proposed", "head")
    macs, outputs, params = of_heads("faster_rcnn_r18_fpn_x0_125", parts)
    locations = 32**2 + 16**2 + 8**2 + 4**2 + 2**2
    anchors, hidden, last = 3 * (1 + 4), 128, (CLASSES + 1) + 4 * CLASSES
    first = 9 * CHANNELS * CHANNELS + CHANNELS * anchors
    second = 49 * CHANNELS * hidden + hidden * hidden + hidden * last
    assert macs == first * locations + second * 512
    assert outputs == (CHANNELS + anchors) * locations  # linear layers hold no activations
    assert params == first + CHANNELS + anchors + second + 2 * hidden + last


class Finding(Detector):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[object] = []

    def outputs(self, x: Tensor) -> Tensor:
        self.asked.append("outputs")
        return x

    def detect(self, x: Tensor, sizes: Tensor) -> list[dict[str, Tensor]]:
        self.asked.append(sizes.tolist())
        return []


def test_the_whole_detects_and_a_forward_pass_does_not() -> None:
    model, images = Finding(), torch.zeros(2, 3, 4, 6)
    pass_of(model, "forward")(images)
    pass_of(model, "whole")(images)
    assert model.asked == ["outputs", [[4, 6], [4, 6]]]


def test_the_entry_says_which_part_it_times() -> None:
    model = Finding()
    entry = compare_latency(
        model, model, (3, 4, 6), batch_size=2, device="cpu", repeats=2, warmup=0, part="whole"
    )
    assert (entry.part, entry.batch_size) == ("whole", 2)
    assert model.asked == [[[4, 6], [4, 6]]] * 6  # the first two passes, and two in each repetition


def test_a_classifier_has_no_post_processing(small_net: nn.Module) -> None:
    with pytest.raises(TypeError, match="Sequential is no detector"):
        pass_of(small_net, "whole")


def test_entries_of_earlier_versions_are_forward_passes() -> None:
    content = latency("cpu", 1, 2.0, 4.0).model_dump()
    del content["part"]
    assert LatencyEntry.model_validate(content).part == "forward"


def test_a_stored_detector_is_timed_in_two_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, base, run = "retinanet_r18_fpn_x0_125", tmp_path / "base", tmp_path / "run"
    monkeypatch.setattr(stored_runs, "_LATENCIES", {})
    saved(run, name)
    structure = read_structure(run)
    whole = {
        n: g.model_copy(update={"kept": tuple(range(g.units))}) for n, g in structure.groups.items()
    }
    layers = {n: x.model_copy(update={"kept": x.full}) for n, x in structure.layers.items()}
    model = build(name, num_classes=3)
    save_network(base, model, structure.model_copy(update={"groups": whole, "layers": layers}), {})

    def measure() -> LatencyResult:
        return measure_latency(
            run, base, "abc", device="cpu", batch_sizes=(1, 2), repeats=2, warmup=0
        )

    first = measure()
    assert [(entry.part, entry.batch_size) for entry in first.entries] == [
        ("forward", 1),
        ("forward", 2),
        ("whole", 1),
        ("whole", 2),
    ]
    assert measure() == first
    first.model_copy(update={"entries": first.entries[:2]}).write(run)  # of an earlier version
    monkeypatch.setattr(stored_runs, "_LATENCIES", {})
    assert len(measure().entries) == 4
