from __future__ import annotations

import logging
from pathlib import Path

import pytest

from prunebench.cli.cluster import (
    Node,
    Request,
    check_cluster,
    node_of,
    nodes,
    silence_account_guess,
    unmet,
)

SMALL = Node("main", True, cpus=2, mem_mb=16000, gpus=1, minutes=120)
LARGE = Node("main", True, cpus=64, mem_mb=8000, gpus=0, minutes=120)


def request(**changed: int | str) -> Request:
    return Request("prune", "main", cpus=1, mem_mb=8000, gpus=1, minutes=60)._replace(**changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("changed", [{}, {"partition": ""}, {"cpus": 64, "gpus": 0}, {"cpus": 2}])
def test_a_request_that_a_node_meets_is_no_problem(changed: dict[str, int | str]) -> None:
    assert list(unmet([request(**changed)], [SMALL, LARGE])) == []


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"cpus": 65}, "65 CPUs, but the partition 'main' has at most 64 for a job; lower set-thr"),
        ({"mem_mb": 16001}, "16001 MB of memory, but the partition 'main' has at most 16000 for"),
        ({"gpus": 2}, "2 GPUs, but the partition 'main' has at most 1 for a job; lower gpu of the"),
        ({"minutes": 121}, "121 minutes, but the partition 'main' has at most 120 for a job; lowe"),
        ({"cpus": 4}, "4 CPUs, 8000 MB and 1 GPUs, which no node of the partition 'main' has tog"),
        ({"partition": "b"}, "the partition 'b', which the cluster has not (it has main); set slu"),
    ],
)
def test_a_request_that_no_node_meets_is_named(changed: dict[str, int | str], words: str) -> None:
    (problem,) = unmet([request(**changed)], [SMALL, LARGE])
    assert problem.startswith(f"rule prune asks for {words}")


@pytest.fixture
def sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command that prints what SLURM 22.05 prints for a node in two partitions."""
    command = tmp_path / "sinfo"
    command.write_text("#!/bin/sh\nprintf 'a|a*|2|900|gpu:1|infinite\\nb|b|2|900|(null)|5:00\\n'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return command


@pytest.mark.usefixtures("sinfo")
def test_the_nodes_are_those_of_sinfo() -> None:
    assert nodes() == [node_of("a|a*|2|900|gpu:1|infinite"), node_of("b|b|2|900|(null)|5:00")]


@pytest.mark.usefixtures("sinfo")
def test_unmet_requests_end_the_workflow() -> None:
    with pytest.raises(SystemExit, match=r"^prunebench: rule prune asks for 3 CPUs, but the"):
        check_cluster([request(partition="a", cpus=3, mem_mb=1)])


def test_without_slurm_nothing_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    check_cluster([request()])


def test_the_guess_of_an_account_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("of the plugin")
    silence_account_guess(logger)
    logger.warning("No SLURM account given, trying to guess.")
    logger.warning("Unable to guess SLURM account. Trying to proceed without.")
    logger.warning("another warning")
    assert caplog.messages == ["another warning"]
