"""`prunebench measure --latency`: one stored run is timed and printed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prunebench.cli.timing import latency_lines, layer_lines
from prunebench.experiments.results import LatencyEntry, LatencyRepetition, LatencyResult, Times
from prunebench.measure.layer_latency import LayerLatencies, LayerLatency

from ..report.conftest import latency
from .conftest import BASE, COLUMNS, L1


def entry(**changed: Any) -> LatencyEntry:
    """4 ms for the base and 2 ms for the network, in two repetitions of 11 passes on a CPU."""

    def times(median_ms: float) -> Times:
        return Times(median_ms=median_ms, q25_ms=0.98 * median_ms, q75_ms=1.02 * median_ms)

    one = LatencyRepetition(network=times(2.0), base=times(4.0), base_again=times(4.0))
    own = {"repetitions": (one, one), "unstable": "", "cores": (3,)}
    return latency("cpu", 1, 2.0, 4.0).model_copy(update=own | changed)


def test_a_table_has_times_quartiles_and_stability() -> None:
    lines = list(latency_lines([entry(), entry(batch_size=64, unstable="it shakes by 5.0 %")]))
    assert lines[0] == "some device · 1 thread, pinned to core 3"
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in lines[2].splitlines()]
    assert rows[2] == [
        "forward", "eager", "1", "2 × 11", "2.00 (1.96–2.04)", "4.00 (3.92–4.08)", "4.00, 4.00",
        "2.00×", "1.92–2.08", "yes",
    ]  # fmt: skip
    assert (rows[3][2], rows[3][-1]) == ("64", "no")
    assert lines[4] == "forward, eager, batch 64: it shakes by 5.0 %."
    assert lines[-1].endswith("differ by at most 3 % in the median.")


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cores": None}, "some device · 1 thread, not pinned"),
        ({"threads": 2, "cores": (0, 1)}, "some device · 2 threads, pinned to core 0, 1"),
        (
            {"device_kind": "cuda", "driver": "570.1", "sm_clock_mhz": 1980},
            "some device · driver 570.1 · SM 1980 MHz · memory clock unknown",
        ),
    ],
)
def test_the_first_line_says_where_it_was_timed(changed: dict[str, Any], words: str) -> None:
    assert next(latency_lines([entry(**changed)])) == words


def test_layers_have_widths_shares_and_a_sum_beside_the_whole() -> None:
    layers = (
        LayerLatency("conv1", "conv", width=4, base_width=8, ms=0.5, base_ms=1.0),
        LayerLatency("fc", "linear", width=10, base_width=10, ms=1.0, base_ms=1.0),
    )
    lines = list(layer_lines(LayerLatencies(layers, 3.0, 5.0), entry()))
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in lines[3].splitlines()]
    assert rows[2:] == [
        ["conv1", "conv", "4/8", "0.500", "16.7 %", "1.00", "2.00×"],
        ["fc", "linear", "10/10", "1.00", "33.3 %", "1.00", "1.00×"],
        ["sum of the layers", "", "", "1.50", "50.0 %", "2.00", "1.33×"],
        ["whole, with hooks", "", "", "3.00", "100.0 %", "5.00", "1.67×"],
        ["whole, without", "", "", "2.00", "–", "4.00", "2.00×"],
    ]


def test_a_stored_run_is_timed_and_its_file_replaced(call: Any, workplace: Path) -> None:
    code, out, err = call("measure", "--latency", str(L1))
    assert (code, err) == (0, "")
    assert out.startswith(f"{L1.relative_to('results')}\n")
    assert out.endswith(f"written to {L1 / 'latency.json'}\n")
    stored = LatencyResult.read(L1, json.loads((L1 / "training.json").read_text())["spec_hash"])
    assert [one.batch_size for one in stored.entries] == [1, 64]
    assert all(one.unstable is not None and one.repetitions for one in stored.entries)


def test_layers_of_a_base_network_are_printed_and_nothing_written(
    call: Any, workplace: Path
) -> None:
    code, out, _ = call("measure", "--latency", str(BASE), "--per-layer", "--no-write")
    assert code == 0
    assert out.count("| sum of the layers ") == 2  # batch 1 and 64
    assert "| stages.2.2.conv2  | conv   | 16/16 |" in out
    assert not (BASE / "latency.json").exists()


def test_masks_alone_are_not_timed(call: Any, workplace: Path) -> None:
    code, out, _ = call("measure", "--latency", str(COLUMNS))
    assert code == 0
    assert out.splitlines()[1] == ("weights are masked and no unit was removed: masks save no time")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--latency", str(L1), "--only", "cost"), "--only: not allowed with --latency, which"),
        (("--latency", str(L1), "--finished"), "--finished: not allowed with --latency, which"),
        (("--per-layer",), "--per-layer: needs --latency RUN"),
        (("--no-write",), "--no-write: needs --latency RUN"),
        (("--latency", "nowhere"), "nowhere/training.json: no such file"),
    ],
)
def test_options_that_do_not_belong_together_are_named(
    call: Any, workplace: Path, arguments: tuple[str, ...], words: str
) -> None:
    code, out, err = call("measure", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith(f"prunebench: {words}")
