"""The size of the test set and the share of the epochs, stated beside accuracies."""

from __future__ import annotations

import pandas as pd

from prunebench.report.runs_csv import metric_of


def size_of_test_set(runs: pd.DataFrame) -> str:
    """Return the size of a network's test set in words; "" if the results do not record it.

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


def shortened(frame: pd.DataFrame) -> str:
    """Return the share of the recipes' epochs, for a title; "" if no run is shortened.

    >>> shortened(pd.DataFrame({"epochs_scale": [1.0, 0.05]}))
    'epochs × 0.05'
    """
    return ", ".join(
        f"epochs × {scale:g}" for scale in _values(frame, "epochs_scale") if scale != 1
    )


def titled(title: str, frame: pd.DataFrame) -> str:
    """Return the title of a table, with the share of the epochs if the runs are shortened."""
    words = shortened(frame)
    return title if not words or words in title else f"{title} · {words}"


def _values(frame: pd.DataFrame, column: str) -> list[float]:
    return sorted(frame[column].dropna().unique()) if column in frame else []
