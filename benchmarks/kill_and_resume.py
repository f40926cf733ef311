"""Kill runs at random moments, start them again, and compare with runs that nobody disturbed.

    python benchmarks/kill_and_resume.py --log benchmarks/kill_and_resume.csv

Each run is a base network, or a method on one: a narrow ResNet-20 on synthetic stripes; one method
accumulates its gradients, another trains with AdamW. Every attempt at a run is a process of its
own, forked from this one so that PyTorch is imported once; it is killed by SIGKILL or ended by
SIGTERM after a random time, or by SIGKILL as soon as the temporary file of a checkpoint is seen. A
kill was inside the writing where that file is left behind. The last attempt is left alone and must
end with the bits of the undisturbed run: weights, masks, structure, history, diagnostics and
figures. The log has a row per kill; the command fails where a run differs or where fewer kills than
asked for have been seen.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prunebench.core.errors import RunStoppedError
from prunebench.core.files import read_json, write_csv
from prunebench.data.dataset import prepare
from prunebench.experiments.machine import Machine
from prunebench.experiments.phases import Budget, Phase, training
from prunebench.experiments.recipe import Augment, Recipe, Schedule
from prunebench.experiments.spec import BaseSpec, RunSpec, data_path
from prunebench.methods.registry import METHODS, method_class
from prunebench.training.progress import PlainProgress
from prunebench.training.train import train_base, train_run

L1 = method_class("l1")

COLUMNS = (
    "run", "subject", "kill", "signal", "moment", "kind", "kill_phase", "kill_step",
    "in_writing", "resume_phase", "resume_step",
)  # fmt: skip
KINDS = {  # of a phase, by subject and phase; the rest is "fine-tune"
    ("base", "train"): "base",
    ("greg_1", "regularize"): "penalty",
    ("greg_1", "stabilize"): "penalty",
    ("srfp", "train"): "pruning",
    ("asrfp", "train"): "pruning",
    ("rounds", "retrain_1"): "between rounds",
    ("rounds", "retrain_2"): "between rounds",
}
FIGURES = ("weights_sha256", "top1", "val_top1", "top1_best_val", "top1_best_test", "epochs",
           "summary", "capped", "masked_removed_difference", "data_sha256")  # fmt: skip
PHASES = ("base", "penalty", "pruning", "fine-tune", "between rounds")
REQUIRED = {  # at least, of kills that were resumed at a step above 0
    "resumed at a step above 0": 150,
    "SIGKILL": 50,
    "SIGTERM": 50,
    "inside the writing of a checkpoint": 10,
    **{f"in the phase: {kind}": 10 for kind in PHASES},
}
INTERVALS_S = (0.0, 0.0, 0.05, 0.2)  # between checkpoints, drawn for each attempt


class Rounds(L1):
    """L1 in three rounds, with training and momenta between them."""

    def phases(self, recipes: Mapping[str, Recipe], budget: Budget) -> list[Phase]:
        """Return select, two rounds of retrain, fine_tune."""
        recipe, third = recipes["fine_tune"], budget.ratio / 3
        return [
            Phase(name="select", then=Budget(kind=budget.kind, ratio=third)),
            training("retrain_1", recipe, then=Budget(kind=budget.kind, ratio=2 * third)),
            training("retrain_2", recipe, optimizer="carry", then=budget),
            training("fine_tune", recipe, optimizer="carry"),
        ]


METHODS["rounds"] = "__main__:Rounds"
OPTIONS: dict[str, dict[str, Any]] = {
    "greg_1": {"delta": 0.05, "interval_steps": 3, "stabilize_steps": 20},
    "srfp": {"scope": "group"},
    "asrfp": {"scope": "group"},
}
FINE_TUNE: dict[str, dict[str, Any]] = {
    "l1": {"accumulation": 2, "clip_norm": 1.0},
    "rounds": {"optimizer": "adamw", "nesterov": False, "lr": 0.002},
}
SUBJECTS = ("base", "greg_1", "srfp", "asrfp", "l1", "rounds")


def recipe(**more: Any) -> Recipe:
    """Return a recipe in which everything is on that a resume could spoil."""
    settings: dict[str, Any] = {
        "epochs": 6,
        "batch_size": 64,
        "lr": 0.05,
        "weight_decay": 1e-3,
        "nesterov": True,
        "schedule": Schedule(kind="cosine", per="step", warmup_epochs=0.5),
        "augment": Augment(crop_padding=1, flip=True, cutout=2),
    }
    return Recipe(**(settings | more))


def base_spec() -> BaseSpec:
    return BaseSpec(
        dataset="synthetic",
        architecture="resnet20_x0_25",
        recipe_name="base",
        recipe=recipe(),
        seed=0,
        threads=1,
    )


def run_spec(method: str) -> RunSpec:
    found = method_class(method)
    roles = {"regularize": {"epochs": None, "lr": 0.01}, "fine_tune": FINE_TUNE.get(method, {})}
    return RunSpec(
        experiment="killed",
        dataset="synthetic",
        architecture="resnet20_x0_25",
        method=method,
        setting="default",
        ratio=0.5,
        ratio_kind="units_per_group",
        seed=0,
        threads=1,
        revision=found.revision,
        start=found.start,
        options=found.Options(**OPTIONS.get(method, {})).model_dump(mode="json"),
        recipes={role: recipe(**roles.get(role, {})) for role in found.recipe_roles},
        recipe_names=dict.fromkeys(found.recipe_roles, "base"),
        base=base_spec(),
    )


class Journal(PlainProgress):
    """Progress in a file that a killed process leaves behind: each line is one write."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def say(self, text: str) -> None:
        """Write a line."""
        os.write(self.file, f"say {text}\n".encode())

    def phase(self, name: str, steps: int, done: int) -> None:
        """Write the phase and the steps done."""
        super().phase(name, steps, done)
        os.write(self.file, f"at {name} {done}\n".encode())

    def step(self, clock: int) -> None:
        """Write the steps done."""
        os.write(self.file, f"at {self.name} {clock}\n".encode())


