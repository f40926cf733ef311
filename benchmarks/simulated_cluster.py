"""Occupancy of a simulated SLURM cluster, and what the main process of Snakemake costs.

    python benchmarks/simulated_cluster.py --seeds 264 --slots 64
    python benchmarks/simulated_cluster.py --seeds 1 --slots 8 --speed 20

The main process is the real one: Snakemake with its executor plugin for SLURM, a copy of the
workflow, and profiles/slurm. Stand-ins for sbatch, squeue and the other commands of SLURM pass
their arguments to this process, which starts queued jobs in order on the given number of slots. A
job sleeps for a random time, of 30 s on average, then its outputs appear as small files. The
experiment `digits` has 38 runs per seed, which need two base networks.

A slot is busy from the start to the end of a job. The main process learns of an end at its next
status check, so the slots stay busy only while enough other jobs are in the queue.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import csv
import itertools
import json
import math
import os
import platform
import random
import shlex
import shutil
import sys
import tempfile
import zlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from time import monotonic

import psutil
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.enums import Quietness
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "environment.yml", "workflow", "profiles", "config")
PROFILE = "profiles/slurm"
SHORTEST = 5.0  # seconds; the rest of a job's time is exponentially distributed
MIN_JOB_AGE = 300.0  # seconds that squeue knows a finished job, as by default
PATIENCE = 300.0  # seconds without a job after which the main process is killed
COMMANDS = ("sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo", "sacctmgr", "sshare")
CLIENT = """#!{python} -IS
import socket, sys
words = [sys.argv[0].rpartition("/")[2], *sys.argv[1:]]
if words[-1] == "/dev/stdin":
    words.append(sys.stdin.read())
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({address!r})
    connection.sendall("\\0".join(words).encode())
    connection.shutdown(socket.SHUT_WR)
    with connection.makefile() as answer:
        status = int(answer.readline())
        sys.stdout.write(answer.read())
sys.exit(status)
"""


@dataclass
class Job:
    """A job, or a task of an array; times are seconds since the start of the simulation."""

    id: str
    name: str
    targets: list[str]
    inputs: list[str]
    outputs: list[str]
    state: str = "PENDING"
    started: float = math.nan
    ended: float = math.nan

    @property
    def rule(self) -> str:
        """The rule of the first target."""
        return self.targets[0].partition(":")[0]


@dataclass
class Cluster:
    """A queue of jobs and the slots that work it off."""

    slots: int
    mean_seconds: float
    speed: float
    fail: float
    preempt: float
    folder: Path
    outputs: Outputs
    random: random.Random
    jobs: dict[str, Job] = field(default_factory=dict)
    queue: deque[Job] = field(default_factory=deque)
    running: dict[str, asyncio.TimerHandle] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    changes: list[tuple[float, int, int]] = field(default_factory=list)  # time, running, pending
    started: float = field(default_factory=monotonic)
    last_id: int = 0

    def now(self) -> float:
        """Return the seconds since the start."""
        return monotonic() - self.started

    def submit(self, name: str, commands: Mapping[str, str]) -> int:
        """Queue one job, or an array of them by their number; return the new id."""
        self.last_id += 1
        for task, command in commands.items():
            words = shlex.split(command)
            number = f"{self.last_id}_{task}" if task else str(self.last_id)
            targets = values(words, "--target-jobs")
            inputs = values(words, "--wait-for-files")
            outputs = [path for target in targets for path in self.outputs.of(target)]
            job = Job(number, name, targets, inputs, outputs)
            self.jobs[number] = job
            self.queue.append(job)
        self.fill()
        return self.last_id

    def fill(self) -> None:
        """Start queued jobs on free slots."""
        while self.queue and len(self.running) < self.slots:
            job = self.queue.popleft()
            seconds = SHORTEST + self.random.expovariate(1 / (self.mean_seconds - SHORTEST))
            end = self.random.choices(
                ("FAILED", "PREEMPTED", "COMPLETED"),
                (self.fail, self.preempt, 1 - self.fail - self.preempt),
            )[0]
            job.state, job.started = "RUNNING", self.now()
            loop = asyncio.get_running_loop()
            self.running[job.id] = loop.call_later(seconds / self.speed, self.end, job, end)
        self.changes.append((self.now(), len(self.running), len(self.queue)))

    def end(self, job: Job, state: str) -> None:
        """Free the slot of a job; queue it again if it was preempted."""
        self.running.pop(job.id).cancel()
        job.state, job.ended = state, self.now()
        if state == "COMPLETED":
            for output in job.outputs:
                file = self.folder / output
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("simulated\n")
        elif state == "PREEMPTED":
            job.state, job.ended = "PENDING", math.nan
            self.queue.append(job)
        self.fill()

    def cancel(self, chosen: Iterable[Job]) -> None:
        """Cancel queued and running jobs."""
        for job in chosen:
            if job.state == "PENDING":
                self.queue.remove(job)
                job.state, job.ended = "CANCELLED", self.now()
            elif job.state == "RUNNING":
                self.end(job, "CANCELLED")


def values(words: list[str], option: str) -> list[str]:
    """Return the values of an option of a Snakemake command."""
    if option not in words:
        return []
    rest = words[words.index(option) + 1 :]
    return rest[: next((i for i, word in enumerate(rest) if word.startswith("-")), len(rest))]


def option_of(words: list[str], name: str) -> str:
    """Return the value of `--name value` or `--name=value`, or an empty text."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == name:
            return following
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def commands_of(words: list[str]) -> dict[str, str]:
    """Return the commands that an sbatch call submits, by the number of the task in an array."""
    command = option_of(words, "--wrap") or words[-1]
    tasks = option_of(words, "--array")
    if not tasks:
        return {"": command}
    first = tasks.partition("-")[0]
    payload = option_of(shlex.split(command), "--slurm-jobstep-array-execs")
    packed = json.loads(base64.b64decode(payload))
    others = {task: zlib.decompress(bytes.fromhex(text)).decode() for task, text in packed.items()}
    return {first: command, **others}


