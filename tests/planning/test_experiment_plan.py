"""The plan of an experiment: its jobs as in the workflow, and its hours."""

from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.experiments.config import Config
from prunebench.experiments.machine import Machine
from prunebench.experiments.parts import Parts
from prunebench.experiments.resolved import Resolved
from prunebench.planning.durations import recorded_runs
from prunebench.planning.experiment_plan import Plan, Stage, planned
from prunebench.planning.grid import resolve_experiment
from prunebench.planning.lookup import entries_of

ROOT = Path(__file__).parents[2]
STORED = ROOT / "results/reference/digits/runs.csv"
CONFIG = ROOT / "config"


def plan_of(
    results: Path, *methods: str, runs_per_job: int = 1, stored: tuple[Path, ...] = ()
) -> Plan:
    """Return the plan of `digits`, or of some methods of it, by its recorded seconds."""
    found = resolve_experiment("digits", CONFIG)
    runs = {run.path: run for run in found if not methods or run.method in methods}
    settings = Config(experiments=("digits",), runs_per_job=runs_per_job, reuse=stored)
    return planned(runs, results, [STORED], settings, Machine(device="cpu"))


def stages_of(plan: Plan) -> dict[str, Stage]:
    return {stage.name: stage for stage in plan.stages()}


def test_the_hours_of_digits_are_near_the_recorded_ones(tmp_path: Path) -> None:
    runs = {run.path: run for run in resolve_experiment("digits", ROOT / "config")}
    settings, machine = Config(experiments=("digits",)), Machine(device="cpu")
    found = planned(runs, tmp_path, [STORED], settings, machine)
    stages = {stage.name: stage for stage in found.stages()}
    assert stages["prune"].jobs == 57
    assert (stages["data"].jobs, stages["base"].jobs) == (1, 3)
    seconds = sum(run.seconds for run in recorded_runs([STORED]))
    assert stages["prune"].seconds == pytest.approx(seconds, rel=0.01)
    # 16 epochs of each base network, whose seconds no row records: as long as other training.
    assert 10 < stages["base"].seconds < 100


def test_reused_rows_and_their_base_networks_are_not_run(tmp_path: Path) -> None:
    runs = {run.path: run for run in resolve_experiment("digits", ROOT / "config")}
    settings = Config(experiments=("digits",), reuse=(STORED,))
    found = planned(runs, tmp_path, [], settings, Machine(device="cpu"))
    stages = {stage.name: stage for stage in found.stages()}
    assert stages["prune"][1:] == (57, 57, 0)
    assert stages["base"][1:] == (0, 0, 0)


@pytest.mark.parametrize("size", [1, 4, 7])
def test_jobs_that_train_are_those_of_the_workflow(tmp_path: Path, size: int) -> None:
    plan = plan_of(tmp_path, runs_per_job=size)
    parts = Parts(Resolved(*entries_of(plan.runs)), size, for_training=True).of_network
    assert len(parts) == 2  # networks, and scratch_e takes the widths of l1
    stage = stages_of(plan)["prune"]
    assert (stage.jobs, stage.done) == (sum(map(len, parts.values())), 0)
    assert stage.jobs == {1: 57, 4: 16, 7: 11}[size]  # more than 57 runs / size, rounded up


def test_reused_runs_are_jobs_that_are_done(tmp_path: Path) -> None:
    lines = STORED.read_text(encoding="utf-8").splitlines(keepends=True)
    some = tmp_path / "some.csv"
    some.write_text("".join(lines[:11]), encoding="utf-8")
    stage = stages_of(plan_of(tmp_path, stored=(some,)))["prune"]
    assert (stage.jobs, stage.done) == (57, 10)


def test_one_run_takes_its_time_on_any_number_of_cores(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "greg_1")
    one = next(iter(plan.runs))
    plan = Plan({one: plan.runs[one]}, tmp_path, plan.recorded, plan.machine)
    stages = stages_of(plan)
    whole = stages["base"].seconds + stages["prune"].seconds + stages["measure"].seconds
    assert stages["prune"].seconds > 1
    assert plan.least_seconds(1) == pytest.approx(whole)
    assert plan.least_seconds(64) == pytest.approx(whole)


def test_many_runs_are_divided_among_the_cores_up_to_the_longest(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    stages = stages_of(plan)
    training = stages["base"].seconds + stages["prune"].seconds
    latency = stages["measure"].seconds  # alone on the machine
    assert plan.least_seconds(2) == pytest.approx(training / 2 + latency)
    longest = max(plan.seconds(run) + plan.seconds(run.base) for run in plan.specs)
    assert plan.least_seconds(1000) >= longest + latency


def test_a_run_waits_for_the_one_whose_widths_it_takes(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "l1", "scratch_e")
    by_path = {run.path: run for run in plan.specs}
    chains = [
        plan.seconds(run) + plan.seconds(source) + plan.seconds(source.base)
        for run in plan.specs
        if run.widths_from is not None
        for source in [by_path[run.widths_from]]
    ]
    latency = stages_of(plan)["measure"].seconds
    assert plan.least_seconds(1000) == pytest.approx(max(chains) + latency)
