"""Many made-up runs: 30 methods, five ratios, three seeds, two networks, measured latencies."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest

from prunebench.report.looks import LOOKS
from prunebench.report.runs_csv import latency_columns
from tests.report.conftest import few_runs

METHODS = [name for name in LOOKS if name not in ("l1_columns", "rdt", "orthoreg_from_base")]
RATIOS = (0.3, 0.5, 0.65, 0.75, 0.875)
SEEDS = (0, 1, 2)
NETWORKS = {"resnet20": 92.4, "vgg16_x0_25": 94.1}
LAYERS = 18


@pytest.fixture(scope="session")
def many_runs() -> pd.DataFrame:
    """Return the runs; those of one method collapse at the highest ratio."""
    assert len(METHODS) == 30
    return few_runs(*_rows(random.Random(0)))


def _rows(noise: random.Random) -> Iterator[dict[str, Any]]:
    for network, base in NETWORKS.items():
        for place, method in enumerate(METHODS):
            loss = noise.uniform(0.4, 2.5)
            for ratio in RATIOS:
                speedup = (1 - ratio) ** -1.6 * noise.uniform(0.98, 1.02)
                mean = base - loss * (ratio / 0.5) ** 2.2
                if method == "random" and ratio > 0.8:
                    mean = 21.0
                for seed in SEEDS:
                    accuracy = mean + noise.gauss(0, 0.25)
                    yield {
                        "dataset": "cifar10",
                        "architecture": network,
                        "method": method,
                        "ratio": ratio,
                        "seed": seed,
                        "test_images": 10_000,
                        "base_accuracy": base,
                        "base_val_accuracy": base - 0.3,
                        "accuracy": accuracy,
                        "drop": base - accuracy,
                        "speedup_macs": speedup,
                        "speedup_theoretical": speedup,
                        "widths": json.dumps(_widths(place, ratio)),
                        "stages": json.dumps([i // 6 for i in range(LAYERS)]),
                        "history": json.dumps(_history(accuracy, noise)),
                        "insides": json.dumps(_insides()),
                        **_latencies(speedup, place, noise),
                    }


def _widths(place: int, ratio: float) -> dict[str, list[int]]:
    full = [16 * 2 ** (i // 6) for i in range(LAYERS)]
    share = [1 - ratio + 0.2 * math.sin(place + i) * (1 - ratio) for i in range(LAYERS)]
    return {f"layers.{i}": [round(share[i] * full[i]), full[i]] for i in range(LAYERS)}


def _history(end: float, noise: random.Random) -> dict[str, list[Any]]:
    before = [90 + noise.uniform(-2, 2) for _ in range(6)]
    after = [end - 60 * 0.4**i + noise.gauss(0, 0.3) for i in range(12)]
    accuracy = [*before, noise.uniform(15, 70), *after[:-1], end]
    phases = ["regularize"] * 6 + ["regularize"] + ["fine_tune"] * 12
    return {
        "phase": phases,
        "epoch": [*range(1, 7), 6, *range(1, 13)],
        "event": [""] * 6 + ["pruned"] + [""] * 12,
        "train_loss": [None] * 19,
        "val_accuracy": accuracy,
        "test_accuracy": accuracy,
    }


def _insides() -> dict[str, Any]:
    steps = [0, 10, 20, 30]
    return {
        "penalty": {
            "step": steps,
            "low": [1, 2, 3, 4],
            "middle": [1, 3, 5, 7],
            "high": [2, 4, 6, 9],
        }
    }


def _latencies(speedup: float, place: int, noise: random.Random) -> dict[str, float]:
    found: dict[str, float] = {}
    for batch_size, base_ms, power in ((1, 2.1, 0.25), (64, 31.0, 0.7)):
        gain = speedup**power * noise.uniform(0.97, 1.03)
        times = (base_ms / gain, base_ms, gain)
        found |= dict(zip(latency_columns("cpu", batch_size), times, strict=True))
        where = f"cpu_b{batch_size}"
        found[f"latency_speedup_low_{where}"] = 0.95 * gain
        found[f"latency_speedup_high_{where}"] = 1.08 * gain
        found[f"latency_unstable_{where}"] = float(place == 5 and batch_size == 1)
    return found
