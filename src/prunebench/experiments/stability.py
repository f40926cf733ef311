"""The rule by which a measured latency is stable, and the range of a speedup.

A network, its base and a second copy of the base are timed in turns, in two or more repetitions.
The latency is unstable if a repetition finds the base and its copy more than 3 % apart, or if two
repetitions differ by more than 3 % in the median of the network or of the base. An unstable latency
is shown with its range and never ranked.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST_DIFFERENCE = 0.03  # of two medians that count as equal, relative to the smaller one


def instability(
    network: Sequence[float], base: Sequence[float], base_again: Sequence[float]
) -> str:
    """Return why a latency is unstable, in words; "" if it is stable.

    The arguments are medians in ms, one per repetition: of the network, of its base, and of the
    base's second copy.

    >>> instability([2.0, 2.02], [4.0, 4.1], [4.0, 4.2])
    ''
    >>> instability([2.0, 2.1], [4.0, 4.1], [4.2, 4.1])
    'the base timed against itself differs by 5.0 %; two repetitions of the network differ by 5.0 %'
    """
    pairs = list(zip(base, base_again, strict=True))
    found = {
        "the base timed against itself differs": max(pairs, key=_difference),
        "two repetitions of the network differ": (min(network), max(network)),
        "two repetitions of the base differ": (min(base), max(base)),
    }
    return "; ".join(
        f"{words} by {100 * _difference(pair):.1f} %"
        for words, pair in found.items()
        if max(pair) > (1 + MOST_DIFFERENCE) * min(pair)
    )


def _difference(pair: Sequence[float]) -> float:
    return max(pair) / min(pair) - 1


def speedup_range(
    quartiles: Sequence[tuple[tuple[float, float], tuple[float, float]]],
) -> tuple[float, float]:
    """Return the range of a speedup from lower and upper quartiles in ms.

    Each entry holds the quartiles of the base and those of the network in the same passes. The low
    end is the base's lower over the network's upper quartile, the high end the base's upper over
    the network's lower quartile; of several entries, the lowest and the highest.

    >>> speedup_range([((4.0, 4.5), (2.0, 2.5)), ((4.0, 4.4), (2.2, 2.4))])
    (1.6, 2.25)
    """
    low = min(base[0] / network[1] for base, network in quartiles)
    high = max(base[1] / network[0] for base, network in quartiles)
    return low, high
