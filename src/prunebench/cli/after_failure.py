"""What the workflow does after a failed job: it collects and draws what is finished."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from prunebench.report.run_states import last_lines


def report_finished(experiment: str, *, reuse: str, tables: str, figures: str) -> None:
    """Write runs.csv, tables, figures and report from the finished runs of an experiment.

    The texts are options of `collect`, of `tables` and `report`, and of `figures`. Costs are
    counted first, latencies are not measured: this may be a login node. The commands' output goes
    to a log. The state of the runs is printed, and the error if a command fails.
    """
    log = Path(f"results/logs/{experiment}/after_failure.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        for command in _commands(experiment, reuse, tables, figures):
            if _run(command, file.fileno()):
                break
        else:
            _say(f"tables and figures in results/{experiment} show the finished runs")
            _run(f"status --experiment {experiment}", None)
            return
    reason = [line.removeprefix("prunebench: ") for line in last_lines(log)[-1:]]
    _say(f"no tables of {experiment}: {' '.join(reason)} ({log})")


def _commands(experiment: str, reuse: str, tables: str, figures: str) -> Iterator[str]:
    runs = f"--experiment {experiment} --runs results/resolved/{experiment}.jsonl"
    table, out = f"--runs-csv results/{experiment}/runs.csv", f"--out results/{experiment}"
    yield f"measure {runs} --only cost --finished"
    yield f"collect {runs} --finished {reuse}"
    yield f"tables {table} {tables} {out}/tables"
    yield f"figures {table} {figures} {out}/figures"
    yield f"report {table} {tables} {out}/report"


def _run(command: str, output: int | None) -> int:
    """Run a command of prunebench; return its exit status."""
    words = [sys.executable, "-m", "prunebench", *shlex.split(command)]
    stderr = subprocess.STDOUT if output is not None else None
    return subprocess.run(words, stdout=output, stderr=stderr, check=False).returncode


def _say(text: str) -> None:
    print(f"prunebench: {text}", file=sys.stderr, flush=True)
