"""The size and noise of the test set and what is shortened, stated beside accuracies."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from prunebench.report.runs_csv import metric_of

_NOISE_FROM = 1000  # images; below, one image is the coarser limit that a reader needs


def size_of_test_set(runs: pd.DataFrame) -> str:
    """Return the size of a network's test set in words; "" if the results do not record it.

    Short enough for the title of a figure's panel.

    >>> size_of_test_set(pd.DataFrame({"test_images": [360.0, 360.0]}))
    'test set: 360 images; one image is 0.28 points'
    """
    sizes = _values(runs, "test_images")
    if not sizes:
        return ""
    images = " or ".join(f"{size:,.0f}" for size in sizes)
    if not metric_of(runs).counts_images:
        return f"test set: {images} images"
    points = " or ".join(f"{100 / size:.2g}" for size in sizes)
    return f"test set: {images} images; one image is {points} points"


def note_of_test_set(runs: pd.DataFrame) -> str:
    """Return the size of a network's test set in words, with its noise if it is large.

    For 1,000 images or more, one image says less than the binomial standard error at the base's
    accuracy: the deviation over other test sets of the same size.

    >>> note_of_test_set(pd.DataFrame({"test_images": [10_000], "base_accuracy": [92.0]}))[49:]
    '; binomial standard error at 92.00 %: 0.27 points'
    """
    words, sizes = size_of_test_set(runs), _values(runs, "test_images")
    if not sizes or sizes[0] < _NOISE_FROM or not metric_of(runs).counts_images:
        return words
    bases = runs.drop_duplicates("seed") if "seed" in runs else runs
    base = bases["base_accuracy"].mean()
    errors = " or ".join(f"{standard_error(base, size):.2f}" for size in sizes)
    return f"{words}; binomial standard error at {base:.2f} %: {errors} points"


def standard_error(accuracy: float, images: float) -> float:
    """Return the binomial standard error of an accuracy in percent, in points.

    >>> round(standard_error(92.0, 10_000), 3)  # 100 * sqrt(0.92 * 0.08 / 10000)
    0.271
    """
    return float((accuracy * (100 - accuracy) / images) ** 0.5)


def shortened(frame: pd.DataFrame) -> str:
    """Return how runs are shortened, for a title; "" if none is.

    >>> shortened(pd.DataFrame({"epochs_scale": [1.0, 0.05]}))
    'epochs × 0.05'
    >>> shortened(pd.DataFrame({"max_steps": [200], "max_images": [1000]}))
    'at most 200 steps per phase, at most 1,000 images'
    """
    scales = [f"epochs × {scale:g}" for scale in _values(frame, "epochs_scale") if scale != 1]
    steps = [f"at most {n:,.0f} steps per phase" for n in _values(frame, "max_steps")]
    images = [f"at most {n:,.0f} images" for n in _values(frame, "max_images")]
    return ", ".join([*scales, *steps, *images])


def titled(title: str, frame: pd.DataFrame) -> str:
    """Return the title of a table, with words about runs that are shortened."""
    words = [one for one in shortened(frame).split(", ") if one and one not in title]
    return " · ".join([title, *words])


def number_ranges(numbers: Iterable[int]) -> str:
    """Return whole numbers in ascending order; three or more in a row are shortened.

    >>> number_ranges([0, 1, 2, 5, 6]), number_ranges([4, 0]), number_ranges([3])
    ('0–2, 5, 6', '0, 4', '3')
    """
    rows: list[list[int]] = []
    for number in sorted(numbers):
        if rows and number == rows[-1][-1] + 1:
            rows[-1].append(number)
        else:
            rows.append([number])
    words = [f"{row[0]}–{row[-1]}" if len(row) > 2 else ", ".join(map(str, row)) for row in rows]
    return ", ".join(words)


def _values(frame: pd.DataFrame, column: str) -> list[float]:
    return sorted(frame[column].dropna().unique()) if column in frame else []
