"""How this process was started: by itself, or as one of several that train a run together.

`torchrun` describes each of its processes in the environment, and `srun` each task of a job step. A
batch script inherits the number of tasks of its job (SLURM_NTASKS), but it is one process: only
`srun` sets the variables of a step. A terminal that was opened with `srun --pty` is one process,
too.

This module imports only the standard library, because every job of a workflow asks it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from prunebench.core.errors import ConfigError

TORCHRUN = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "MASTER_ADDR",
    "MASTER_PORT",
)
SRUN = (
    "SLURM_PROCID",
    "SLURM_LOCALID",
    "SLURM_GTIDS",
    "SLURM_NODEID",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "SLURM_STEP_NODELIST",
    "SLURM_STEP_NUM_NODES",
)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """The place of this process among those that were started together.

    Attributes
    ----------
    rank, world
        Number of this process, and the number of all processes.
    local_rank, local_world
        The same among the processes on this machine.
    machine
        Number of this machine.
    address, port
        Where process 0 listens.
    """

    rank: int
    world: int
    local_rank: int
    local_world: int
    machine: int
    address: str
    port: int


def is_one_of_several() -> bool:
    """Whether this process was started together with others."""
    return _is_of_torchrun() or _is_of_srun()


def is_first_process() -> bool:
    """Whether this process writes the files."""
    found = launch()
    return found is None or found.rank == 0


def launch() -> Launch | None:
    """Return the place of this process among several; None if it is by itself.

    ConfigError if the environment is incomplete.
    """
    if _is_of_torchrun():
        return _by_torchrun()
    return _by_srun() if _is_of_srun() else None


def _is_of_torchrun() -> bool:
    is_several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    # Scripts for SLURM often set WORLD_SIZE for all tasks of a step, which have no RANK.
    return is_several and ("RANK" in os.environ or not _is_of_srun())


def _is_of_srun() -> bool:
    if "RANK" in os.environ:  # `srun torchrun`
        return False
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1 and not os.isatty(0)


def _by_torchrun() -> Launch:
    of = _environment("WORLD_SIZE", TORCHRUN)
    return Launch(
        rank=int(of["RANK"]),
        world=int(of["WORLD_SIZE"]),
        local_rank=int(of["LOCAL_RANK"]),
        local_world=int(of["LOCAL_WORLD_SIZE"]),
        machine=int(of["GROUP_RANK"]),
        address=of["MASTER_ADDR"],
        port=int(of["MASTER_PORT"]),
    )


def _by_srun() -> Launch:
    of = _environment("SLURM_STEP_NUM_TASKS", SRUN)
    is_one_machine = of["SLURM_STEP_NUM_NODES"] == "1"
    address = "127.0.0.1" if is_one_machine else first_host(of["SLURM_STEP_NODELIST"])
    port = step_port(int(of["SLURM_JOB_ID"]), int(of["SLURM_STEP_ID"]))
    return Launch(
        rank=int(of["SLURM_PROCID"]),
        world=int(of["SLURM_STEP_NUM_TASKS"]),
        local_rank=int(of["SLURM_LOCALID"]),
        local_world=len(of["SLURM_GTIDS"].split(",")),
        machine=int(of["SLURM_NODEID"]),
        address=os.environ.get("MASTER_ADDR", address),
        port=int(os.environ.get("MASTER_PORT", port)),
    )


def _environment(found: str, names: tuple[str, ...]) -> dict[str, str]:
    """Return the variables of a launch, of which `found` says that there are several processes."""
    if missing := [name for name in names if name not in os.environ]:
        raise ConfigError(
            f"{found} is {os.environ[found]} and {', '.join(missing)} not set; start several "
            "processes with torchrun or srun"
        )
    return {name: os.environ[name] for name in (found, *names)}


def first_host(hosts: str) -> str:
    """Return the first of SLURM's list of hosts.

    >>> first_host("gpu-[03-07,09],login"), first_host("rack[2,4]n[07-08]"), first_host("a1,b2")
    ('gpu-03', 'rack2n07', 'a1')
    """
    return re.sub(r"\[([^],-]+)[^]]*\]", r"\1", hosts).split(",")[0]


def step_port(job: int, step: int) -> int:
    """Return a port for a job step, below those that the system gives to connections.

    >>> step_port(1234, 0), step_port(1234, 1), step_port(1235, 0)
    (22698, 22699, 22795)
    """
    return 15_000 + (97 * job + step) % 16_000
