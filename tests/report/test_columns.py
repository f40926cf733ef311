from __future__ import annotations

import pytest

from prunebench.report import runs_csv as columns


def test_published_columns_come_first() -> None:
    assert columns.ordered([])[:8] == [
        "paper",
        "table",
        "task",
        "dataset",
        "architecture",
        "method",
        "setting",
        "ratio",
    ]


def test_no_column_stands_twice() -> None:
    names = columns.ordered(["latency_ms_cpu_b1", "top1", "magnitude_ratio"])
    assert len(names) == len(set(names))


def test_latencies_go_by_device_then_batch_size_as_a_number() -> None:
    given = [
        name for b in (64, 8) for d in ("cuda", "cpu") for name in columns.latency_columns(d, b)
    ]
    latencies = [name for name in columns.ordered(given) if columns.is_latency(name)]
    assert latencies[:3] == [
        "latency_ms_cpu_b8",
        "latency_base_ms_cpu_b8",
        "latency_speedup_cpu_b8",
    ]
    assert [name for name in latencies if name.startswith("latency_ms_")] == [
        "latency_ms_cpu_b8",
        "latency_ms_cpu_b64",
        "latency_ms_cuda_b8",
        "latency_ms_cuda_b64",
    ]


def test_summary_figures_stand_between_latencies_and_provenance() -> None:
    names = columns.ordered(["mask_distance", "latency_ms_cpu_b1", "gram"])
    here = names.index("latency_ms_cpu_b1")
    assert names[here - 1 : here + 4] == [
        "selection_seconds",
        "latency_ms_cpu_b1",
        "gram",
        "mask_distance",
        "capped",
    ]


@pytest.mark.parametrize(
    ("name", "fixed"), [("top1", True), ("history", True), ("latency_ms_cpu_b1", False)]
)
def test_fixed_columns_are_those_of_every_table(name: str, fixed: bool) -> None:
    assert columns.is_fixed(name) is fixed
