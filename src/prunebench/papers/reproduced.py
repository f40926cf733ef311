"""Find the experiment of each printed row, and the finished runs of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prunebench.experiments.config import ExperimentConfig, read_experiment
from prunebench.experiments.override import split_override
from prunebench.experiments.spec import ratio_slug
from prunebench.papers.comparison import BASELINE, same_ratio
from prunebench.papers.published import PublishedRow
from prunebench.report.runs_csv import UNPRUNED


@dataclass(frozen=True)
class RowState:
    """The experiment of a printed row, and its finished runs."""

    experiment: str = ""  # empty if there is none
    seeds: Mapping[str, int] | None = None  # finished runs by dataset, moved experiments included

    def __str__(self) -> str:
        """Return the state in words; empty if there is no experiment."""
        if not self.experiment:
            return ""
        runs = ", ".join(f"{data} ({n})" for data, n in (self.seeds or {}).items())
        return f"{self.experiment}, " + (f"run on {runs}" if runs else "not run")


def states(rows: Sequence[PublishedRow], config_dir: Path, results: Path) -> list[RowState]:
    """Return the state of each row, from the experiment files and the finished runs.

    A run with a training.json is finished.
    """
    names = [path.stem for path in sorted((config_dir / "experiments").glob("*.yaml"))]
    configs = {name: read_experiment(config_dir, name) for name in names}
    return [_state(row, configs, config_dir, results) for row in rows]


def _state(
    row: PublishedRow,
    configs: Mapping[str, ExperimentConfig],
    config_dir: Path,
    results: Path,
) -> RowState:
    for name, config in configs.items():
        places = list(_places(row, config))
        if places:
            seeds: dict[str, int] = {}
            for data in _finished(name, places, config_dir, results):
                seeds[data] = seeds.get(data, 0) + 1
            return RowState(name, seeds)
    return RowState()


def _places(row: PublishedRow, config: ExperimentConfig) -> Iterator[str]:
    """Yield network/method/setting/ratio of each cell of the row, as in paths or as a pattern."""
    published = config.published
    if published is None or (published.paper, published.table) != (row.paper, row.table):
        return
    if row.dataset not in config.datasets:
        return
    for network in config.networks:
        if published.networks.get(network, network) != row.architecture:
            continue
        if row.method == BASELINE and UNPRUNED in config.methods:
            yield f"{network}/{UNPRUNED}/*/*"  # the only setting and ratio
        for ours, printed in published.rows.items():
            method, setting, ratio = [*ours.split("/", 2), None, None][:3]
            if row.is_named(*printed.split("/", 2)):
                for name, slug in _cells(row, config, str(method), printed):
                    if setting in (None, name) and ratio in (None, slug):
                        yield f"{network}/{method}/{name}/{slug}"


def _cells(
    row: PublishedRow, config: ExperimentConfig, method: str, printed: str
) -> Iterator[tuple[str, str]]:
    """Yield a method's (setting, ratio) pairs that fit the row; all if `printed` has a ratio."""
    known = config.methods[method]
    named = printed.count("/") == 2
    for setting, own in known.settings.items():
        kind = own.ratio_kind or known.ratio_kind or config.ratio_kind
        choices = (own.ratios, known.ratios, config.ratios)
        ratios = next((ratios for ratios in choices if ratios is not None), ())
        if kind == "auto" or not ratios:
            if named or same_ratio(row, math.nan, "auto"):
                yield setting, ratio_slug(None, "auto")
            continue
        for ratio in ratios:
            if named or same_ratio(row, ratio, kind):
                yield setting, ratio_slug(ratio, kind)


def _finished(
    experiment: str, places: Sequence[str], config_dir: Path, results: Path
) -> Iterator[str]:
    """Yield the dataset of each finished run of the experiment and of its overridden forms."""
    for folder in sorted(results.glob(f"{experiment}*")):
        if split_override(config_dir / "experiments", folder.name)[0] != experiment:
            continue
        for place in places:
            for file in sorted(folder.glob(f"*/{place}/seed*/training.json")):
                yield file.relative_to(folder).parts[0]
