"""Runs with a ratio of latency: measured at the end against the base, with a verdict."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from prunebench.core.errors import ConfigError
from prunebench.experiments.latency_table import LatencyTable
from prunebench.experiments.spec import RunSpec
from prunebench.measure.device import device_name
from prunebench.training import latency_target
from prunebench.training.latency_target import LatencyReached
from tests.channels.latency_tables import product_table
from tests.training.conftest import fresh_network
from tests.training.test_train import results, run_spec, train, trained

__all__ = ["results", "trained"]


@pytest.fixture
def table(tmp_path: Path) -> LatencyTable:
    device = device_name(torch.device("cpu"))
    table = product_table(fresh_network(blocks=3), (3, 8, 8), batch_size=2, device=device)
    table.write(tmp_path / "table.json")
    return table


def spec_with(table: LatencyTable, folder: Path, **more: Any) -> RunSpec:
    given = {"latency_table": str(folder / "table.json"), "latency_table_hash": table.hash}
    return run_spec("l1", ratio=0.5, ratio_kind="latency", **given | more)


def measured(monkeypatch: pytest.MonkeyPatch, *ms: float) -> list[Any]:
    """Let the network take these milliseconds, and its base 10; return the arguments.

    All measurements but the last are unstable; a negative time is unstable, too.
    """
    times, calls = list(ms), []

    def compare(*args: Any, **more: Any) -> SimpleNamespace:
        calls.append((*args, more))
        time = times[len(calls) - 1]
        words = "" if len(calls) == len(times) and time > 0 else "it differs by 9.0 %"
        return SimpleNamespace(median_ms=abs(time), base_median_ms=10.0, unstable=words)

    monkeypatch.setattr(latency_target, "compare_latency", compare)
    return calls


@pytest.mark.parametrize(
    ("ms", "summary", "verdict"),
    [
        ((5.2,), {"ratio_reached": 0.48}, "met"),
        ((4.0,), {"ratio_reached": 0.6, "ratio_missed": 1}, "missed"),
        ((9.0, 5.2), {"ratio_reached": 0.48}, "met"),
        ((5.0, 5.0, -6.0), {"ratio_reached": 0.4, "ratio_unstable": 1}, "unstable"),
    ],
)
def test_the_latency_reached_is_measured_and_judged(
    ms: tuple[float, ...],
    summary: dict[str, float],
    verdict: str,
    results: Path,
    table: LatencyTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls = measured(monkeypatch, *ms)
    found = train(spec_with(table, tmp_path), results).summary
    predicted = found.pop("ratio_predicted")
    assert 0.5 <= predicted < 0.51
    assert found == pytest.approx(summary)
    reached = summary["ratio_reached"]
    line = f"{reached:.3f} of the latency removed ({predicted:.3f} predicted, 0.5 asked for): "
    assert f"latency    {line}{verdict} · " in capsys.readouterr().out
    assert len(calls) == len(ms)
    base, pruned, image, more = calls[0]
    assert len(base.stages[0][0].conv1.weight) == 4 > len(pruned.stages[0][0].conv1.weight)
    assert (image, more["batch_size"], more["precision"]) == ((3, 8, 8), 2, "fp32")


def test_rounded_widths_are_measured_too(
    results: Path, table: LatencyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, 9.0)
    summary = train(spec_with(table, tmp_path, options={"round_to": 4}), results).summary
    assert summary.pop("ratio_predicted") < 0.5
    assert summary == pytest.approx({"round_to": 4, "ratio_reached": 0.1})


def test_a_changed_table_stops_the_run(results: Path, table: LatencyTable, tmp_path: Path) -> None:
    spec = spec_with(table, tmp_path)
    table.model_copy(update={"factor": 2.0}).write(tmp_path / "table.json")
    with pytest.raises(ConfigError, match=r"table\.json: the latency table has changed since "):
        train(spec, results)


def test_a_table_of_another_device_stops_the_run(
    results: Path, table: LatencyTable, tmp_path: Path
) -> None:
    other = table.model_copy(update={"device": "another processor"})
    other.write(tmp_path / "table.json")
    with pytest.raises(
        ConfigError, match=r"table\.json: the latency table was measured on another"
    ):
        train(spec_with(other, tmp_path), results)


@pytest.mark.parametrize(
    ("share", "verdict"),
    [
        (0.6, "met"),
        (0.629, "met"),  # 0.63 is 5 % above 0.6
        (0.64, "missed"),
        (0.56, "missed"),  # faster than asked for
    ],
)
def test_the_verdict_is_about_the_remaining_latency(share: float, verdict: str) -> None:
    assert LatencyReached(asked=0.6, predicted=0.6, measured=share).verdict == verdict
