"""Run every stage on disks that refuse: each must say so in one line that names a path.

    sudo python -m tests.faults.bad_disks

A disk is full, the results are mounted read-only or may not be written or read, a folder is in the
place of a file, or a file in the place of a folder. A stage must end with status 1 and one line
that begins with `prunebench:` and names a path of the results, or, if it needs no refused file,
with status 0. A disk that becomes full while a network is trained must not end the training, and
costs only the steps after the last checkpoint. Prints the line of each stage on each disk. Exits
with 1 if there was anything else. Needs Linux and root, for mounts; takes four minutes of a core.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import yaml

from prunebench.cli import command
from tests.cli.conftest import BASE, EXPERIMENT, L1, RECIPE

NETWORK = "--dataset synthetic --architecture resnet20_x0_25"
CSV, OUT = Path("results/tiny/runs.csv"), Path("results/out")
REFERENCE = Path(__file__).parents[2] / "results" / "reference"
DATA = Path("results/data/synthetic.safetensors")
SHARED = OUT / "hash"  # of a specification
MOST_SECONDS = 120
OUTPUT = ("out.txt", "err.txt")


@dataclass(frozen=True)
class Stage:
    """A command on the tiny experiment.

    Attributes
    ----------
    written
        A file that it writes; None: it only reads.
    removed
        Deleted before the command, so that it has something to do.
    """

    name: str
    options: str = ""
    written: Path | None = None
    removed: tuple[Path, ...] = ()


STAGES = (
    Stage("resolve", "", Path("results/resolved/tiny.jsonl")),
    Stage("data", "--dataset synthetic", DATA, (DATA,)),
    Stage("base", f"{NETWORK} --recipe one_epoch", BASE / "training.json", (BASE,)),
    Stage("prune", "--method l1", L1 / "model.safetensors", (L1,)),
    Stage("measure", "--only cost", L1 / "metrics.json", (L1 / "metrics.json",)),
    Stage("latencies", f"{NETWORK} --points 1 --out {OUT}/l.json", OUT / "l.json"),
    Stage("collect", "", CSV, (CSV, CSV.with_name("collected.jsonl"))),
    Stage("tables", f"--runs-csv {CSV} --out {OUT}", OUT / "summary.csv"),
    Stage("figures", f"--runs-csv {CSV} --out {OUT}", OUT / "accuracy_epochs.svg"),
    Stage("report", f"--runs-csv {CSV} --out {OUT}", OUT / "index.html"),
    Stage("claims", f"--results {REFERENCE} --out {OUT}", OUT / "claims.csv"),
    Stage("costs", f"--paper increg --out {OUT}", OUT / "costs.csv"),
    Stage("published", f"--paper greg --out {OUT}/p.csv", OUT / "p.csv"),
    Stage("export", f"{L1} --out {OUT}/x.pt2", OUT / "x.pt2"),
    Stage("groups", f"resnet20 --out {OUT}/g.svg", OUT / "g.svg"),
    Stage("repair", f"{L1}", L1 / "history.csv", (L1 / "history.csv",)),
    Stage("share", f"{BASE} --to {OUT}", SHARED),
    Stage("discard", f"{L1}"),
    Stage("status"),
    Stage("verify", f"{L1}"),
    Stage("show", f"{L1}"),
    Stage("diff", f"{L1} {BASE}"),
)


@contextmanager
def full(results: Path, stage: Stage) -> Iterator[None]:
    """A disk without a free byte."""
    size = sum(path.stat().st_size + 8192 for path in results.rglob("*"))
    copy = results.with_name("copy")
    shutil.copytree(results, copy)
    with mounted("-t", "tmpfs", "-o", f"size={size + 2**20}", "tmpfs", results):
        shutil.copytree(copy, results, dirs_exist_ok=True)
        fill(results)
        yield
    shutil.rmtree(copy)


@contextmanager
def read_only(results: Path, stage: Stage) -> Iterator[None]:
    """A file system that is mounted read-only."""
    with mounted("--bind", results, results):
        subprocess.run(["mount", "-o", "remount,ro,bind", results], check=True)
        yield


@contextmanager
def forbidden(results: Path, stage: Stage) -> Iterator[None]:
    """Files and folders that may not be written."""
    subprocess.run(["chmod", "-R", "a-w", results], check=True)
    yield
    subprocess.run(["chmod", "-R", "u+w", results], check=True)


@contextmanager
def unreadable(results: Path, stage: Stage) -> Iterator[None]:
    """Files that may not be read."""
    for path in results.rglob("*"):
        if path.is_file():
            path.chmod(0)
    yield


@contextmanager
def folder_in_place(results: Path, stage: Stage) -> Iterator[None]:
    """A folder where the stage writes a file."""
    assert stage.written is not None
    (results.parent / stage.written).unlink(missing_ok=True)
    (results.parent / stage.written / "inside").mkdir(parents=True)
    yield


@contextmanager
def file_in_place(results: Path, stage: Stage) -> Iterator[None]:
    """A file where the stage writes into a folder."""
    assert stage.written is not None
    folder = (results.parent / stage.written).parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()
    yield


def fill(folder: Path) -> None:
    """Write a file until the disk is full."""
    with (folder / "filler").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(2**12)):
            pass


Disk = Callable[[Path, Stage], AbstractContextManager[None]]
DISKS: dict[str, Disk] = {
    disk.__name__: disk
    for disk in (full, read_only, forbidden, unreadable, folder_in_place, file_in_place)
}
WITHOUT_RIGHTS = ("forbidden", "unreadable")  # root may write and read anything


@contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    """Mount something within the block; the last argument is its place."""
    subprocess.run(["mount", *arguments], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", arguments[-1]], check=True)


def give_up_rights() -> None:
    """Give up the capabilities of root, such as that to write files of mode 0444."""
    version = 0x20080522  # _LINUX_CAPABILITY_VERSION_3
    header, nothing = (ctypes.c_uint32 * 2)(version, 0), (ctypes.c_uint32 * 6)()
    if ctypes.CDLL(None, use_errno=True).capset(header, nothing):
        raise OSError(ctypes.get_errno(), "capset")


@dataclass(frozen=True)
class Ended:
    """How a command has ended."""

    status: int
    out: str
    err: str


def run(folder: Path, stage: Stage, *, without_rights: bool = False) -> Ended:
    """Run a command to its end."""
    return ended(start(folder, stage, without_rights=without_rights), folder)


def start(folder: Path, stage: Stage, *, without_rights: bool = False) -> int:
    """Start a command in a fork of this process, which has imported everything."""
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        for stream, name in enumerate(OUTPUT, 1):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        if without_rights:
            give_up_rights()
        signal.alarm(MOST_SECONDS)
        status = 70  # a traceback
        try:
            command.run([stage.name, *stage.options.split()])
        except SystemExit as end:
            if isinstance(end.code, str):
                print(end.code, file=sys.stderr)
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return child


def ended(child: int, folder: Path) -> Ended:
    """Wait for the end of a command."""
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return Ended(status, *((folder / name).read_text(encoding="utf-8") for name in OUTPUT))


def full_in_training(folder: Path) -> str:
    """Fill the disk after the first checkpoint; return the problem, empty if there is none.

    The training must go on to its end, whose files cannot be written. With space again, the same
    command must continue from the checkpoint and give the weights of a run that nothing disturbed.
    """
    results, stage = folder / "results", Stage("base", f"{NETWORK} --recipe long")
    recipe = RECIPE | {"epochs": 30}
    (folder / "config/recipes/long.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (folder / "config/config.yaml").write_text("{experiments: [tiny], checkpoint_seconds: 0.2}")
    results.mkdir()
    own = results / BASE.relative_to("results").parents[1] / "long/seed0"
    with mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", results):
        run(folder, Stage("data", "--dataset synthetic"))
        run(folder, stage)
        expected = json.loads((own / "training.json").read_text())["weights_sha256"]
        shutil.rmtree(own)
        child = start(folder, stage)
        while not (own / "resume.pt").exists():
            time.sleep(0.01)
        fill(results)
        refused = ended(child, folder)
        (results / "filler").unlink()
        resumed = run(folder, stage)
        found = json.loads((own / "training.json").read_text())
        left = sorted(path.name for path in own.glob("resume*"))
    results.rmdir()
    warned = "resume.pt: cannot be written (No space left on device)" in refused.out
    then = "the same command then goes on from the last checkpoint\n"
    facts = {
        "no failed checkpoint was reported": warned and "training goes on" in refused.out,
        f"ended with {refused.status}: {refused.err}": refused.status == 1,
        f"does not say what to do: {refused.err}": refused.err.endswith(then),
        f"ended with {resumed.status}: {resumed.err}": resumed.status == 0,
        "did not continue": bool(found["resumed_at"]),
        "other weights": found["weights_sha256"] == expected,
        f"left {left}": not left,
    }
    return "; ".join(words for words, holds in facts.items() if not holds)


def problem(end: Ended, stage: Stage, disk: str) -> str:
    """Return what is wrong with the end of a stage on a disk, empty if nothing is."""
    must_fail = stage.written is not None and disk != "unreadable"
    lines = end.err.splitlines()
    if end.status == 0:
        return "must fail" if must_fail else ""
    if end.status not in (1, 2):
        return f"status {end.status}"
    if stage.name == "diff" and not lines:
        return ""  # runs that differ
    if not lines or not all(line.startswith("prunebench: ") for line in lines):
        return "no sentence"
    if len(lines) != 1 + (stage.name == "verify"):  # which counts the damaged runs at the end
        return f"{len(lines)} lines"
    if not re.search(r"results/|/results\b|results:", lines[0]):
        return "names no path"
    return ""


def prepared(folder: Path) -> Path:
    """Run the tiny experiment in a folder, and return its results."""
    contents = {"config.yaml": {"experiments": ["tiny"]}, "recipes/one_epoch.yaml": RECIPE}
    for name, content in {**contents, "experiments/tiny.yaml": EXPERIMENT}.items():
        path = folder / "config" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
    every = [
        *STAGES[:3],
        *(Stage("prune", f"--method {method}") for method in ("unpruned", "l1")),
        *(stage for stage in STAGES if stage.name in ("measure", "collect")),
    ]
    for stage in every:
        end = run(folder, stage)
        if end.status:
            sys.exit(f"{stage.name}: {end.err}")
    return folder / "results"


def outcome(folder: Path, stored: Path, stage: Stage, disk: str) -> tuple[Ended, str]:
    """Run a stage on a disk with a copy of the stored results; return its end and the problem."""
    results = folder / "results"
    shutil.copytree(stored, results)
    for path in (folder / part for part in stage.removed):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    with DISKS[disk](results, stage):
        end = run(folder, stage, without_rights=disk in WITHOUT_RIGHTS)
    shutil.rmtree(results)
    return end, problem(end, stage, disk)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=[stage.name for stage in STAGES])
    parser.add_argument("--disk", choices=DISKS)
    given = parser.parse_args()
    counts: Counter[bool] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        stored = prepared(folder).rename(folder / "stored")
        for disk in [given.disk] if given.disk else DISKS:
            for stage in STAGES:
                impossible = disk.endswith("in_place") and stage.written in (None, SHARED)
                if given.stage not in (None, stage.name) or impossible:
                    continue
                end, wrong = outcome(folder, stored, stage, disk)
                counts[not wrong] += 1
                said = end.err.strip().replace(scratch, "") or f"status {end.status}"
                print(f"{disk:<16}{stage.name:<11}{wrong and f'[{wrong}] '}{said}", flush=True)
        if given.stage is None and given.disk is None:
            wrong = full_in_training(folder)
            counts[not wrong] += 1
            print(f"{'full':<16}{'training':<11}{wrong or 'resumed with equal weights'}")
    print(f"{counts[True]} stages ended as they must, {counts[False]} did not")
    if counts[False]:
        sys.exit(1)


if __name__ == "__main__":
    main()
