"""The networks to download: the table in docs/networks.md, and the files beside the page."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pandas as pd
from stored import REFERENCE
from text import styled, table

MARK = "<!-- networks -->"
FOLDER = "networks"  # of the files on the site
HEAD = ("network", "method", "ratio", "top-1 (%)", "drop (points)", "MACs", "parameters", "file")


def files() -> list[Path]:
    """Return the packed runs of all stored experiments."""
    return sorted(REFERENCE.glob("*/networks/*.zip"))


def with_networks(text: str) -> str:
    """Put the table in the place of the mark: by target, the most accurate network first."""
    if MARK not in text:
        return text
    found = pd.concat([_row(path) for path in files()])
    found = found.sort_values(["architecture", "ratio", "top1"], ascending=[True, True, False])
    rows = [
        (
            row.architecture,
            row.method,
            f"{row.ratio_kind}-{row.ratio:g}",
            f"{row.top1:.2f}",
            f"{row.drop:.2f}",
            f"{row.macs_theoretical / 1e6:.1f} M",
            f"{row.params / 1e3:.0f} k",
            f"[{row.bytes / 1e3:.0f} kB]({FOLDER}/{row.file})",
        )
        for row in found.itertuples()
    ]
    return text.replace(MARK, styled("numbers", table(HEAD, rows, numbers=range(3, 8))))


def _row(path: Path) -> pd.DataFrame:
    """Return the stored row of a packed run, with name and size of the file."""
    rows = pd.read_csv(path.parents[1] / "runs.csv")
    own = rows[rows["spec_hash"] == spec_hash(path)]
    return own.assign(file=path.name, bytes=path.stat().st_size)


def spec_hash(path: Path) -> str:
    """Return the hash of the specification of a packed run."""
    with zipfile.ZipFile(path) as packed:
        [name] = [name for name in packed.namelist() if name.endswith("/training.json")]
        return str(json.loads(packed.read(name))["spec_hash"])
