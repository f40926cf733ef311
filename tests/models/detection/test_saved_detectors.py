"""A pruned detector on disk: saved, rebuilt and exported as a classifier is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunebench.channels.removal import remove
from prunebench.channels.trace.tracer import trace
from prunebench.data.normalization import Normalization
from prunebench.export import export
from prunebench.models.registry import build
from prunebench.network import (
    load_network,
    read_structure,
    save_network,
    structure_of,
)

IMAGE = (3, 64, 64)
CLASSES = ("circle", "square", "triangle")


def saved(folder: Path, name: str) -> nn.Module:
    """Save a detector that has lost a third of each group's units, and return it."""
    torch.manual_seed(0)
    model = build(name, num_classes=3).eval()
    graph = trace(model, torch.zeros(1, *IMAGE))
    removed = {n: torch.arange(0, group.n_units, 3) for n, group in graph.groups.items()}
    removed = {n: units for n, units in removed.items() if len(units) < graph.groups[n].n_units}
    smaller = remove(model, graph, removed).eval()
    sizes = {n: group.n_units for n, group in graph.groups.items()}
    every = {n: torch.arange(units) for n, units in sizes.items()}
    kept = {n: units[~torch.isin(units, removed.get(n, units[:0]))] for n, units in every.items()}
    structure = structure_of(
        smaller,
        architecture=name,
        dataset="coco",
        num_classes=3,
        image=IMAGE,
        sizes=sizes,
        kept=kept,
        normalization=Normalization(mean=(0.5,) * 3, std=(0.25,) * 3),
        resize=(100, 60),
        classes=CLASSES,
    )
    save_network(folder, smaller, structure, {})
    return smaller


def images(n: int, side: int = 64) -> Tensor:
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(1))


def assert_same(found: Any, expected: Any, **tolerance: float) -> None:
    for own, other in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        torch.testing.assert_close(own, other, **tolerance)


@pytest.mark.parametrize("name", ["retinanet_r18_fpn_x0_25", "faster_rcnn_r18_fpn_x0_25"])
def test_a_detector_comes_back_the_same(tmp_path: Path, name: str) -> None:
    model = saved(tmp_path, name)
    again: Any = load_network(tmp_path)
    x, sizes = images(2), torch.tensor([[64, 64]] * 2)
    assert_same(again(x), model(x), rtol=0, atol=0)
    assert_same(again.detect(x, sizes), model.detect(x, sizes), rtol=0, atol=0)
    assert again.classes == CLASSES
    assert again(x, torch.tensor([[[1.0, 4, 4, 40, 50]]] * 2)).isfinite()


def test_the_structure_of_a_detector_tells_its_layers_and_its_preprocessing(tmp_path: Path) -> None:
    saved(tmp_path, "retinanet_r18_fpn_x0_25")
    structure = read_structure(tmp_path)
    assert structure.resize == (100, 60)
    layer = structure.layers["head.class_convs.0"]
    assert (layer.full, layer.kept, layer.stage) == (64, 42, 6)  # 22 of 64 units are removed
    assert structure.layers["head.boxes"].kept == 36
    assert structure.preprocessing is not None
    pixels = torch.full((3, 32, 96), 51, dtype=torch.uint8)
    torch.testing.assert_close(structure.preprocessing(pixels), torch.full((1, 3, 32, 96), -1.2))


@pytest.mark.parametrize("name", ["retinanet_r18_fpn_x0_25", "faster_rcnn_r18_fpn_x0_25"])
def test_an_exported_detector_gives_the_same_raw_outputs(tmp_path: Path, name: str) -> None:
    model = saved(tmp_path, name)
    export(tmp_path, tmp_path / "detector.pt2")
    program = torch.export.load(tmp_path / "detector.pt2").module()
    for n in (1, 3):
        assert_same(program(images(n)), model(images(n)), rtol=1e-4, atol=1e-5)
