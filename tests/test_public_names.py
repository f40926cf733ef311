from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

import prunebench


@pytest.mark.parametrize("library", ["torch", "numpy", "pandas", "pydantic", "matplotlib"])
def test_importing_the_package_imports_none_of_its_libraries(library: str) -> None:
    code = f"import sys, prunebench; sys.exit({library!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_can_be_imported() -> None:
    assert all(getattr(prunebench, name) is not None for name in prunebench.__all__)
    assert dir(prunebench) == prunebench.__all__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'prunebench' has no attribute 'prone'"):
        _ = prunebench.prone


def test_channels_are_found_and_removed_by_public_names() -> None:
    model = prunebench.build("resnet20_x0_25", num_classes=10)
    example = torch.zeros(1, 3, 32, 32)
    graph = prunebench.trace(model, example)
    group = next(iter(graph.groups))
    smaller = prunebench.remove(model, graph, {group: torch.tensor([0])})
    masked = prunebench.mask(model, graph, {group: torch.tensor([0])})
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(smaller.eval()(images), masked.eval()(images))


def test_the_package_does_not_claim_to_reproduce() -> None:
    root = Path(__file__).parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "reproduced" not in project["description"]