@dataclass
class Attempt:
    """One process of a run: the step at which it resumed and its last step."""

    resumed: tuple[str, int] | None = None
    last: tuple[str, int] | None = None

    @classmethod
    def read(cls, journal: Path) -> Attempt:
        """Read what the process has written down."""
        found = cls()
        for line in journal.read_text().splitlines() if journal.exists() else []:
            if went_on := re.match(r"say continues in phase '?(\w+)'? at step (\d+)", line):
                found.resumed = went_on[1], int(went_on[2])
            if at := re.match(r"at (\w+) (\d+)$", line):
                found.last = at[1], int(at[2])
        return found


@dataclass
class Subject:
    """A specification, its undisturbed outcome, and the seconds that took."""

    name: str
    spec: BaseSpec | RunSpec
    expected: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def start(self, results: Path, journal: Path, interval_s: float) -> int:
        """Fork a process that trains; return its number."""
        if pid := os.fork():
            return pid
        code = 1
        try:
            train = train_base if isinstance(self.spec, BaseSpec) else train_run
            machine = Machine(device="cpu", checkpoint_seconds=interval_s)
            train(self.spec, results, machine=machine, progress=Journal(journal))  # type: ignore
            code = 0
        except RunStoppedError as stopped:
            code = 128 + stopped.number
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)

    def outcome(self, results: Path) -> dict[str, Any]:
        """Return all that must come out the same."""
        folder = results / self.spec.path
        training_json = read_json(folder / "training.json")
        with (folder / "history.csv").open(newline="") as lines:
            history = [{**row, "seconds": ""} for row in csv.DictReader(lines)]
        files = ("structure.json", "masks.safetensors", "model.safetensors", "diagnostics.csv")
        return {
            **{key: training_json[key] for key in FIGURES},
            **{name: (folder / name).read_bytes() for name in files},
            "history": history,
        }


