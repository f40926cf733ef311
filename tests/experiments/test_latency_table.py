from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prunebench.core.errors import ConfigError
from prunebench.core.files import read_json, write_json
from prunebench.experiments.latency_table import LatencyTable, LayerTimes
from tests.channels.latency_tables import made_table, product_times


@pytest.fixture
def table() -> LatencyTable:
    return made_table({"conv.weight": (0,)}, (product_times("conv", 4, 3),))


def test_a_table_is_read_as_it_was_written(table: LatencyTable, tmp_path: Path) -> None:
    table.write(tmp_path / "t.json")
    assert LatencyTable.read(tmp_path / "t.json") == table


def test_the_hash_is_that_of_the_content(table: LatencyTable, tmp_path: Path) -> None:
    table.write(tmp_path / "t.json")
    (tmp_path / "t.json").write_text((tmp_path / "t.json").read_text().replace("\n", ""))
    assert LatencyTable.read(tmp_path / "t.json").hash == table.hash
    assert table.model_copy(update={"factor": 1.5}).hash != table.hash


def test_a_missing_file_says_how_to_write_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"t\.json: no such file; `prunebench latencies` wri"):
        LatencyTable.read(tmp_path / "t.json")


def test_a_damaged_table_names_the_key(table: LatencyTable, tmp_path: Path) -> None:
    table.write(tmp_path / "t.json")
    write_json(tmp_path / "t.json", read_json(tmp_path / "t.json") | {"batch_size": 0})
    with pytest.raises(ConfigError, match=r"t\.json: batch_size: 0 is not at least 1|batch_size"):
        LatencyTable.read(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("grid", "problem"),
    [
        ({"outputs": (4, 2)}, "outputs must rise"),
        ({"ms": ((1.0,),)}, "ms must have 2 rows of 1 times"),
    ],
)
def test_grids_must_fit(grid: dict[str, Any], problem: str) -> None:
    right: dict[str, Any] = {"outputs": (2, 4), "inputs": (3,), "ms": ((1.0,), (2.0,))}
    assert LayerTimes(layer="c", **right).ms == ((1.0,), (2.0,))
    with pytest.raises(ValueError, match=problem):
        LayerTimes(layer="c", **right | grid)


def test_layers_refer_to_times_that_exist() -> None:
    with pytest.raises(ValueError, match=r"'conv\.weight' refers to times that the table does not"):
        made_table({"conv.weight": (1,)}, (product_times("conv", 4, 3),))


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        (("vgg16", 4, (3, 8, 8), 1), "with architecture resnet20_x0_25, and the run has vgg16"),
        (("resnet20_x0_25", 10, (3, 8, 8), 1), "with num_classes 4, and the run has 10"),
        (("resnet20_x0_25", 4, (1, 8, 8), 1), "with image 3x8x8, and the run has 1x8x8"),
        (("resnet20_x0_25", 4, (3, 8, 8), 2), "with threads 1, and the run has 2"),
    ],
)
def test_a_table_belongs_to_a_network_and_a_number_of_threads(
    table: LatencyTable, run: tuple[str, int, tuple[int, int, int], int], problem: str
) -> None:
    table.check("resnet20_x0_25", 4, (3, 8, 8), 1)
    with pytest.raises(ConfigError, match=problem):
        table.check(*run)


def test_threads_of_the_cpu_do_not_matter_on_a_gpu(table: LatencyTable) -> None:
    on_gpu = table.model_copy(update={"device_kind": "cuda"})
    on_gpu.check("resnet20_x0_25", 4, (3, 8, 8), 2)


def test_a_table_belongs_to_a_device(table: LatencyTable) -> None:
    table.check_device("a processor")
    with pytest.raises(ConfigError, match="measured on a processor, and this machine has another"):
        table.check_device("another")
