"""A network and a data set of the user's own, in modules beside the Snakefile."""

from __future__ import annotations

import csv
from pathlib import Path

from tests.workflow.conftest import planned, snakemake
from tests.workflow.test_quick import AFTER_A_RUN, edit

NETS = '''
"""Networks."""
from torch import nn

from parts import block  # another module of this folder


def make(num_classes, in_channels=3, width=8):
    return nn.Sequential(
        *block(in_channels, width), *block(width, width),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),
    )
'''
PARTS = """
from torch import nn


def block(c_in, c_out):
    return nn.Conv2d(c_in, c_out, 3, padding=1), nn.BatchNorm2d(c_out), nn.ReLU()
"""
DATA = '''
import numpy as np

from prunebench.data.info import RawSplits


def halves():
    """Return dark and bright images of one channel."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = (rng.integers(0, 128, (120, 1, 8, 8)) + 127 * labels[:, None, None, None]).astype("u1")
    return RawSplits(train_images=images[:80], train_labels=labels[:80],
                     test_images=images[80:], test_labels=labels[80:])
'''
EXPERIMENT = """
title: Own code
datasets: [data_sets:halves]
networks:
  mine.nets:make: {}
seeds: [0]
ratios: [0.5]
recipes: {base: two, fine_tune: two}
methods:
  unpruned: {}
  l1: {by_network: {"mine.nets:make": {roles: [stem]}}}
"""
RECIPE = (
    "epochs: 2\nbatch_size: 16\nlr: 0.05\nweight_decay: 0\nnormalize: dataset\n"
    "schedule: {kind: cosine, per: step}\n"
)
OWN = ("--config", "experiments=own")


def test_own_code_runs_through_the_workflow_and_its_edits_rerun(workflow: Path) -> None:
    (workflow / "mine").mkdir()
    for name, text in {
        "mine/nets.py": NETS,
        "parts.py": PARTS,
        "data_sets.py": DATA,
        "config/experiments/own.yaml": EXPERIMENT,
        "config/recipes/two.yaml": RECIPE,
    }.items():
        (workflow / name).write_text(text, encoding="utf-8")
    done = snakemake(workflow, "--cores", "1", *OWN)
    assert done.returncode == 0, done.stdout
    with (workflow / "results/own/runs.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows["unpruned"]["architecture"] == "mine.nets.make"
    assert rows["unpruned"]["dataset"] == "data_sets.halves"
    assert float(rows["unpruned"]["top1"]) > 90
    assert int(rows["l1"]["macs"]) < int(rows["unpruned"]["macs"])

    everything = AFTER_A_RUN | {"base": 1, "prune": 2}
    edit(workflow / "parts.py", "padding=1)", "padding=1, bias=False)")
    assert planned(workflow, *OWN) == everything
    edit(workflow / "parts.py", "padding=1, bias=False)", "padding=1)  # comments do not count")
    edit(workflow / "data_sets.py", "default_rng(0)", "default_rng(1)")
    assert planned(workflow, *OWN) == everything | {"data": 1}
