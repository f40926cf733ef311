"""Inject the faults of clusters into short runs, and write the table of docs/reliability.md.

    python -m tests.faults.inject                     # all of them: an hour on two cores
    python -m tests.faults.inject --only disk_full    # one of them, by its name in FAULTS

After a fault, the same command must end with the numbers of an undisturbed run: weights, masks,
structure, history, diagnostics and rows of runs.csv. A command that fails must say in one line what
is wrong. A fault that needs root, Linux or SLURM is not run where these are missing, and its row
says so. The table keeps the rows of the faults that are left out. Exits with 1 after harm.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from prunebench.core.files import read_json
from prunebench.experiments.machine import processor_name
from tests import slow_run
from tests.slow_run import (
    PRUNE,
    RUN,
    environment,
    kill_processes,
    outcome,
    processes,
    prunebench,
    start_snakemake,
    timeless_rows,
    unlock,
    wait_for,
)
from tests.workflow.conftest import ROOT, copy_workflow, snakemake

PAGE = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
HEAD = "| fault | where | times | outcome | tried on |\n|---|---|---:|---|---|"
KILLS = ROOT / "benchmarks/kill_and_resume.csv"

# A run that ends within a second. Its weights are masked, so it has every kind of file.
SMALL = Path("small/synthetic/resnet20_x0_25/l1_columns/default/0.5/seed0")
FILES = {
    "config/config.yaml": "{experiments: small, device: cpu, checkpoint_seconds: 1}",
    "config/experiments/small.yaml": """
title: Small
datasets: [synthetic]
networks: {resnet20_x0_25: {}}
seeds: [0]
ratios: [0.5]
recipes: {base: short, fine_tune: short}
methods: {unpruned: {}, l1_columns: {}}
""",
}
DISTURBED = (f"results/{RUN}/finished.json", "--cores", "2", "--config", "experiments=disturbed")
TRAINED = (  # in the order in which training writes them
    "structure.json",
    "masks.safetensors",
    "model.safetensors",
    "history.csv",
    "diagnostics.csv",
    "training.json",
)
MEASURED = ("metrics.json", "latency.json")


@dataclass(frozen=True)
class Stage:
    """A stage of the workflow: what it writes below results, and its command."""

    name: str
    made: tuple[str, ...]  # deleted, so that the stage runs; the last one is named in errors
    command: str
    target: str = ""  # of Snakemake; by default the first of `made`

    @property
    def word(self) -> str:
        """Return the name of its command."""
        return self.command.split()[0]

    def prepare(self, folder: Path) -> None:
        """Delete what the stage makes."""
        for name in self.made:
            path = folder / "results" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    def run(self, folder: Path) -> subprocess.CompletedProcess[str]:
        """Run the stage alone."""
        return prunebench(folder, *self.command.split())


NETWORK = "synthetic/resnet20_x0_25"
BASE = f"base/{NETWORK}/short/seed0"
STAGES = (
    Stage("data", ("data/synthetic.safetensors",), "data --dataset synthetic"),
    Stage(
        "base",
        (BASE,),
        "base --dataset synthetic --architecture resnet20_x0_25 --recipe short --device cpu",
        f"{BASE}/finished.json",
    ),
    Stage(
        "prune",
        (str(SMALL),),
        "prune --experiment small --method l1_columns",
        f"{SMALL}/finished.json",
    ),
    Stage(
        "measure cost",
        (f"small/{NETWORK}/cost_0.done", f"{SMALL}/metrics.json"),
        "measure --experiment small --only cost",
    ),
    Stage(
        "measure latency",
        (f"small/{NETWORK}/latency_0.done", f"{SMALL}/latency.json"),
        "measure --experiment small --only latency",
    ),
    Stage("collect", ("small/runs.csv",), "collect --experiment small"),
    *(
        Stage(
            word,
            (f"small/{word}",),
            f"{word} --runs-csv results/small/runs.csv --out results/small/{word}",
            f"small/{word}{page}",
        )
        for word, page in (("tables", "/summary.html"), ("figures", ""), ("report", "/index.html"))
    ),
)


class HarmError(Exception):
    """Something is lost or wrong after a fault, or a message says too little."""


def must(holds: bool, problem: str) -> None:
    """Raise HarmError unless something holds."""
    if not holds:
        raise HarmError(problem)


class Place:
    """Undisturbed results, copies of them to disturb, and the number of faults injected there."""

    def __init__(self, work: Path) -> None:
        self.work, self.whole, self.times = work, work / "whole", 0

    def prepare(self) -> None:
        """Make the undisturbed results, unless an earlier call has left them."""
        done = self.work / "whole.done"
        if done.exists():
            return
        shutil.rmtree(self.whole, ignore_errors=True)
        self.work.mkdir(exist_ok=True)
        copy_workflow(self.whole)
        slow_run.write_experiment(self.whole)
        for name, text in FILES.items():
            (self.whole / name).write_text(text, encoding="utf-8")
        experiments = ("--config", "experiments=[small,disturbed]")
        ended(start_snakemake(self.whole, "--cores", "2", *experiments), self.whole)
        done.touch()

    @contextmanager
    def copy(self) -> Iterator[Path]:
        """Copy the undisturbed results with their times; no process works there at the end."""
        folder = self.work / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.whole, folder, symlinks=True)
        try:
            yield folder
        finally:
            for word in {stage.word for stage in STAGES}:
                kill_processes(folder, word)
            shutil.rmtree(folder)

    def check(self, folder: Path, run: Path = SMALL) -> None:
        """Compare a run, and the rows of the small experiment, with the undisturbed ones."""
        found, expected = (outcome(at / "results" / run) for at in (folder, self.whole))
        odd = [key for key in expected if found.get(key) != expected[key]]
        must(not odd, f"{run.parts[3]} differs in {', '.join(odd)}")
        names = [path.name for path in (folder / "results" / run).iterdir()]
        left = [name for name in names if name.startswith((".", "resume"))]
        must(not left, f"{run.parts[3]} has left behind {', '.join(left)}")
        collected = folder / "results/small/runs.csv"
        if collected.exists():
            expected_rows = timeless_rows(self.whole / "results/small/runs.csv")
            must(timeless_rows(collected) == expected_rows, "runs.csv differs")


def ended(main: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait for Snakemake, which must succeed."""
    must(main.wait() == 0, f"Snakemake has failed:\n{said(folder)}")


