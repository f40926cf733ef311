"""The report of the runs that look like those of the experiment `digits`."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.report.pages.report_page import write_report
from prunebench.report.runs_csv import read_runs


@pytest.fixture(scope="session")
def report(runs_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report and the pages of its runs; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("report")
    write_report(read_runs(runs_csv), folder)
    return folder
