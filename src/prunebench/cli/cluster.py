"""Check before the first job that a SLURM cluster can meet what the jobs ask for.

SLURM accepts some requests that no node can meet, and the job then waits for ever.
"""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

FIELDS = "%R|%P|%c|%m|%G|%l"  # of sinfo, one line per node and partition


class Request(NamedTuple):
    """What the jobs of a rule ask for; 0 or "" stands for nothing."""

    name: str  # of the rule
    partition: str
    cpus: int  # of a task
    mem_mb: int  # of a node
    gpus: int  # of a node
    minutes: int


class Node(NamedTuple):
    """A node as one of its partitions offers it."""

    partition: str
    is_default: bool
    cpus: int
    mem_mb: int
    gpus: int
    minutes: float


def check_cluster(requests: Iterable[Request]) -> None:
    """Exit with a line for each request that no node of the cluster can meet.

    Without SLURM's command `sinfo` nothing is checked; Snakemake reports that itself.
    """
    if problems := list(unmet(requests, nodes())):
        sys.exit("\n".join(f"prunebench: {problem}" for problem in problems))


def unmet(requests: Iterable[Request], known: Sequence[Node]) -> Iterator[str]:
    """Yield a sentence for each request that no known node can meet; none without any node."""
    if not known:
        return
    for request in requests:
        default = next((node.partition for node in known if node.is_default), "")
        name = request.partition or default
        offered = [node for node in known if node.partition == name]
        if not offered:
            names = ", ".join(sorted({node.partition for node in known}))
            yield (
                f"rule {request.name} asks for the partition {name!r}, which the cluster has not "
                f"(it has {names}); set slurm_partition in the profile"
            )
        elif not any(_is_met(request, node) for node in offered):
            yield f"rule {request.name} asks for {_excess(request, offered)}"


def _excess(request: Request, offered: Sequence[Node]) -> str:
    """Return what no node of a partition offers, alone or together, and what to change."""
    partition = offered[0].partition
    for words, key, asked, most in (
        ("CPUs", "set-threads", request.cpus, max(node.cpus for node in offered)),
        ("MB of memory", "mem_mb", request.mem_mb, max(node.mem_mb for node in offered)),
        ("GPUs", "gpu", request.gpus, max(node.gpus for node in offered)),
        ("minutes", "runtime", request.minutes, max(node.minutes for node in offered)),
    ):
        if asked > most:
            return (
                f"{asked} {words}, but the partition {partition!r} has at most {most:g} for a job; "
                f"lower {key} of the rule in the profile"
            )
    return (
        f"{request.cpus} CPUs, {request.mem_mb} MB and {request.gpus} GPUs, which no node of the "
        f"partition {partition!r} has together; lower the rule's resources in the profile"
    )


def _is_met(request: Request, node: Node) -> bool:
    return (
        request.cpus <= node.cpus
        and request.mem_mb <= node.mem_mb
        and request.gpus <= node.gpus
        and request.minutes <= node.minutes
    )


def nodes() -> list[Node]:
    """Return the nodes of the cluster by partition; none if it cannot be asked."""
    if shutil.which("sinfo") is None:
        return []
    command = ["sinfo", "--noheader", "--Node", "--format", FIELDS]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [node_of(line) for line in done.stdout.splitlines() if line.count("|") == 5]


def node_of(line: str) -> Node:
    """Return the node of a line of sinfo.

    >>> node_of("gpu|gpu*|64|500000|gpu:a100:4(S:0-1),gpu:v100:2|2-12:00:00")
    Node(partition='gpu', is_default=True, cpus=64, mem_mb=500000, gpus=6, minutes=3600.0)
    >>> node_of("cpu|cpu|8+|16000+|(null)|infinite")
    Node(partition='cpu', is_default=False, cpus=8, mem_mb=16000, gpus=0, minutes=inf)
    """
    partition, marked, cpus, memory, gres, limit = line.split("|")
    gpus = re.findall(r"gpu(?::[^:,(]+)?:(\d+)", gres)
    return Node(
        partition,
        marked.endswith("*"),
        int(cpus.rstrip("+")),
        int(memory.rstrip("+")),
        sum(map(int, gpus)),
        _minutes(limit),
    )


def _minutes(limit: str) -> float:
    """Return a time limit in minutes.

    >>> _minutes("30:00"), _minutes("1:30:00"), _minutes("infinite")
    (30.0, 90.0, inf)
    """
    if limit in ("infinite", "n/a"):
        return float("inf")
    days, _, time = limit.rpartition("-")
    hours, minutes, seconds = [0, 0, *map(int, time.split(":"))][-3:]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def silence_account_guess(logger: logging.Logger) -> None:
    """Leave out the warnings of a failing guess of the account.

    The SLURM plugin declares the setting `slurm-no-account`, but version 2.8 guesses all the same.
    """
    words = ("No SLURM account given", "not able to get a SLURM account", "guess SLURM account")
    logger.addFilter(lambda record: not any(word in record.getMessage() for word in words))
