"""`prunebench prune --model module:function`, beside the stage `prune`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import prunebench as pb
from tests.own_network.own_networks import classifier, images

CODE = """
from tests.own_network.own_networks import batches, classifier, unet, unet_inputs

def loaders():
    return batches(4, 8), batches(2, 8)

def training():
    return batches(4, 8)

def three():
    return 1, 2, 3

def fails():
    raise OSError("no such folder: photos")
"""
OWN = "prune --model own_code_of_tests:classifier --out pruned"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder with a module of the user."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parents[2])
    (tmp_path / "own_code_of_tests.py").write_text(CODE, encoding="utf-8")
    return tmp_path


def test_a_network_is_pruned_reported_and_stored(call: Any, folder: Path) -> None:
    more = "--data own_code_of_tests:loaders --criterion fisher --macs 0.5 --keep head"
    code, out, err = call(*f"{OWN} {more} --export n.safetensors".split())
    assert (code, err) == (0, "")
    assert out.startswith("Classifier · fisher · 0.5 of the MACs, 0.5")
    assert "accuracy    " in out
    assert "n.safetensors · outputs equal to " in out
    assert (folder / "pruned" / "report.txt").read_text() in out
    model = pb.load("pruned", model=classifier())
    assert model.head[0].out_features == 12
    assert model(images(2)).shape == (2, 4)


def test_no_data_is_needed_for_a_criterion_of_weights(call: Any, folder: Path) -> None:
    assert call(*f"{OWN} --image 3x8x8 --params 0.3".split())[0] == 0
    content = json.loads((folder / "pruned" / "structure.json").read_text())
    assert content["network"] == "tests.own_network.own_networks.Classifier"


def test_a_method_trains_and_leaves_no_checkpoint(call: Any, folder: Path) -> None:
    more = "--data own_code_of_tests:training --method greg_1 --epochs 8 --units 0.25 --round-to 2"
    code, out, _ = call(*f"{OWN} {more}".split())
    assert code == 0
    assert "fine_tune  epoch" in out
    assert sorted(path.name for path in (folder / "pruned").iterdir()) == [
        "masks.safetensors", "model.safetensors", "report.txt", "structure.json",
    ]  # fmt: skip
    assert pb.load("pruned", model=classifier()).stem.out_channels == 6


def test_the_largest_ratio_is_searched(call: Any, folder: Path) -> None:
    more = "--data own_code_of_tests:loaders --max-drop 100 --macs 0.4 --recalibrate"
    code, out, _ = call(*f"{OWN} {more}".split())
    assert code == 0
    assert "tried ratios:" in out


def test_a_stored_network_is_exported(call: Any, folder: Path) -> None:
    pb.prune(classifier(), images(), ratio=0.5).save("pruned")
    assert call(*["export", "pruned", "--out", "n.pt2"])[2].endswith(
        "pass model=, an unpruned network of that class\n"
    )
    code, out, _ = call(
        *["export", "pruned", "--out", "n.pt2", "--model", "own_code_of_tests:classifier"]
    )
    assert code == 0
    assert out.startswith("n.pt2 · outputs equal to ")
    assert torch.export.load("n.pt2").module()(images(3)).shape == (3, 4)


def test_two_inputs(call: Any, folder: Path) -> None:
    text = CODE + "\ndef pairs():\n    return [(unet_inputs(2), 0)]\n"
    (folder / "own_pairs_of_tests.py").write_text(text, encoding="utf-8")
    arguments = "prune --model own_pairs_of_tests:unet --data own_pairs_of_tests:pairs --macs 0.5"
    code, out, _ = call(*f"{arguments} --out pruned".split())
    assert (code, out[:4]) == (0, "UNet")


@pytest.mark.parametrize("arguments", ["prune --model --help", "prune --help --model=a:b"])
def test_its_help_is_its_own(call: Any, arguments: str) -> None:
    code, out, _ = call(*arguments.split())
    assert code == 0
    assert "Prune a network of your own" in out
    assert "--experiment" not in out


def test_the_stage_points_to_it(call: Any) -> None:
    out = call("prune", "--help")[1]
    assert "--experiment" in out
    assert "--macs" not in out
    assert "prunebench prune --model --help" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (f"{OWN} --macs 0.5 --experiment digits", "--experiment: not allowed with --model"),
        (f"{OWN} --macs 0.5 --every", "--every: not allowed with --model"),
        ("prune --method l1 --macs 0.5", "--macs: needs --model"),
        ("prune --data=a:b", "--data: needs --model"),
        (f"{OWN} --macs 0.5 --params 0.3", "--params: not allowed with --macs"),
        (OWN, "--macs: needed, or --params, --units or --max-drop"),
        (f"{OWN} --macs 0.5", "--image: needed without --data, as in 3x224x224"),
        (f"{OWN} --macs 0.5 --image 8x8", "--image: '8x8' is not of the form CxHxW"),
        (f"{OWN} --macs 0.5 --image 3x8x8 --recalibrate", "--recalibrate: needs --data"),
        (f"{OWN} --macs 1.5 --image 3x8x8", "ratio: 1.5 is not in [0, 1)"),
        (f"{OWN} --macs 0.5 --image 3x8x8 --device tpu9", "--device: 'tpu9' cannot be used"),
        (f"{OWN} --macs 0.5 --image 3x8x8 --max-drop 1", "max_drop: it needs evaluate="),
        (
            f"{OWN} --macs 0.5 --data own_code_of_tests:fails",
            "data own_code_of_tests:fails: no such folder: photos",
        ),
        (
            f"{OWN} --macs 0.5 --data own_code_of_tests:three",
            "data own_code_of_tests:three: returns",
        ),
        (f"{OWN} --macs 0.5 --data own_code_of_tests:non", "data own_code_of_tests:non: unknown"),
        ("prune --model nets --macs 0.5 --out p", "--model: 'nets' is not of the form module:func"),
        ("prune --model no_nets:a --macs 0.5 --out p", "network no_nets:a: no module 'no_nets'"),
    ],
)
def test_a_mistake_is_one_line(call: Any, folder: Path, arguments: str, message: str) -> None:
    code, out, err = call(*arguments.split())
    assert (code, out) == (1, "")
    assert err.startswith(f"prunebench: {message}")
    assert err.count("\n") == 1
    assert not (folder / "pruned").exists()
