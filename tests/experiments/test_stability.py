from __future__ import annotations

import pytest

from prunebench.experiments.results import LatencyRepetition, Times
from prunebench.experiments.stability import instability, speedup_range

from ..report.conftest import latency


def times(median_ms: float) -> Times:
    """Times whose quartiles are a tenth away from the median."""
    return Times(median_ms=median_ms, q25_ms=0.9 * median_ms, q75_ms=1.1 * median_ms)


@pytest.mark.parametrize(
    ("network", "base", "again", "reason"),
    [
        ([2.0, 2.0], [4.0, 4.0], [4.0, 4.0], ""),
        ([100.0, 103.0], [100.0, 103.0], [103.0, 103.0], ""),  # exactly 3 % is stable
        ([2.0, 2.0], [4.0, 4.0], [4.0, 4.2], "the base timed against itself differs by 5.0 %"),
        ([2.0, 2.0], [4.0, 4.2], [4.0, 4.2], "two repetitions of the base differ by 5.0 %"),
        ([2.2, 2.0], [4.0, 4.0], [4.0, 4.0], "two repetitions of the network differ by 10.0 %"),
        (
            [2.0, 2.2],
            [4.0, 5.0],
            [5.0, 5.0],
            "the base timed against itself differs by 25.0 %; two repetitions of the network "
            "differ by 10.0 %; two repetitions of the base differ by 25.0 %",
        ),
    ],
)
def test_more_than_three_percent_are_unstable(
    network: list[float], base: list[float], again: list[float], reason: str
) -> None:
    assert instability(network, base, again) == reason


def test_more_repetitions_are_compared_by_their_extremes() -> None:
    # 100, 102 and 104: neighbors agree, the first and the last do not
    assert instability([1.0] * 3, [100, 102, 104], [100, 102, 104]) == (
        "two repetitions of the base differ by 4.0 %"
    )


def test_range_takes_the_worst_pair_of_quartiles() -> None:
    # base 8 to 9 over network 4 to 5, and base 6 to 10 over network 4 to 4
    assert speedup_range([((8.0, 9.0), (4.0, 5.0)), ((6.0, 10.0), (4.0, 4.0))]) == (1.5, 2.5)


def test_range_of_an_entry_covers_all_passes_and_each_repetition() -> None:
    entry = latency("cpu", 1, 2.0, 4.0)
    assert entry.speedup_range == (4.0 * 0.98 / (2.0 * 1.02), 4.0 * 1.02 / (2.0 * 0.98))
    one = LatencyRepetition(network=times(2.0), base=times(5.0), base_again=times(5.0))
    more = entry.model_copy(update={"repetitions": (one,)})
    assert more.speedup_range == (entry.speedup_range[0], 5.0 * 1.1 / (2.0 * 0.9))


def test_entry_of_an_earlier_version_has_an_unknown_stability() -> None:
    entry = latency("cpu", 1, 2.0, 4.0)
    new = ("mode", "repetitions", "unstable", "cores", "driver", "sm_clock_mhz", "memory_clock_mhz")
    content = {name: x for name, x in entry.model_dump().items() if name not in new}
    read = type(entry).model_validate(content)
    assert (read.unstable, read.repetitions, read.mode) == (None, None, "eager")
