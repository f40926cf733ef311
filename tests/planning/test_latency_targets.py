"""Ratios of latency in an experiment: the table, its checks, and its part in hashes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ConfigError
from prunebench.experiments.config import read_config
from prunebench.experiments.latency_table import LatencyTable
from prunebench.experiments.resolved import resolution_keys
from prunebench.experiments.spec import RunSpec
from prunebench.planning.grid import resolve
from tests.channels.latency_tables import made_table, product_times
from tests.cli.conftest import WriteConfig
from tests.planning.conftest import call, write_config

__all__ = ["call", "write_config"]

NETWORK = "resnet20_x0_25"


@pytest.fixture
def table() -> LatencyTable:
    return made_table({"conv1.weight": (0,)}, (product_times("conv1", 4, 3),))


def written(
    write_config: WriteConfig, table: LatencyTable | None, **experiment: Any
) -> tuple[Path, list[RunSpec]]:
    network = {} if table is None else {"latency_table": "tables/own.json"}
    methods = {"l1": {"ratio_kind": "latency"}, "random": {}}
    folder = write_config({"networks": {NETWORK: network}, "methods": methods} | experiment)
    if table is not None:
        (folder / "tables").mkdir(exist_ok=True)
        table.write(folder / "tables" / "own.json")
    return folder, resolve(read_config(folder / "config.yaml"), folder)


def test_runs_with_a_ratio_of_latency_name_the_table(
    write_config: WriteConfig, table: LatencyTable
) -> None:
    folder, (l1, other) = written(write_config, table)
    assert l1.path.endswith("l1/default/latency-0.5/seed0")
    assert (l1.latency_table, l1.latency_table_hash) == (
        str(folder / "tables" / "own.json"),
        table.hash,
    )
    assert other.latency_table is other.latency_table_hash is None


def test_the_content_of_the_table_is_part_of_the_hash(
    write_config: WriteConfig, table: LatencyTable
) -> None:
    folder, (l1, other) = written(write_config, table)
    key = resolution_keys(read_config(folder / "config.yaml"), folder)
    _, (changed, same) = written(write_config, table.model_copy(update={"factor": 1.1}))
    assert (changed.hash != l1.hash, same.hash) == (True, other.hash)
    assert resolution_keys(read_config(folder / "config.yaml"), folder) != key
    moved = l1.model_copy(update={"latency_table": "elsewhere.json"})
    assert moved.hash == l1.hash


@pytest.mark.parametrize(
    ("changes", "experiment", "problem"),
    [
        (None, {}, "ratio_kind 'latency' needs a file of `prunebench latencies`"),
        (
            {"architecture": "vgg16"},
            {},
            f"the latency table was measured with architecture vgg16, and the run has {NETWORK}",
        ),
        (
            {},
            {"threads": 2},
            "the latency table was measured with threads 1, and the run has 2",
        ),
    ],
)
def test_an_unsuitable_table_is_one_line(
    write_config: WriteConfig,
    table: LatencyTable,
    changes: dict[str, Any] | None,
    experiment: dict[str, Any],
    problem: str,
) -> None:
    own = None if changes is None else table.model_copy(update=changes)
    with pytest.raises(ConfigError) as caught:
        written(write_config, own, **experiment)
    message = str(caught.value)
    assert f"networks.{NETWORK}.latency_table: {problem}" in message
    assert "tiny.yaml" in message
    assert "\n" not in message


def test_a_missing_table_is_named(write_config: WriteConfig) -> None:
    networks = {NETWORK: {"latency_table": "tables/none.json"}}
    with pytest.raises(ConfigError, match=r"tables/none\.json: no such file; `prunebench latencie"):
        written(write_config, None, networks=networks)