def sbatch(cluster: Cluster, words: list[str]) -> str:
    return str(cluster.submit(option_of(words, "--job-name"), commands_of(words)))


def squeue(cluster: Cluster, words: list[str]) -> str:
    """List jobs as `%i|%T`; the queued tasks of an array share a line."""
    name, oldest = option_of(words, "--name"), cluster.now() - MIN_JOB_AGE
    lines: dict[str, str] = {}
    for job in cluster.jobs.values():
        if job.name == name and not job.ended < oldest:
            number = job.id.partition("_")[0]
            waiting = "_" in job.id and job.state == "PENDING"
            lines[f"{number}_[]" if waiting else job.id] = job.state
    cluster.calls["lines of squeue"] += len(lines)
    return "\n".join(f"{number}|{state}" for number, state in lines.items())


def scancel(cluster: Cluster, words: list[str]) -> str:
    cluster.cancel(
        job for job in list(cluster.jobs.values()) if {job.id, job.id.partition("_")[0]} & {*words}
    )
    return ""


def scontrol(cluster: Cluster, words: list[str]) -> str:
    return f"MaxArraySize            = 1001\nMinJobAge               = {MIN_JOB_AGE:.0f} sec"


def sinfo(cluster: Cluster, words: list[str]) -> str:
    """Describe one node that meets every request."""
    return "main|main*|1024|1000000000|gpu:1024|infinite"


ANSWERS = {
    "sbatch": sbatch,
    "squeue": squeue,
    "scancel": scancel,
    "scontrol": scontrol,
    "sinfo": sinfo,
}


