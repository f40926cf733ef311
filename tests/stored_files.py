"""Edits of result files, for tests about runs that recorded something else."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from prunebench.experiments.results import CHECKSUM
from prunebench.experiments.spec import digest


def change(path: Path, *, without: Collection[str] = (), **values: Any) -> None:
    """Set keys of a result file, and remove some, as if the run had recorded it like that."""
    content = json.loads(path.read_text(encoding="utf-8")) | values
    for name in (CHECKSUM, *without):
        content.pop(name, None)
    path.write_text(json.dumps(content | {CHECKSUM: digest(content)}), encoding="utf-8")
