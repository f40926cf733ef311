"""Measure the declared claims on stored runs: the source of each, its effect and its verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from prunebench.core.errors import ResultError
from prunebench.core.files import read_csv
from prunebench.report.claims.claim_verdict import (
    FEWEST_SEEDS,
    Estimate,
    Finding,
    estimate,
    findings,
)
from prunebench.report.claims.declared_claims import CLAIMS, Claim, Source
from prunebench.report.claims.effects import PerSeed
from prunebench.report.runs_csv import CELL, read_runs

RUNS, ADDITIVITY = "runs.csv", "additivity.csv"
_MEASURED = ("additivity_error", "additivity_correlation")


@dataclass(frozen=True)
class MeasuredClaim:
    """A claim with its verdict, and the runs that it comes from."""

    claim: Claim
    finding: Finding
    source: Source | None = None  # None: not run
    networks: tuple[str, ...] = ()  # dataset · architecture
    # preferred experiments with fewer than FEWEST_SEEDS seeds, and the effect there
    passed_over: tuple[tuple[str, Estimate], ...] = ()


def measure_claims(results: Path, claims: Sequence[Claim] = CLAIMS) -> list[MeasuredClaim]:
    """Return each claim with its verdict, from `<results>/<experiment>/runs.csv`.

    A claim's source is the first of its experiments with `FEWEST_SEEDS` seeds or more, or else the
    one with most seeds. An experiment without the file counts as not run. ResultError if no
    experiment has been run at all, or a file is damaged.
    """
    names = dict.fromkeys(source.experiment for claim in claims for source in claim.sources)
    frames = {name: experiment_rows(results, name) for name in names}
    if all(frame is None for frame in frames.values()):
        raise ResultError(
            f"{results}: no {RUNS} of the experiments of claims: {', '.join(names)}; "
            f"`snakemake --cores all --config experiments={next(iter(names))}` writes one"
        )
    chosen = [_choose(claim, frames) for claim in claims]
    estimates = [
        None if found is None else _estimate(claim, found[1])
        for claim, (found, _) in zip(claims, chosen, strict=True)
    ]
    return [
        MeasuredClaim(
            claim,
            finding,
            source=found[0] if found else None,
            networks=_networks(frames[found[0].experiment], found[0]) if found else (),
            passed_over=passed_over,
        )
        for claim, finding, (found, passed_over) in zip(
            claims, findings(estimates), chosen, strict=True
        )
    ]


def experiment_rows(results: Path, name: str) -> pd.DataFrame | None:
    """Return an experiment's runs with the measurements beside them; None if it has no runs.csv."""
    path = results / name / RUNS
    if not path.is_file():
        return None
    frame = read_runs(path)
    beside = results / name / ADDITIVITY
    if not beside.is_file():
        return frame
    rows = pd.DataFrame(read_csv(beside, [*CELL, "seed", *_MEASURED]))
    numbers = rows[["ratio", "seed", *_MEASURED]].apply(pd.to_numeric)
    rows = rows[CELL].assign(**{column: numbers[column] for column in numbers})
    return frame.merge(rows, on=[*CELL, "seed"], how="left", validate="one_to_one")


def _estimate(claim: Claim, effect: PerSeed) -> Estimate:
    return estimate(effect, claim.kind, claim.equality, claim.bound)


def _choose(
    claim: Claim, frames: dict[str, pd.DataFrame | None]
) -> tuple[tuple[Source, PerSeed] | None, tuple[tuple[str, Estimate], ...]]:
    """Return the source with its effect, and the experiments that came before it but do not do."""
    found: list[tuple[Source, PerSeed]] = []
    for source in claim.sources:
        frame = frames[source.experiment]
        if frame is not None and len((effect := source.effect.by_seed(frame)).values):
            found.append((source, effect))
    if not found:
        return None, ()
    sizes = [len(effect.values) for _, effect in found]
    enough = [place for place, size in enumerate(sizes) if size >= FEWEST_SEEDS]
    best = enough[0] if enough else sizes.index(max(sizes))
    before = ((source.experiment, _estimate(claim, effect)) for source, effect in found[:best])
    return found[best], tuple(before)


def _networks(frame: pd.DataFrame | None, source: Source) -> tuple[str, ...]:
    assert frame is not None
    methods = {variant.method for variant in source.effect.variants}
    runs = frame[frame["method"].isin(methods)]
    pairs = zip(runs["dataset"], runs["architecture"], strict=True)
    return tuple(dict.fromkeys(" · ".join(pair) for pair in pairs))
