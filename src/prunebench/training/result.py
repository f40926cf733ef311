"""What a finished run writes: training.json beside its network and its history."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from prunebench.core.errors import ResultError
from prunebench.core.files import read_json
from prunebench.core.resolved import PACKAGE
from prunebench.measure.network import MODEL_FILE, file_hash
from prunebench.training.loop import Loop

PACKAGES = ("prunebench", "torch", "numpy", "scikit-learn")


def training_result(loop: Loop) -> dict[str, Any]:
    """Return the accuracies and what the run cost; None where there is no such number.

    `top1` is of the network as it is at the end. The best ones are taken over the end and all
    epochs that may be reported; papers that print the best epoch on the test split are compared
    with `top1_best_test`. `top1_masked` is of the dense network with zeros, where nothing was
    trained after the last plan.
    """
    records = loop.run.records
    val, test = loop.accuracies()
    rows = [row for row in records.history if row.get("reportable")]
    ends = [*rows, {"val_top1": val, "test_top1": test}]
    best_val = None if val is None else max(reversed(ends), key=lambda row: row["val_top1"])
    return {
        "top1": test,
        "val_top1": val,
        "top1_best_val": None if best_val is None else best_val["test_top1"],
        "top1_best_test": max(row["test_top1"] for row in ends),
        "top1_masked": _masked_top1(records.history, records.plans),
        "epochs": round(records.epochs_trained, 6),
        "seconds": {name: round(s, 3) for name, s in records.seconds.items()},
        "selection_seconds": sum(plan["selection_seconds"] for plan in records.plans),
        "summary": loop.method.figures(),
        "capped": records.capped,
        "masked_removed_difference": _largest(
            plan["masked_removed_difference"] for plan in records.plans
        ),
        "plans": records.plans,
        "resumed_at": records.resumed_at,
        "peak_memory_mb": _peak_memory_mb(),
        "device": _device_name(loop.run.device),
        "threads": torch.get_num_threads(),
        "processes": loop.parallel.world,
        "more_parts": loop.more_parts,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "data_sha256": loop.run.dataset.sha256,
        "versions": versions(),
        "commit": commit(),
    }


def _masked_top1(history: list[dict[str, Any]], plans: list[dict[str, Any]]) -> float | None:
    if not plans or not history or history[-1]["event"] != "pruned" or len(history) == 1:
        return None
    top1: float = plans[-1]["test_top1_before"]
    return top1


def _largest(differences: Iterable[float | None]) -> float | None:
    return max((d for d in differences if d is not None), default=None)


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def _peak_memory_mb() -> int:
    """Return the most memory of the host that this process has had; of this call, if resumed."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    if torch.version.cuda and torch.cuda.is_available():
        found["cuda"] = torch.version.cuda
    return found


def commit() -> str | None:
    """Return the commit of the sources, with "+" where they were changed since; None elsewhere."""
    command = ["git", "-C", str(PACKAGE), "describe", "--always", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(
            [*command, "--dirty=+"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def is_finished(folder: Path, spec_hash: str, base_hash: str | None) -> bool:
    """Whether the folder holds the whole result of this specification and base network."""
    try:
        training = read_json(folder / "training.json")
        found = [training[key] for key in ("spec_hash", "base_hash", "weights_sha256")]
        return found == [spec_hash, base_hash, file_hash(folder / MODEL_FILE)]
    except (ResultError, KeyError, TypeError):
        return False
