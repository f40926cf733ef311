"""Every method, exact whatever a batch is cut into: parts of accumulation, processes, both."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from prunebench.data.dataset import Dataset
from prunebench.methods.registry import method_class, method_paths
from tests.conftest import Once
from tests.training.parallel_methods import (
    IN_PAIR,
    NAMES,
    WITH_HOOKS,
    detector_loss,
    result,
    scenes,
    small_dataset,
)
from tests.training.test_resume import assert_same

Outcomes = dict[tuple[str, int | str], Any]
MODULE = "tests.training.parallel_methods"
ROOT = Path(__file__).parents[2]
# The slow ones have hooks of the same kind as one of these, or a criterion that reads as much.
FAST = ("epruner", "fisher", "grasp", "increg_accuracy", "l1", "mask_fisher", "rdt", "srfp")
FAST_IF_STOPPED = ("greg_1", "group_fisher")


def slow_unless(is_fast: bool, *values: Any) -> Any:
    return pytest.param(*values, marks=() if is_fast else pytest.mark.slow)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return small_dataset(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session")
def pair_folder(once: Once, request: pytest.FixtureRequest) -> Path:
    """A folder with the outcomes of two processes; one start for all tests that are to be run."""
    tests = [item for item in request.session.items if "pair" in getattr(item, "fixturenames", ())]
    params = [item.callspec.params for item in tests if hasattr(item, "callspec")]
    stopped = {each["stopped"] for each in params if "stopped" in each}
    names = stopped | {each["name"] for each in params if "name" in each}

    def run(folder: Path) -> None:
        scenes(folder)
        torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        lists = [",".join(sorted(each)) for each in (names, stopped)]
        words = [sys.executable, *torchrun, "-m", MODULE, str(folder / "outcomes.pt"), *lists]
        subprocess.run(words, cwd=ROOT, check=True, timeout=600)

    return once("pair", run)


@pytest.fixture(scope="module")
def pair(pair_folder: Path) -> Outcomes:
    """The outcomes of two processes by method and parts per process."""
    found: Outcomes = torch.load(pair_folder / "outcomes.pt", weights_only=True)
    return found


@pytest.fixture(scope="module")
def wholes(dataset: Dataset) -> dict[str, Any]:
    """The outcomes of one process with whole batches, as far as they were asked for."""
    return {}


def whole(name: str, dataset: Dataset, wholes: dict[str, Any]) -> Any:
    if name not in wholes:
        wholes[name] = result(name, dataset, 1)
    return wholes[name]


def assert_equal_but_for_rounding(found: Any, expected: Any, where: str = "") -> None:
    """The same steps, the same units and masks; floats and weights within rounding."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key in expected:
            assert_equal_but_for_rounding(found[key], expected[key], f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for k, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_equal_but_for_rounding(one, other, f"{where}/{k}")
    elif isinstance(expected, torch.Tensor):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)  # exact unless float
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True), where
    else:
        assert found == expected, where


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_in_two_parts_gives_the_run_of_the_whole(
    name: str, dataset: Dataset, wholes: dict[str, Any]
) -> None:
    assert_equal_but_for_rounding(result(name, dataset, 2), whole(name, dataset, wholes))


@pytest.mark.parametrize(
    ("name", "accumulation"),
    [slow_unless(name in {*FAST, *WITH_HOOKS}, name, parts) for name, parts in IN_PAIR],
)
def test_two_processes_give_the_run_of_one(
    name: str, accumulation: int, dataset: Dataset, wholes: dict[str, Any], pair: Outcomes
) -> None:
    assert_equal_but_for_rounding(pair[name, accumulation], whole(name, dataset, wholes))


@pytest.mark.parametrize(
    "stopped", [slow_unless(name in FAST_IF_STOPPED, name) for name in WITH_HOOKS]
)
def test_two_processes_stopped_in_any_phase_go_on_to_the_same_bits(
    stopped: str, pair: Outcomes
) -> None:
    outcomes = pair[stopped, "resumed"]
    places = [found.pop("from") for found in outcomes]
    assert len({phase for phase, _ in places}) >= 2
    assert any(step > 0 for _, step in places)
    for found in outcomes:
        assert_same(found, pair[stopped, 1])


def test_two_processes_have_the_loss_of_one_on_a_detector(
    pair: Outcomes, pair_folder: Path
) -> None:
    alone = detector_loss(scenes(pair_folder), accumulation=2)
    assert pair["detector", 1] == pytest.approx(alone, rel=1e-4)


def test_methods_that_look_into_passes_say_that_they_see_parts() -> None:
    assert {name for name in method_paths() if method_class(name).sees_parts} == {"group_fisher"}