def said(folder: Path) -> str:
    """Return the output of Snakemake in a folder."""
    return (folder / "main.log").read_text(encoding="utf-8")


def failed_with(done: subprocess.CompletedProcess[str], what: str, *words: str) -> None:
    """Check that a command has failed, and that its last line has some words."""
    must(done.returncode != 0, f"{what}: no failure")
    last = done.stdout.strip().splitlines()[-1:]
    is_line = "Traceback" not in done.stdout and all(word in " ".join(last) for word in words)
    must(is_line, f"{what}: {' '.join(words)} expected in {done.stdout[-800:]}")


def succeeded(done: subprocess.CompletedProcess[str], what: str) -> None:
    """Check that a command has succeeded."""
    must(done.returncode == 0, f"{what}: {done.stdout[-800:]}")


# --- Killed jobs and main processes


def start_slow(folder: Path) -> subprocess.Popen[bytes]:
    """Start the slow run from the beginning, and return when it has written a checkpoint."""
    shutil.rmtree(folder / "results" / RUN)
    (folder / "results/disturbed/runs.csv").unlink()  # without a run it would only be drawn
    (folder / "slow").touch()
    main = start_snakemake(folder, *DISTURBED)
    wait_for("a checkpoint", (folder / "results" / RUN / "resume.pt").exists)
    return main


def again(folder: Path) -> subprocess.Popen[bytes]:
    """Start the slow run once more after a killed Snakemake."""
    unlock(folder)
    return start_snakemake(folder, *DISTURBED)