async def serve(cluster: Cluster, folder: Path, delay: float) -> asyncio.Server:
    """Write the stand-ins to `folder` and answer them; sacct and the rest fail."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        command, *words = (await reader.read()).decode().split("\0")
        cluster.calls[command] += 1
        await asyncio.sleep(delay)
        if command in ANSWERS:
            writer.write(f"0\n{ANSWERS[command](cluster, words)}\n".encode())
        else:
            writer.write(b"1\n")
        with contextlib.suppress(ConnectionResetError):  # from a caller that was killed
            await writer.drain()
        writer.close()

    address = folder / "socket"
    for command in COMMANDS:
        file = folder / command
        file.write_text(CLIENT.format(python=sys.executable, address=str(address)))
        file.chmod(0o755)
    return await asyncio.start_unix_server(answer, address, limit=2**26)


class Outputs:
    """The files that jobs make, by the rules of the workflow."""

    def __init__(self, folder: Path, configfile: Path) -> None:
        settings = OutputSettings(quiet={Quietness.ALL}, enable_file_logging=False)
        with SnakemakeApi(settings) as api:
            workflow = api.workflow(
                ResourceSettings(cores=1),
                ConfigSettings(configfiles=[configfile]),
                snakefile=folder / "Snakefile",
                workdir=folder,
            )
            self.rules = {rule.name: rule for rule in workflow._workflow.rules}

    def of(self, target: str) -> Iterator[str]:
        """Yield the files of a target such as `base:dataset=digits,seed=0`."""
        name, _, wildcards = target.partition(":")
        chosen = dict(word.split("=", 1) for word in wildcards.split(",") if word)
        for path in self.rules[name].output:
            yield str(path.apply_wildcards(chosen))


@dataclass(frozen=True)
class Sample:
    """The state of the cluster and of the main process after some seconds.

    `commands_cpu_seconds` is the time of the commands of SLURM that the main process has called.
    """

    seconds: float
    running: int
    pending: int
    finished: int
    cpu_seconds: float
    commands_cpu_seconds: float
    megabytes: float
    load: float


async def watch(
    process: asyncio.subprocess.Process, cluster: Cluster, every: float
) -> AsyncIterator[Sample]:
    """Yield samples until the process ends, or has submitted nothing for a long time."""
    watched = psutil.Process(process.pid)
    busy = cluster.now()
    while process.returncode is None:
        if cluster.running or cluster.queue:
            busy = cluster.now()
        elif cluster.now() - busy > PATIENCE:
            print(f"killed the main process after {PATIENCE:.0f} s without a job", file=sys.stderr)
            process.kill()
        times = watched.cpu_times()
        yield Sample(
            seconds=round(cluster.now(), 1),
            running=len(cluster.running),
            pending=len(cluster.queue),
            finished=sum(job.state == "COMPLETED" for job in cluster.jobs.values()),
            cpu_seconds=round(times.user + times.system, 2),
            commands_cpu_seconds=round(times.children_user + times.children_system, 2),
            megabytes=round(watched.memory_info().rss / 1e6, 1),
            load=os.getloadavg()[0],
        )
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), every)


def occupancy(cluster: Cluster, start: float, end: float) -> float:
    """Return the mean share of busy slots between two times."""
    busy = 0.0
    for (time, running, _), (following, _, _) in itertools.pairwise(
        [*cluster.changes, (end, 0, 0)]
    ):
        busy += running * max(0.0, min(end, following) - max(start, time))
    return busy / cluster.slots / (end - start)


def full_window(cluster: Cluster, rule: str) -> tuple[float, float]:
    """Return when jobs of a rule could first fill all slots, and when fewer were left.

    A job can run from the moment when the last of its inputs exists. Jobs that fill slots before,
    and the main process's delay in submitting, are part of the window.
    """
    made = {path: job.ended for job in cluster.jobs.values() for path in job.outputs}
    done = [job for job in cluster.jobs.values() if job.rule == rule and job.state == "COMPLETED"]
    if len(done) < 2 * cluster.slots:
        raise SystemExit(f"{len(done)} jobs of {rule} finished, too few for {cluster.slots} slots")
    ready = sorted(max(made.get(path, 0.0) for path in job.inputs) for job in done)
    return ready[cluster.slots - 1], sorted(job.ended for job in done)[-cluster.slots]


def idle_seconds(cluster: Cluster, start: float, end: float) -> float:
    """Return the seconds between two times in which no job was in the queue."""
    return sum(
        max(0.0, min(end, following) - max(start, time))
        for (time, _, pending), (following, _, _) in itertools.pairwise(cluster.changes)
        if not pending
    )


def report(cluster: Cluster, samples: list[Sample]) -> dict[str, str]:
    """Return the rows of the table."""
    jobs = list(cluster.jobs.values())
    rules, states = Counter(job.rule for job in jobs), Counter(job.state for job in jobs)
    most = max(rules, key=lambda rule: rules[rule])
    start, end = full_window(cluster, most)
    ended = [job for job in jobs if not math.isnan(job.ended)]
    first, last = min(job.started for job in ended), max(job.ended for job in ended)
    seconds = mean(job.ended - job.started for job in ended if job.rule == most) * cluster.speed
    busy, all_busy = occupancy(cluster, start, end), occupancy(cluster, first, last)
    idle = idle_seconds(cluster, start, end)
    cpu, load = samples[-1].cpu_seconds, [sample.load for sample in samples]
    return {
        "jobs": ", ".join(f"{rules[rule]} {rule}" for rule in sorted(rules)),
        "their last states": ", ".join(f"{n} {state}" for state, n in states.items()),
        f"mean time of a {most} job": f"{seconds:.1f} s",
        f"busy slots of {cluster.slots} while {most} can fill them": (
            f"{busy:.1%} of {end - start:.0f} s"
        ),
        "no job in the queue in that time": f"{idle / (end - start):.1%}",
        "busy slots from first start to last end": f"{all_busy:.1%} of {last - first:.0f} s",
        "CPU time of the main process": f"{cpu:.0f} s, {cpu / len(jobs) * 1e3:.0f} ms per job",
        "of the commands that it calls": f"{samples[-1].commands_cpu_seconds:.0f} s",
        "memory of the main process": f"{max(sample.megabytes for sample in samples):.0f} MB",
        **{
            name: f"{n}, {n / len(jobs):.2f} per job, {n / (last - first):.2f} per second"
            for name, n in sorted(cluster.calls.items())
        },
        "load of the machine": f"{min(load):.1f} to {max(load):.1f}, mean {mean(load):.1f}",
    }


async def simulate(options: argparse.Namespace, folder: Path) -> tuple[Cluster, list[Sample]]:
    """Run the workflow on the simulated cluster."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, folder / part)
    configfile = folder / "simulated.yaml"
    chosen = {"experiments": [options.experiment], "seeds": list(range(options.seeds))}
    configfile.write_text(yaml.safe_dump(chosen | yaml.safe_load(options.config)))
    cluster = Cluster(
        slots=options.slots,
        mean_seconds=options.mean_seconds,
        speed=options.speed,
        fail=options.fail,
        preempt=options.preempt,
        folder=folder,
        outputs=Outputs(folder, configfile),
        random=random.Random(0),
    )
    commands = folder / "commands"
    commands.mkdir()
    server = await serve(cluster, commands, options.delay)
    profile = yaml.safe_load((folder / PROFILE / "config.yaml").read_text())
    polling = profile["slurm-init-seconds-before-status-checks"]
    arguments = [options.target, "--workflow-profile", PROFILE, "--configfile", configfile.name]
    if options.speed != 1:
        polling = max(1, round(polling / options.speed))
        arguments += ["--slurm-init-seconds-before-status-checks", str(polling)]
    with (folder / "main.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "snakemake", *arguments, *options.arguments),
            cwd=folder,
            env={**os.environ, "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
        )
        samples = []
        async for sample in watch(process, cluster, every=5 / options.speed):
            samples.append(sample)
            if options.log:
                append_row(options.log, asdict(sample))
    server.close()
    return cluster, samples


def append_row(file: Path, row: Mapping[str, float]) -> None:
    """Append a row to a CSV file, after a header if the file is new."""
    new = not file.exists()
    with file.open("a", newline="") as lines:
        writer = csv.DictWriter(lines, row)
        if new:
            writer.writeheader()
        writer.writerow(row)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", default="digits")
    parser.add_argument("--seeds", type=int, default=264, help="10,032 runs of digits by default")
    parser.add_argument("--config", default="{}", help="more keys of config.yaml, as YAML")
    parser.add_argument("--target", default="runs", help="rule or file to make")
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--mean-seconds", type=float, default=30)
    parser.add_argument("--speed", type=float, default=1, help="divides times of jobs and polling")
    parser.add_argument("--fail", type=float, default=0, help="share of jobs that fail")
    parser.add_argument("--preempt", type=float, default=0, help="share of starts preempted")
    parser.add_argument("--delay", type=float, default=0, help="seconds of each answer of SLURM")
    parser.add_argument("--folder", type=Path, help="keep the workflow's folder here")
    parser.add_argument("--log", type=Path, help="write a sample every 5 s to this CSV file")
    parser.add_argument("arguments", nargs="*", help="after --: more arguments of snakemake")
    return parser.parse_args()


def main() -> None:
    """Print a Markdown table."""
    options = parse_options()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary) / "workflow").absolute()
        folder.mkdir(parents=True)
        cluster, samples = asyncio.run(simulate(options, folder))
        print(f"{date.today():%d %B %Y}, {processor()}, Python {platform.python_version()}, ")
        for package in ("snakemake", "snakemake-executor-plugin-slurm"):
            print(package, version(package))
        print("\n| | |\n|---|---|")
        for name, value in report(cluster, samples).items():
            print(f"| {name} | {value} |")


def processor() -> str:
    """Return the processor's name, or its architecture where the system does not tell."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
