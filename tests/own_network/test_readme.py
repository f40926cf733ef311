from __future__ import annotations

from pathlib import Path

import pytest
import torch

import prunebench as pb
from tests.own_network.own_networks import Classifier, batches, images

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_prunes_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = README.read_text(encoding="utf-8").split("## Prune your own network\n")[1]
    code = section.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = Classifier(width=32)
    names = {"model": model, "example": images(), "train_loader": batches()}
    exec(compile(code, "README.md", "exec"), names)
    assert "masked = removed to" in capsys.readouterr().out
    result = names["result"]
    assert result.macs.removed >= 0.5
    assert result.model.head[0].out_features == 12
    assert pb.load("pruned", model=model)(images()).shape == (1, 4)
    assert Path("pruned.onnx").stat().st_size > 1000