def wait_for_two(folder: Path) -> None:
    """Return when two jobs of the slow run are there."""
    wait_for("a second job", lambda: len(processes(folder, "prune")) == 2)


def go_on(folder: Path) -> None:
    """Let the slow run go on at full speed."""
    (folder / "slow").unlink()


def resumed_at(folder: Path) -> list[Any]:
    """Return where the slow run has been resumed."""
    found: list[Any] = read_json(folder / "results" / RUN / "training.json")["resumed_at"]
    return found


def kill_job(place: Place) -> str:
    """Count the kills in the log of the benchmark, which compares all bits."""
    with KILLS.open(newline="", encoding="utf-8") as file:
        place.times = sum(row["signal"] == "SIGKILL" for row in csv.DictReader(file))
    must(place.times >= 100, f"{KILLS.name} has {place.times} kills")
    return "resumed from its checkpoint; same bits (log of `benchmarks/kill_and_resume.py`)"


def kill_main(place: Place) -> str:
    """Kill Snakemake, and start it again while its job lives."""
    for _ in range(3):
        with place.copy() as folder:
            main = start_slow(folder)
            main.kill()
            main.wait()
            place.times += 1
            second = again(folder)
            wait_for_two(folder)
            go_on(folder)
            ended(second, folder)
            must(resumed_at(folder) == [], "the second job has trained")
            place.check(folder, RUN)
    return WAITED


def kill_main_finished(place: Place) -> str:
    """Kill Snakemake, and start it again after its job has finished alone."""
    for _ in range(3):
        with place.copy() as folder:
            main = start_slow(folder)
            main.kill()
            main.wait()
            place.times += 1
            go_on(folder)
            training = folder / "results" / RUN / "training.json"
            wait_for("the end of the job", training.exists)
            before = training.stat().st_mtime_ns
            ended(again(folder), folder)
            must(training.stat().st_mtime_ns == before, "the run was trained again")
            place.check(folder, RUN)
    return ONCE_TRAINED


def kill_all(place: Place) -> str:
    """Kill Snakemake and its job."""
    for _ in range(3):
        with place.copy() as folder:
            main = start_slow(folder)
            main.kill()
            main.wait()
            place.times += kill_processes(folder, "prune")
            go_on(folder)
            ended(again(folder), folder)
            must(resumed_at(folder) != [], "the run has begun again")
            place.check(folder, RUN)
    return "resumed from its checkpoint; same numbers"


def has_begun(stage: Stage, folder: Path) -> bool:
    """Whether a stage does its own work: Python's start cannot be interrupted in a sentence."""
    if stage.word in ("base", "prune"):  # in a process forked from the server
        return (folder / "results" / stage.made[0] / ".writer.lock").exists()
    with suppress(psutil.NoSuchProcess):
        return any(one.cpu_times().user > 0.3 for one in processes(folder, stage.word))
    return False


def ctrl_c(place: Place) -> str:
    """Interrupt the whole process group of the workflow while each of its stages runs."""
    for stage in STAGES:
        with place.copy() as folder:
            stage.prepare(folder)
            target = f"results/{stage.target or stage.made[0]}"
            main = start_snakemake(folder, target, "--cores", "2")
            wait_for(stage.name, lambda: has_begun(stage, folder))  # noqa: B023
            os.killpg(main.pid, signal.SIGINT)
            place.times += 1
            main.wait()
            wait_for("the end of jobs", lambda: not processes(folder, stage.word))  # noqa: B023
            must("Traceback" not in said(folder), f"{stage.name}: {said(folder)[-800:]}")
            ended(start_snakemake(folder, "--cores", "2"), folder)
            place.check(folder)
    return "the same command goes on, in each of nine stages; same numbers"


