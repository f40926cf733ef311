"""How long runs take: recorded seconds of equal runs, or the speed of their network times work.

The work of a run is its optimizer steps and its multiply-accumulates: three times those of a
forward pass for each training image, once for each evaluated one. The speed of a network, seconds
per step and per multiply-accumulate, is fitted to recorded runs of it, or measured. No torch is
imported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from prunebench.core.files import parsed_json, read_csv
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.spec import RunSpec

BACKWARD = 3  # forward and backward pass, in forward passes
TEXTS = ("dataset", "architecture", "method", "ratio", "ratio_kind", "spec_hash", "recipes")
NUMBERS = ("training_seconds", "epochs", "macs", "params", "base_macs", "base_params")


class Images(NamedTuple):
    """Numbers of images of a data set's splits."""

    train: int
    val: int
    test: int

    def at_most(self, most: int | None) -> Images:
        """Return the numbers of a trial."""
        return self if most is None else Images(*(min(count, most) for count in self))


class Work(NamedTuple):
    """What a run computes."""

    steps: float
    macs: float  # multiply-accumulates of all passes

    def __add__(self, other: tuple[float, ...]) -> Work:  # type: ignore[override]
        return Work(self.steps + other[0], self.macs + other[1])


@dataclass(frozen=True)
class Speed:
    """Seconds of a network on a machine: per optimizer step, and per multiply-accumulate."""

    per_step: float
    per_mac: float

    def seconds(self, work: Work) -> float:
        """Return the seconds of some work."""
        return self.per_step * work.steps + self.per_mac * work.macs


@dataclass(frozen=True)
class Recorded:
    """A finished run, from a row of a runs.csv.

    Attributes
    ----------
    recipes
        Text of the column `recipes`.
    events
        Column of the run's history: "" for an epoch, "pruned" for a removal.
    """

    dataset: str
    architecture: str
    method: str
    ratio: str
    ratio_kind: str
    spec_hash: str
    recipes: str
    seconds: float
    epochs: float
    macs: int
    params: int
    base_macs: int
    base_params: int
    device: str
    processor: str
    events: tuple[str, ...]

    def work(self, images: Images) -> Work:
        """Return what the run has computed, with the smaller network after its last removal."""
        recipes = list(_parsed_recipes(self.recipes).values())
        removed = [i for i, event in enumerate(self.events) if event == "pruned"]
        trained = [i for i, event in enumerate(self.events) if not event]
        after = sum(i > removed[-1] for i in trained) / len(trained) if removed and trained else 0.0
        mean = self.base_macs + after * (self.macs - self.base_macs)
        batch = sum(r.batch_size for r in recipes) / len(recipes) if recipes else math.inf
        evaluated = len(self.events) * (images.val + images.test) * mean
        return Work(
            self.epochs * images.train / batch,
            BACKWARD * self.epochs * images.train * mean + evaluated,
        )

    def is_like(self, spec: RunSpec) -> bool:
        """Whether it is a run of the same method, with the same recipes; ratio and seed differ."""
        return (self.dataset, self.architecture, self.method) == (
            spec.dataset,
            spec.architecture,
            spec.method,
        ) and _parsed_recipes(self.recipes) == spec.recipes


@cache
def _parsed_recipes(text: str) -> dict[str, Recipe]:
    """Return the recipes of a row by role, without their names; keys of later versions default."""
    found: dict[str, dict[str, object]] = parsed_json(text) if text else {}
    return {
        role: Recipe.model_validate({k: v for k, v in content.items() if k != "name"})
        for role, content in found.items()
    }


def recorded_runs(files: Iterable[Path]) -> Iterator[Recorded]:
    """Yield the runs of some runs.csv files whose seconds are known.

    ResultError for a file that is no runs.csv.
    """
    for file in files:
        for row in read_csv(file, (*TEXTS, *NUMBERS, "device")):
            if not row["training_seconds"]:
                continue
            number = {name: float(row[name] or 0) for name in NUMBERS}
            history: Mapping[str, list[str]] = parsed_json(row.get("history") or "{}")
            yield Recorded(
                dataset=row["dataset"],
                architecture=row["architecture"],
                method=row["method"],
                ratio=row["ratio"],
                ratio_kind=row["ratio_kind"],
                spec_hash=row["spec_hash"],
                recipes=row["recipes"],
                seconds=number["training_seconds"],
                epochs=number["epochs"],
                macs=int(number["macs"]),
                params=int(number["params"]),
                base_macs=int(number["base_macs"]),
                base_params=int(number["base_params"]),
                device=row["device"],
                processor=row.get("processor", ""),
                events=tuple(event or "" for event in history.get("event", ())),
            )


def seconds_of(spec: RunSpec, recorded: Sequence[Recorded]) -> float | None:
    """Return the recorded seconds of a run, or of runs that differ in ratio and seed alone.

    Runs of the same ratio are preferred; several are averaged. None without any.
    """
    same = [run for run in recorded if run.spec_hash == spec.hash]
    like = same or [run for run in recorded if run.is_like(spec)]
    near = [run for run in like if _has_ratio(run, spec)] or like
    return sum(run.seconds for run in near) / len(near) if near else None


def _has_ratio(run: Recorded, spec: RunSpec) -> bool:
    ratio = "" if spec.ratio is None else str(float(spec.ratio))
    found = str(float(run.ratio)) if run.ratio else ""
    return (found, run.ratio_kind) == (ratio, spec.ratio_kind)


def fitted_speed(recorded: Sequence[Recorded], images: Images) -> Speed | None:
    """Return the speed that explains the recorded seconds best, by their relative errors.

    None without runs that trained. Both numbers are at least 0. Runs that take more than three
    times the median per multiply-accumulate, as on a busy machine, are left out.
    """
    from scipy.optimize import nnls

    works = [(run.work(images), run.seconds) for run in recorded if run.epochs and run.seconds]
    rates = sorted(seconds / work.macs for work, seconds in works)
    if not rates:
        return None
    limit = 3 * rates[len(rates) // 2]
    works = [(work, seconds) for work, seconds in works if seconds / work.macs <= limit]
    rows = [[work.steps / seconds, work.macs / 1e9 / seconds] for work, seconds in works]
    per_step, per_giga = nnls(rows, [1.0] * len(rows))[0]
    return Speed(float(per_step), float(per_giga) / 1e9)


def phase_work(
    recipe: Recipe, epochs: float, macs: float, images: Images, evaluations: int | None = None
) -> Work:
    """Return the work of a phase of training; it is evaluated after each epoch.

    A trial's limit of steps shortens it.
    """
    per_epoch = max(1, math.ceil(images.train / recipe.batch_size))
    steps = epochs * per_epoch
    if recipe.max_steps is not None:
        steps = min(steps, recipe.max_steps)
    shown = math.ceil(steps / per_epoch) if evaluations is None else evaluations
    seen = steps / per_epoch * images.train
    return Work(steps, macs * (BACKWARD * seen + shown * (images.val + images.test)))
