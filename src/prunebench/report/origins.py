"""Notes below a table on where its rows come from: reused files, and several processors."""

from __future__ import annotations

import json

import pandas as pd

SHOWN_VERSIONS = ("prunebench", "torch")


def reused_rows(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that were taken from another file."""
    return runs[runs["reused"].notna()] if "reused" in runs else runs[:0]


def reused_share(runs: pd.DataFrame) -> str:
    """Return how many runs are reused, in words; "" if there are none.

    >>> reused_share(pd.DataFrame({"reused": ["old.csv", None]})), reused_share(pd.DataFrame())
    ('1 of 2 runs reused', '')
    """
    count = len(reused_rows(runs))
    return f"{count} of {len(runs)} runs reused" if count else ""


def origin_notes(runs: pd.DataFrame) -> list[str]:
    """Return the notes below a table; none if all rows were computed here on one processor."""
    notes = []
    if "reused" in runs:
        for file, rows in reused_rows(runs).groupby("reused", sort=False):
            words = f"{len(rows)} of {len(runs)} runs, computed on {origin(rows)}"
            notes.append(f"Reused from {file}: {words}.")
    return [*notes, *_several_processors(runs)]


def origin(rows: pd.DataFrame) -> str:
    """Return devices, versions and dates of some rows in words."""
    words = [" and ".join(sorted(set(_places(rows).dropna())) or ["an unknown processor"])]
    versions = [json.loads(text) for text in rows["versions"].dropna().unique()]
    for package in SHOWN_VERSIONS:
        found = sorted({version[package] for version in versions if package in version})
        words += [f"{package} {' and '.join(found)}"] if found else []
    dates = sorted(rows["date"].dropna().unique())
    words += (
        [f"on {dates[0]}" if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"] if dates else []
    )
    return ", ".join(words)


def _several_processors(runs: pd.DataFrame) -> list[str]:
    """Return a note if the rows were computed on several kinds of devices."""
    if not {"device", "processor"} <= set(runs):
        return []
    places = _places(runs)
    counts = places.value_counts()
    if len(counts) < 2:
        return []
    most, *others = counts.index
    words = [f"{counts[most]} runs on {most}"]
    for place in others:
        methods = ", ".join(runs.loc[places == place, "method"].unique())
        words.append(f"{counts[place]} on {place} ({methods})")
    return [f"Computed on different processors, whose rounding differs: {'; '.join(words)}."]


def _places(runs: pd.DataFrame) -> pd.Series[str]:
    """Return the device of each row, or the processor of one that was trained on it."""
    return runs["device"].where(runs["device"] != "cpu", runs["processor"])