# --- Disks and files


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Put the results on a file system of their own, whose size `leave` changes."""
    results, kept = folder / "results", folder / "kept"
    results.rename(kept)
    results.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", results], check=True)
    try:
        shutil.copytree(kept, results, dirs_exist_ok=True, symlinks=True)
        yield results
    finally:
        kill_processes(folder, "prune")
        subprocess.run(["umount", results], check=True)


def leave(results: Path, kib: int) -> None:
    """Leave so much space on a small disk."""
    size = shutil.disk_usage(results).used // 1024 + kib
    subprocess.run(["mount", "-o", f"remount,size={size}k", results], check=True)


PAGE_KIB = 4
LOCK_KIB = 2 * PAGE_KIB  # for the lock of a run, and the record beside it


def space_of(path: Path) -> int:
    """Return the KiB that a file takes on a small disk."""
    return -(-path.stat().st_size // (PAGE_KIB * 1024)) * PAGE_KIB


def disk_full_file(place: Place) -> str:
    """Leave space for the first files of a run, so that each of them once is the first to fail."""
    names = (*TRAINED, "finished.json")
    for number, name in enumerate(names):
        with place.copy() as folder, small_disk(folder) as results:
            before = sum(space_of(results / SMALL / earlier) for earlier in names[:number])
            PRUNE_STAGE.prepare(folder)
            leave(results, before + LOCK_KIB)
            failed_with(PRUNE_STAGE.run(folder), name, name, "No space left")
            place.times += 1
            leave(results, 10**6)
            succeeded(PRUNE_STAGE.run(folder), f"{name}, with space again")
            place.check(folder)
    return "one line names the file; with space again, the same command ends with the same numbers"


PRUNE_STAGE = next(stage for stage in STAGES if stage.name == "prune")


def disk_full_stage(place: Place) -> str:
    """Leave no space to each stage."""
    for stage in STAGES:
        with place.copy() as folder, small_disk(folder) as results:
            stage.prepare(folder)
            leave(results, 0)
            failed_with(stage.run(folder), stage.name, "No space left")
            place.times += 1
            leave(results, 10**6)
            succeeded(stage.run(folder), f"{stage.name}, with space again")
            place.check(folder)
    return "as above, in each of nine stages"


def disk_full_checkpoint(place: Place) -> str:
    """Leave no space for the first checkpoints of a run."""
    with place.copy() as folder, small_disk(folder) as results:
        shutil.rmtree(results / RUN)
        (folder / "slow").touch()
        leave(results, LOCK_KIB)
        out = folder / "main.log"
        with out.open("wb") as log:
            job = subprocess.Popen(
                [sys.executable, "-m", "prunebench", *PRUNE, "--experiment", "disturbed"],
                cwd=folder,
                env=environment(folder),
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        warning = "resume.pt: cannot be written (No space left"
        wait_for("ten warnings", lambda: said(folder).count(warning) >= 10)
        place.times = said(folder).count(warning)
        leave(results, 10**6)
        go_on(folder)
        ended(job, folder)
        place.check(folder, RUN)
    return "a warning each; training goes on; same numbers"


def truncated(content: bytes) -> bytes:
    """Return the first half."""
    return content[: len(content) // 2]


def bit_flipped(content: bytes) -> bytes:
    """Return the content with one bit changed, at a place that follows from its length."""
    rng = random.Random(len(content))
    at, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
    return content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :]


READERS = ("verify results/small", "collect --experiment small")


def repaired(damage: Callable[[bytes], bytes]) -> Callable[[Place], str]:
    """Return a fault that damages each file of a run, which `repair` then mends."""

    def inject(place: Place) -> str:
        problems = []
        for name in (*TRAINED, *MEASURED):
            with place.copy() as folder:
                place.times += 1
                try:
                    damage_and_repair(place, folder, name, damage)
                except HarmError as error:
                    problems.append(str(error))
        must(not problems, "; ".join(problems))
        return (
            "`verify` names the file, and `collect`, except for weights, which it does not read; "
            "`repair` makes it again; same numbers"
        )

    return inject


def damage_and_repair(
    place: Place, folder: Path, name: str, damage: Callable[[bytes], bytes]
) -> None:
    """Damage a file of the small run, look whether all stages see it, and repair it."""
    run = folder / "results" / SMALL
    (run / name).write_bytes(damage((run / name).read_bytes()))
    # Of a run, collect does not read the weights: that would take minutes with 10,000 runs.
    for command in READERS[:1] if name == "model.safetensors" else READERS:
        done = prunebench(folder, *command.split())
        must(done.returncode != 0, f"{command} accepts a damaged {name}")
        is_named = name in done.stdout and "Traceback" not in done.stdout
        must(is_named, f"{command}, {name}: {done.stdout[-800:]}")
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*.*")}
    succeeded(prunebench(folder, "repair", f"results/{SMALL}"), f"repair of {name}")
    own = {run / other for other in (*TRAINED, *MEASURED, "finished.json")}
    may_change = own if name in TRAINED else {run / name}
    files = [path for path in before if path.is_file()]
    changed = {path for path in files if path.stat().st_mtime_ns != before[path]}
    odd = [path.name for path in changed - may_change - {run / "finished.json"}]
    must(not odd, f"repair of {name} has changed {', '.join(odd)}")
    for command in READERS:
        succeeded(prunebench(folder, *command.split()), f"{command}, {name} repaired")
    place.check(folder)


def damaged_again(place: Place) -> str:
    """Cut each file that training writes in half, and run the same command again."""
    for name in TRAINED:
        with place.copy() as folder:
            path = folder / "results" / SMALL / name
            path.write_bytes(truncated(path.read_bytes()))
            place.times += 1
            done = PRUNE_STAGE.run(folder)
            succeeded(done, name)
            must(name in done.stdout, f"{name} is not named: {done.stdout[-800:]}")
            place.check(folder)
    return "`prune` names the file and trains again; same numbers"


def read_only(place: Place) -> str:
    """Make the results read-only, for root too, and run each stage."""
    for stage in STAGES:
        with place.copy() as folder:
            stage.prepare(folder)
            results = folder / "results"
            subprocess.run(["mount", "--bind", results, results], check=True)
            try:
                subprocess.run(["mount", "-o", "remount,ro,bind", results], check=True)
                done = stage.run(folder)
            finally:
                subprocess.run(["umount", results], check=True)
            place.times += 1
            failed_with(done, stage.name, "Read-only")
            succeeded(stage.run(folder), f"{stage.name}, writable again")
            place.check(folder)
    return "one line names the file, in each of nine stages"


# --- Two main processes, clocks, configurations


def two_mains(place: Place) -> str:
    """Start a second Snakemake while a job of the first one runs."""
    for _ in range(3):
        with place.copy() as folder:
            first = start_slow(folder)
            second = snakemake(folder, *DISTURBED, env=environment(folder))
            place.times += 1
            must(second.returncode != 0 and "--unlock" in second.stdout, second.stdout)
            go_on(folder)
            ended(first, folder)
            place.check(folder, RUN)
    return "the second one stops and names `--unlock`; the first one goes on"


def two_mains_nolock(place: Place) -> str:
    """Start a second Snakemake that ignores the lock of the first one."""
    for _ in range(3):
        with place.copy() as folder:
            first = start_slow(folder)
            second = start_snakemake(folder, *DISTURBED, "--nolock")
            wait_for_two(folder)
            place.times += 1
            go_on(folder)
            ended(first, folder)
            ended(second, folder)
            must(resumed_at(folder) == [], "both jobs have trained")
            place.check(folder, RUN)
    return "one job trains, the other one waits; same numbers"


def put_ahead(paths: Iterator[Path]) -> None:
    """Set the times of files two days ahead, as if the clock had been set back since."""
    ahead = datetime.now(UTC).timestamp() + 2 * 86400
    for path in paths:
        os.utime(path, (ahead, ahead))


def clock_back(place: Place) -> str:
    """Set the clock back after each stage, by the times of the files up to it."""
    for number, stage in enumerate(STAGES[:6], start=1):
        with place.copy() as folder:
            kept = folder / "results" / SMALL / "training.json"
            before = kept.read_bytes()
            for earlier in STAGES[:number]:
                for name in earlier.made:
                    path = folder / "results" / name
                    put_ahead(path.rglob("*") if path.is_dir() else iter([path]))
            place.times += 1
            ended(start_snakemake(folder, "--cores", "2"), folder)
            must(kept.read_bytes() == before, f"after {stage.name}, the run was trained again")
            place.check(folder)
    return "some jobs run again and find finished runs; no step is repeated; same numbers"


def clock_back_killed(place: Place) -> str:
    """Set the clock back after the kill of a run, by the times of its checkpoint and lock."""
    with place.copy() as folder:
        main = start_slow(folder)
        main.kill()
        main.wait()
        place.times += kill_processes(folder, "prune")
        put_ahead((folder / "results" / RUN).iterdir())
        go_on(folder)
        ended(again(folder), folder)
        must(resumed_at(folder) != [], "the run has begun again")
        place.check(folder, RUN)
    return "the lock is taken over, the checkpoint resumed; same numbers"


def mutations(place: Place) -> str:
    """Mutate configurations at random."""
    command = [sys.executable, "-m", "tests.faults.mutate_configurations", "--count", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = re.search(r"(\d+) mutations, (\d+) resolved, (\d+) errors of one line", done.stdout)
    if found is None:
        raise HarmError(done.stdout[-800:] + done.stderr[-800:])
    place.times = int(found[1])
    must(done.returncode == 0, done.stdout[-800:])
    return f"{found[2]} are valid; {found[3]} end with an error of one line"


# --- On SLURM, tests inject the faults


def on_slurm(name: str, words: str) -> Callable[[Place], str]:
    """Return a fault that a test injects, and that it judges."""

    def inject(place: Place) -> str:
        test = f"tests/slurm/test_interrupted.py::{name}"
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "slurm", test]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        passed = done.returncode == 0 and "1 passed" in done.stdout
        must(passed, f"{test} failed\n{done.stdout[-3000:]}")
        place.times = 1
        return words

    return inject


@dataclass(frozen=True)
class Fault:
    """A row of the table."""

    what: str
    inject: Callable[[Place], str]  # returns the outcome in words, HarmError after harm
    where: str = "local"
    needs_root: bool = False

    @property
    def missing(self) -> str | None:
        """Return why it cannot be injected here, or None."""
        if self.needs_root and (os.geteuid() != 0 or sys.platform != "linux"):
            return "needs root on Linux, to mount file systems"
        if self.where == "SLURM":
            if shutil.which("sinfo") is None:
                return "SLURM is not installed (`tests/slurm/start.sh`)"
            if subprocess.run(["sinfo"], capture_output=True, check=False).returncode:
                return "SLURM does not run (`tests/slurm/start.sh`)"
        return None


ONCE_TRAINED = "the next call writes the receipt; no step is repeated"
WAITED = "a second job waits, then writes the receipt; no step is repeated"
RESUMED = "submitted again, resumed from its checkpoint; same numbers"
SECOND = "test_a_second_job_of_a_running_run_waits"
FAULTS = {
    "kill_job": Fault("`kill -9` of a job", kill_job),
    "kill_job_slurm": Fault(
        "`kill -9` of a job", on_slurm("test_a_killed_job_resumes", RESUMED), "SLURM"
    ),
    "kill_main": Fault("`kill -9` of Snakemake; its job lives on", kill_main),
    "kill_main_slurm": Fault(
        "`kill -9` of Snakemake; its job lives on",
        on_slurm(f"{SECOND}[at_the_lock]", WAITED),
        "SLURM",
    ),
    "kill_main_pending": Fault(
        "`kill -9` of Snakemake; the second job is in the queue meanwhile",
        on_slurm(f"{SECOND}[in_the_queue]", WAITED),
        "SLURM",
    ),
    "kill_main_finished": Fault(
        "`kill -9` of Snakemake; its job finishes alone", kill_main_finished
    ),
    "kill_main_finished_slurm": Fault(
        "`kill -9` of Snakemake; its job finishes alone",
        on_slurm("test_a_job_that_finished_alone_is_not_repeated", ONCE_TRAINED),
        "SLURM",
    ),
    "kill_all": Fault("`kill -9` of Snakemake and of its job", kill_all),
    "scancel": Fault("`scancel`", on_slurm("test_a_cancelled_job_resumes", RESUMED), "SLURM"),
    "drain": Fault(
        "node drained and resumed",
        on_slurm("test_jobs_wait_for_a_drained_node", "the running job ends, the next one waits"),
        "SLURM",
    ),
    "walltime": Fault(
        "walltime of one minute",
        on_slurm("test_a_run_longer_than_its_walltime_resumes", RESUMED),
        "SLURM",
    ),
    "disk_full_checkpoint": Fault(
        "disk full in a checkpoint", disk_full_checkpoint, needs_root=True
    ),
    "disk_full_file": Fault("disk full in each file of a run", disk_full_file, needs_root=True),
    "disk_full_stage": Fault("disk full in each stage", disk_full_stage, needs_root=True),
    "truncated": Fault("each file of a run cut in half", repaired(truncated)),
    "bit_flipped": Fault("a bit flipped in each file of a run", repaired(bit_flipped)),
    "damaged_again": Fault("each file of training cut in half, same command", damaged_again),
    "read_only": Fault("read-only results, in each stage", read_only, needs_root=True),
    "two_mains": Fault("two `snakemake` on one folder", two_mains),
    "two_mains_nolock": Fault("two `snakemake`, one with `--nolock`", two_mains_nolock),
    "clock_back": Fault("clock set back by two days after a stage (times of files)", clock_back),
    "clock_back_killed": Fault(
        "clock set back by two days after a kill (times of files)", clock_back_killed
    ),
    "ctrl_c": Fault("Ctrl-C in each stage", ctrl_c),
    "mutations": Fault("random mutation of a configuration", mutations),
}


def injected(fault: Fault, place: Place) -> tuple[str, bool]:
    """Inject a fault; return its row of the table, and whether it has done harm."""
    place.times, harm = 0, False
    if missing := fault.missing:
        words = f"not run: {missing}"
    else:
        try:
            words = fault.inject(place)
        except Exception as error:
            harm = True
            print(f"{fault.what}: {error}", file=sys.stderr, flush=True)
            if not isinstance(error, HarmError):
                traceback.print_exc()
            words = f"**harm**: {str(error).strip().splitlines()[0][:200]}"
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return f"| {fault.what} | {fault.where} | {place.times} | {words} | {today} |", harm


def write_row(name: str, row: str) -> None:
    """Replace a row of the table; the others stay, in the order of FAULTS."""
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    old, after = rest.split(END)
    cells = {tuple(line.split(" | ")[:2]): line for line in old.splitlines() if " | " in line}
    stored = {key: cells.get((f"| {one.what}", one.where)) for key, one in FAULTS.items()}
    lines = [line for line in (stored | {name: row}).values() if line]
    where = (
        f"By `python -m tests.faults.inject`; {processor_name()}, Python "
        f"{sys.version.split()[0]}, PyTorch {version('torch')}, Snakemake {version('snakemake')}."
    )
    table = "\n".join([where, "", HEAD, *lines])
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def main() -> None:
    """Inject the chosen faults, and write the row of each into the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=FAULTS, metavar="NAME")
    parser.add_argument("--work", type=Path, help="folder that keeps the undisturbed results")
    given = parser.parse_args()
    names, harms = given.only or list(FAULTS), []
    with tempfile.TemporaryDirectory() as temporary:
        place = Place((given.work or Path(temporary)).resolve())
        if any(FAULTS[name].where == "local" for name in names):
            place.prepare()
        for name in names:
            row, harm = injected(FAULTS[name], place)
            print(row, flush=True)
            harms += [name] if harm else []
            write_row(name, row)
    if harms:
        sys.exit(f"harm by {', '.join(harms)}")


if __name__ == "__main__":
    main()
