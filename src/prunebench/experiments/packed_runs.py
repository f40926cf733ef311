"""A finished run as one file, for others to load and verify."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from prunebench.core.errors import ResultError
from prunebench.core.files import read_bytes, replacing
from prunebench.experiments.results import (
    RECEIPT_FILE,
    TRAINED_FILES,
    CostResult,
    DetectionsResult,
    LatencyResult,
    TrainingResult,
)
from prunebench.experiments.stored_spec import stored_spec

PACKED = (
    TrainingResult.FILE,
    *TRAINED_FILES,
    RECEIPT_FILE,
    CostResult.FILE,
    LatencyResult.FILE,
    DetectionsResult.FILE,
)


def pack(folder: Path, to: Path) -> Path:
    """Write the run or base network in `folder` as a .zip into the folder `to`; return its path.

    The file's entries lie at their paths below the results, so that it is unpacked into a folder of
    results. The same run gives the same bytes. ResultError if a file is missing or damaged.
    """
    training = TrainingResult.read(folder)
    spec, _ = stored_spec(folder)
    for problem in training.damages(folder):
        raise ResultError(problem)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in PACKED:
            if (folder / name).exists():
                entry = zipfile.ZipInfo(f"{spec.path}/{name}")  # dated 1980
                entry.external_attr = 0o644 << 16
                packed.writestr(entry, read_bytes(folder / name), zipfile.ZIP_DEFLATED)
    path = to / f"{spec.path.replace('/', '-')}.zip"
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())
    return path
