"""Hours of a plan against the recorded seconds of the stored runs on digits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from prunebench.experiments.recipe import Recipe
from prunebench.planning.durations import (
    Images,
    Recorded,
    Speed,
    Work,
    fitted_speed,
    phase_work,
    recorded_runs,
    seconds_of,
)
from prunebench.planning.grid import resolve_experiment

ROOT = Path(__file__).parents[2]
STORED = ROOT / "results/reference/digits/runs.csv"
DIGITS = Images(1077, 360, 360)
RECIPE = Recipe(batch_size=32, lr=0.1, weight_decay=0, epochs=4)


@pytest.fixture(scope="module")
def recorded() -> list[Recorded]:
    return list(recorded_runs([STORED]))


def test_recorded_seconds_of_equal_runs_are_taken_as_they_are(recorded: list[Recorded]) -> None:
    specs = resolve_experiment("digits", ROOT / "config")
    found = {spec.hash: seconds_of(spec, recorded) for spec in specs}
    assert found == {run.spec_hash: run.seconds for run in recorded if run.spec_hash in found}
    assert len(found) == 57


def test_another_seed_or_ratio_takes_as_long_as_the_recorded_ones(
    recorded: list[Recorded],
) -> None:
    specs = resolve_experiment("digits", ROOT / "config", seeds=(7,))
    total, known = 0.0, 0.0
    for spec in specs:
        seconds = seconds_of(spec, recorded)
        assert seconds is not None, spec.path
        total += seconds
        same = [run.seconds for run in recorded if run.is_like(spec)]
        assert min(same) <= seconds <= max(same)
        known += sum(same) / len(same)
    assert total == pytest.approx(known, rel=0.5)


@pytest.mark.parametrize("architecture", ["resnet20", "vgg16_x0_25"])
def test_work_at_the_speed_of_other_methods_is_within_a_factor_of_1_5(
    recorded: list[Recorded], architecture: str
) -> None:
    own = [run for run in recorded if run.architecture == architecture]
    guessed = 0.0
    for method in {run.method for run in own}:
        speed = fitted_speed([run for run in own if run.method != method], DIGITS)
        assert speed is not None
        mine = [run.work(DIGITS) for run in own if run.method == method]
        guessed += sum(map(speed.seconds, mine))
    assert guessed == pytest.approx(sum(run.seconds for run in own), rel=0.33)


def test_a_speed_is_found_again_from_its_seconds(recorded: list[Recorded]) -> None:
    true = Speed(per_step=0.02, per_mac=5e-11)
    runs = [run for run in recorded if run.architecture == "resnet20"]
    made = [Recorded(**{**vars(run), "seconds": true.seconds(run.work(DIGITS))}) for run in runs]
    found = fitted_speed(made, DIGITS)
    assert found is not None
    assert (found.per_step, found.per_mac) == pytest.approx((0.02, 5e-11))
    slow = Recorded(**{**vars(made[0]), "seconds": 100 * made[0].seconds})  # on a busy machine
    assert fitted_speed([*made, slow], DIGITS) == found
    assert fitted_speed([], DIGITS) is None


def test_the_work_of_a_phase_is_steps_and_passes() -> None:
    # 4 epochs of 34 steps; 3 passes of 1077 images and one of 720 in each, 10 MACs a pass
    assert phase_work(RECIPE, 4, 10, DIGITS) == Work(136, 10 * 4 * (3 * 1077 + 720))
    trial = RECIPE.limited(17, None)  # half an epoch, evaluated once
    assert phase_work(trial, 4, 10, DIGITS) == Work(17, 10 * (3 * 1077 / 2 + 720))
    assert DIGITS.at_most(400) == (400, 360, 360)


def test_recorded_rows_need_no_torch() -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from prunebench.planning.durations import Images, fitted_speed, recorded_runs\n"
        f"runs = list(recorded_runs([Path({str(STORED)!r})]))\n"
        "assert fitted_speed(runs, Images(1077, 360, 360))\n"
        "sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
