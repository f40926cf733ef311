from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.mutate_configurations import outcome, prepared

NUMBERS = range(40)  # of mutations that take seconds together


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("mutated"))


@pytest.mark.parametrize("number", NUMBERS)
def test_a_mutated_configuration_resolves_or_fails_with_one_line(config: Path, number: int) -> None:
    assert outcome(number, 0, config).failure == ""


def test_a_mutation_leaves_the_configuration_as_it_was(config: Path) -> None:
    files = {path: path.read_bytes() for path in config.rglob("*/*")}
    outcome(0, 1, config)
    assert {path: path.read_bytes() for path in config.rglob("*/*")} == files