def wait(pid: int) -> int:
    """Return the exit code of a process, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def has_ended(pid: int) -> bool:
    """Whether a process is dead and not yet waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Killer:
    """Disturbs runs and writes down every kill."""

    def __init__(self, work: Path, rng: random.Random) -> None:
        self.work, self.rng = work, rng
        self.rows: list[dict[str, Any]] = []
        self.counted: Counter[str] = Counter()

    def disturb(self, number: int, subject: Subject, fresh: Path, kills: int) -> None:
        """Run a subject to its end in spite of so many kills."""
        results = self.work / f"run{number}"
        shutil.copytree(fresh, results)
        rows: list[dict[str, Any]] = []
        while True:
            row, resumed = self.attempt(subject, results, len(rows) + 1, last=len(rows) == kills)
            if rows and resumed:
                rows[-1] |= {"resume_phase": resumed[0], "resume_step": resumed[1]}
            if row is None:
                break
            rows.append({"run": number, "subject": subject.name, **row})
        if (found := subject.outcome(results)) != subject.expected:
            odd = [key for key in found if found[key] != subject.expected[key]]
            raise SystemExit(f"run {number} ({subject.name}) differs in {', '.join(odd)}: {rows}")
        left = [p.name for p in (results / subject.spec.path).iterdir() if "resume" in p.name]
        if left:
            raise SystemExit(f"run {number} ({subject.name}) has left behind {', '.join(left)}")
        self.rows += rows
        for row in rows:
            self.count(row)
        shutil.rmtree(results)

    def attempt(
        self, subject: Subject, results: Path, number: int, *, last: bool
    ) -> tuple[dict[str, Any] | None, tuple[str, int] | None]:
        """Start a process and kill it; return the kill (None where it came to its end)."""
        journal, folder = results / f"journal{number}", results / subject.spec.path
        journal.unlink(missing_ok=True)
        pid = subject.start(results, journal, self.rng.choice(INTERVALS_S))
        moment = self.rng.choice(("time", "time", "time", "writing"))
        name = "SIGKILL" if moment == "writing" else self.rng.choice(("SIGKILL", "SIGTERM"))
        if not last:
            temporary = folder / f".resume.{pid}.pt"
            until = time.monotonic() + self.rng.uniform(0.05, 0.5) * subject.seconds
            while time.monotonic() < until and not has_ended(pid):
                time.sleep(0.002)
            while moment == "writing" and not (temporary.exists() or has_ended(pid)):
                pass  # the file is there for a few milliseconds only
            os.kill(pid, signal.Signals[name])
        code = wait(pid)
        seen = Attempt.read(journal)
        if code == 0:
            return None, seen.resumed
        if code not in (-signal.SIGKILL, 128 + signal.SIGTERM, -signal.SIGTERM):
            raise SystemExit(f"{subject.name}: an attempt ended with {code}")
        phase, step = seen.last or seen.resumed or ("start", 0)
        row = {
            "kill": number,
            "signal": name,
            "moment": moment,
            "kind": KINDS.get((subject.name, phase), "fine-tune" if phase != "start" else "start"),
            "kill_phase": phase,
            "kill_step": step,
            "in_writing": int(temporary.exists()),
            "resume_phase": "",
            "resume_step": 0,
        }
        return row, seen.resumed

    def count(self, row: dict[str, Any]) -> None:
        """Count a kill that was resumed at a step above 0."""
        if row["resume_step"] > 0:
            self.counted["resumed at a step above 0"] += 1
            self.counted[row["signal"]] += 1
            self.counted["inside the writing of a checkpoint"] += row["in_writing"]
            self.counted[f"in the phase: {row['kind']}"] += 1


def prepare_bases(work: Path) -> dict[bool, Path]:
    """Write the data and a base network; return results folders without and with it."""
    bare, with_base = work / "bare", work / "with_base"
    prepare("synthetic", work, data_path(bare, "synthetic"))
    shutil.copytree(bare, with_base)
    subject = Subject("base", base_spec())
    if wait(subject.start(with_base, work / "journal", 3600)) != 0:
        raise SystemExit("the base network could not be trained")
    return {True: bare, False: with_base}


def main() -> None:
    """Run everything and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=54)
    parser.add_argument("--kills", type=int, default=6, help="per run")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--log", type=Path, default=Path("kill_and_resume.csv"))
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        fresh = prepare_bases(work)
        subjects = [Subject("base", base_spec())]
        subjects += [Subject(name, run_spec(name)) for name in SUBJECTS[1:]]
        for subject in subjects:
            results = work / f"whole_{subject.name}"
            shutil.copytree(fresh[subject.name == "base"], results)
            begun = time.monotonic()
            if wait(subject.start(results, results / "journal", 3600)) != 0:
                raise SystemExit(f"{subject.name} did not come to its end undisturbed")
            subject.seconds = time.monotonic() - begun
            subject.expected = subject.outcome(results)
            print(f"{subject.name}: {subject.seconds:.1f} s undisturbed", flush=True)
        killer = Killer(work, random.Random(options.seed))
        for number in range(options.runs):
            subject = subjects[number % len(subjects)]
            killer.disturb(number, subject, fresh[subject.name == "base"], options.kills)
            sys.stdout.flush()
    write_csv(options.log, COLUMNS, killer.rows)
    print(f"{options.runs} runs, {len(killer.rows)} kills, {time.monotonic() - started:.0f} s; "
          "every run ended with the bits of the undisturbed one")  # fmt: skip
    for what, least in REQUIRED.items():
        print(f"{killer.counted[what]:5d} {what} (at least {least})")
    if any(killer.counted[what] < least for what, least in REQUIRED.items()):
        raise SystemExit("too few kills of a kind; more --runs or another --seed")


if __name__ == "__main__":
    main()
