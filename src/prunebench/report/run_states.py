"""What has become of the runs of an experiment: done, running, failed or waiting.

A run is done when its folder holds a result of its specification, and running while a living
process holds the lock of the folder. Otherwise the last line of a log tells whether it failed: that
of its last job, which may have ended before training, or that of the run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from prunebench.core.errors import ResultError
from prunebench.core.lock import writer_of
from prunebench.experiments.reuse import is_stored

State = Literal["done", "running", "failed", "waiting"]
STATES: tuple[State, ...] = get_args(State)

ERROR = "prunebench: "
# The end of a log after Ctrl-C or SIGTERM; an interpreter that starts writes the second one
STOPPED = re.compile(r"prunebench: stopped\b|KeyboardInterrupt\b")
EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Exit|Interrupt|Warning)\b")
KILLED = "ended without a message; it may have been killed, as for lack of memory"
TAIL_BYTES = 8192


@dataclass(frozen=True)
class RunState:
    """The state of a run or base network.

    Attributes
    ----------
    reason
        Why it failed, who runs it, or what it waits for; empty if there is nothing to say.
    log
        The last lines of its log, oldest first.
    log_file
        Path of this log.
    """

    path: str
    state: State
    reason: str = ""
    log: tuple[str, ...] = ()
    log_file: Path | None = None


def states_of(
    results: Path, runs: Mapping[str, Mapping[str, Any]], bases: Mapping[str, Mapping[str, Any]]
) -> Iterator[RunState]:
    """Yield the states of the base networks that are not done, then those of all runs.

    `runs` and `bases` are the entries of a resolved file by path, with the keys `hash` and, of a
    run, `base_path` and `start`.
    """
    failed: dict[str, str] = {}
    for path, base in bases.items():
        found = state_of(results, path, base["hash"])
        if found.state == "failed":
            failed[path] = found.reason
        if found.state != "done":
            yield found
    for path, run in runs.items():
        found = state_of(results, path, run["hash"])
        cause = failed.get(run["base_path"]) if run["start"] == "base" else None
        if found.state == "waiting" and cause is not None:
            found = replace(found, reason=f"its base network failed: {cause}")
        yield found


def state_of(results: Path, path: str, spec_hash: str) -> RunState:
    """Return the state of the run or base network of a path below `results`."""
    try:
        if is_stored(results / path, spec_hash):
            return RunState(path, "done")
    except ResultError as error:
        return RunState(path, "failed", str(error))
    file = results / "logs" / f"{path}.log"
    log = last_lines(file)
    writer = writer_of(results / path)
    if writer is not None and writer.is_alive:
        return RunState(path, "running", str(writer), log, file)
    job_file = file.with_suffix(".job.log")
    job = last_lines(job_file)
    if job and _is_error(job[-1]) and job[-1:] != log[-1:]:  # it has ended before training
        log, file = job, job_file
    if not log:
        return RunState(path, "waiting")
    last = log[-1].removeprefix(ERROR)
    if STOPPED.match(log[-1]):
        reason = last if last.startswith("stopped by") else "was stopped"
        return RunState(path, "waiting", reason, log, file)
    return RunState(path, "failed", last if _is_error(log[-1]) else KILLED, log, file)


def _is_error(line: str) -> bool:
    return line.startswith(ERROR) or EXCEPTION.match(line) is not None


def described(states: Sequence[RunState], *, lines: int, most: int | None) -> Iterator[str]:
    """Yield the states in lines: the numbers, then the runs that are not done, failed ones first.

    `lines` is the number of lines of a log, `most` the number of runs of a state, None for all.
    """
    counts = Counter(one.state for one in states)
    yield ", ".join(f"{counts[state]} {state}" for state in STATES)
    for state in ("failed", "running", "waiting"):
        found = [one for one in states if one.state == state]
        for one in found[:most]:
            yield f"{state:<8} {one.path}{f' · {one.reason}' if one.reason else ''}"
            log = one.log[-lines:] if lines and state != "waiting" else ()
            yield from (f"         | {line}" for line in log)
            if state == "failed" and one.log_file is not None:
                yield f"         {one.log_file}"
        if most is not None and len(found) > most:
            yield f"{state:<8} … and {len(found) - most} more (--every lists them)"


def exit_code(states: Collection[RunState]) -> int:
    """Return 0 if all are done, 1 if one has failed, 3 if some are running or waiting."""
    if any(one.state == "failed" for one in states):
        return 1
    return 0 if all(one.state == "done" for one in states) else 3


def last_lines(log: Path) -> tuple[str, ...]:
    """Return the last lines of a file that are not empty; none if there is no file."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(line.strip() for line in text.splitlines() if line.strip())
