from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.core.files import write_json
from prunebench.core.lock import only_writer
from prunebench.report.run_states import (
    KILLED,
    RunState,
    described,
    exit_code,
    last_lines,
    state_of,
    states_of,
)

RUN, BASE = "e/d/a/l1/default/0.5/seed0", "base/d/a/r/seed0"
ENTRY = {"hash": "1234", "base_path": BASE, "start": "base"}


def log_of(results: Path, path: str, text: str) -> Path:
    log = results / "logs" / f"{path}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text, encoding="utf-8")
    return log


def test_a_run_with_a_result_of_its_specification_is_done(tmp_path: Path) -> None:
    write_json(tmp_path / RUN / "training.json", {"spec_hash": "1234"})
    assert state_of(tmp_path, RUN, "1234") == RunState(RUN, "done")
    assert state_of(tmp_path, RUN, "other") == RunState(RUN, "waiting")


def test_a_damaged_result_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / RUN).mkdir(parents=True)
    (tmp_path / RUN / "training.json").write_text('{"spec', encoding="utf-8")
    found = state_of(tmp_path, RUN, "1234")
    assert found.state == "failed"
    assert "training.json: not valid JSON" in found.reason


def test_a_run_whose_lock_is_held_is_running(tmp_path: Path) -> None:
    log_of(tmp_path, RUN, "epoch 1\n")
    with only_writer(tmp_path / RUN, print, at_once=False):
        found = state_of(tmp_path, RUN, "1234")
    assert found.state == "running"
    assert found.reason.startswith("process ")
    assert found.log == ("epoch 1",)


@pytest.mark.parametrize(
    ("log", "state", "reason"),
    [
        ("epoch 1\nprunebench: the loss is nan\n", "failed", "the loss is nan"),
        ('Traceback:\n  File "x"\nKeyError: 3\n', "failed", "KeyError: 3"),
        ("torch.OutOfMemoryError: CUDA\n", "failed", "torch.OutOfMemoryError: CUDA"),
        ("epoch 1\nepoch 2\n", "failed", KILLED),
        ("prunebench: stopped by signal 15 in x\n", "waiting", "stopped by signal 15 in x"),
        ("epoch 1\nprunebench: stopped\n", "waiting", "was stopped"),
        ("Traceback:\nKeyboardInterrupt\n", "waiting", "was stopped"),
        ("", "waiting", ""),
    ],
)
def test_the_last_line_of_the_log_tells_what_became_of_a_run(
    tmp_path: Path, log: str, state: str, reason: str
) -> None:
    log_of(tmp_path, RUN, log)
    found = state_of(tmp_path, RUN, "1234")
    assert (found.state, found.reason) == (state, reason)


def test_a_job_that_ends_before_training_tells_why_in_its_own_log(tmp_path: Path) -> None:
    log_of(tmp_path, RUN, "epoch 1\n")
    log = log_of(tmp_path, f"{RUN}.job", "ModuleNotFoundError: No module named 'torch'\n")
    found = state_of(tmp_path, RUN, "1234")
    assert (found.state, found.log_file) == ("failed", log)
    assert found.reason == "ModuleNotFoundError: No module named 'torch'"


def test_a_job_that_is_stopped_outside_of_training_has_not_failed(tmp_path: Path) -> None:
    log_of(tmp_path, RUN, "base 98 %\n")
    log_of(tmp_path, f"{RUN}.job", "the output goes to a log\nprunebench: stopped\n")
    found = state_of(tmp_path, RUN, "1234")
    assert (found.state, found.reason) == ("waiting", "was stopped")


def test_an_error_while_training_is_shown_with_the_lines_before(tmp_path: Path) -> None:
    log = log_of(tmp_path, RUN, "epoch 1\nprunebench: the loss is nan\n")
    log_of(tmp_path, f"{RUN}.job", "the output goes elsewhere\nprunebench: the loss is nan\n")
    found = state_of(tmp_path, RUN, "1234")
    assert found.log == ("epoch 1", "prunebench: the loss is nan")
    assert found.log_file == log


def test_a_run_waits_for_a_failed_base_network(tmp_path: Path) -> None:
    log_of(tmp_path, BASE, "prunebench: no data\n")
    fresh = RUN.replace("l1", "srfp")
    runs = {RUN: ENTRY, fresh: ENTRY | {"start": "fresh"}}
    base, one, other = states_of(tmp_path, runs, {BASE: {"hash": "5"}})
    assert (base.path, base.state) == (BASE, "failed")
    assert (one.state, one.reason) == ("waiting", "its base network failed: no data")
    assert (other.state, other.reason) == ("waiting", "")


def test_only_the_end_of_a_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.log").write_bytes(b"\xff" * 10_000 + b"\n\n last \n\n")
    assert last_lines(tmp_path / "x.log")[-1] == "last"
    assert last_lines(tmp_path / "none.log") == ()


DONE, WAITING = RunState("a", "done"), RunState("b", "waiting")
FAILED = RunState("c", "failed", "no data", ("one", "two", "three"), Path("results/logs/c.log"))


@pytest.mark.parametrize(
    ("states", "code"), [([DONE], 0), ([DONE, WAITING], 3), ([WAITING, FAILED, DONE], 1), ([], 0)]
)
def test_the_exit_code_says_how_far_it_is(states: list[RunState], code: int) -> None:
    assert exit_code(states) == code


def test_failed_runs_come_first_with_the_end_of_their_logs() -> None:
    shown = described([DONE, WAITING, WAITING, FAILED], lines=2, most=1)
    assert list(shown) == [
        "1 done, 0 running, 1 failed, 2 waiting",
        "failed   c · no data",
        "         | two",
        "         | three",
        "         results/logs/c.log",
        "waiting  b",
        "waiting  … and 1 more (--every lists them)",
    ]
