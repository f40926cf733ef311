"""Runs whose method's source has changed since: their mark, a note, and how to repeat them."""

from __future__ import annotations

import math
import shlex
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from prunebench.experiments.spec import ratio_slug, run_path

OTHER = "other"  # the mark in the column `code` of runs.csv


def by_other_code(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that other code of their method has made."""
    return runs[runs["code"] == OTHER] if "code" in runs else runs[:0]


def other_code_note(runs: pd.DataFrame) -> str:
    """Return the note below a table; "" if there are no such runs."""
    methods = ", ".join(by_other_code(runs)["method"].unique())
    return methods and f"Computed by another version of the method's source code: {methods}."


def rerun_lines(frame: pd.DataFrame) -> list[str]:
    """Return, for each experiment, a line on how those runs are repeated.

    Raising the method's `revision` does so, or else a command that repeats exactly those runs.
    Reused rows are left out: their runs are not stored here.
    """
    lines = []
    mine = frame[frame["reused"].isna()] if "reused" in frame else frame
    for experiment, runs in by_other_code(mine).groupby("experiment", sort=False):
        folders = [run_folder(run) for run in runs.to_dict("records")]
        total = (frame["experiment"] == experiment).sum()
        methods = ", ".join(runs["method"].unique())
        lines.append(
            f"{len(runs)} of {total} runs were computed by another version of their method's "
            f"source code; if the edit changes results, raise `revision` of {methods}, and the "
            "workflow repeats its runs; to repeat these without that: "
            f"{rerun_command(str(experiment), folders)}"
        )
    return lines


def rerun_command(experiment: str, folders: Sequence[str]) -> str:
    """Return the command that repeats the runs of some folders, and all that follows."""
    command = ["snakemake", "--cores", "all", "--config", f"experiments={experiment}"]
    return f"{shlex.join(['prunebench', 'discard', *folders])} && {shlex.join(command)}"


def run_folder(run: Mapping[Hashable, Any]) -> str:
    """Return the folder of a row's run, in the folder of the workflow."""
    return f"results/{_path(run)}"


def log_file(run: Mapping[Hashable, Any]) -> str:
    """Return the log of the job that trained a row, in the folder of the workflow."""
    return f"results/logs/{_path(run)}.log"


def _path(run: Mapping[Hashable, Any]) -> str:
    ratio = ratio_slug(None if math.isnan(run["ratio"]) else run["ratio"], run["ratio_kind"])
    names = ("experiment", "dataset", "architecture", "method", "setting")
    return run_path(**{str(name): run[name] for name in names}, ratio=ratio, seed=run["seed"])
