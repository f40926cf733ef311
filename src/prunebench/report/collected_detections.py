"""The detections of an experiment in one file beside runs.csv, for the figure `detections`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from prunebench.core.errors import ConfigError, ResultError
from prunebench.core.files import read_json, remove, write_text
from prunebench.experiments.results import DetectionsResult, FoundBox, PicturesResult, TrueBox
from prunebench.experiments.settings import Settings
from prunebench.experiments.spec import RunSpec
from prunebench.experiments.validation import validate

FILE = DetectionsResult.FILE
Found = tuple[tuple[FoundBox, ...], ...]  # of each picture


class ShownNetwork(Settings):
    """The pictures of one base network, and what it and its pruned networks find in them."""

    dataset: str
    architecture: str
    seed: int  # of the base network and of all runs
    classes: tuple[str, ...]
    jpeg: tuple[str, ...]  # the pictures in Base64
    truth: tuple[tuple[TrueBox, ...], ...]
    base: Found
    runs: dict[str, Found]  # by method/setting/ratio as in paths


class ShownDetections(Settings):
    """The content of the file, of one seed of each network."""

    networks: tuple[ShownNetwork, ...]


def collect_detections(results: Path, runs: Sequence[RunSpec]) -> ShownDetections:
    """Return the stored detections of the runs with each network's first seed.

    Runs without detections (of classifiers, or reused) are left out, as are networks without any.
    """
    first: dict[tuple[str, str], int] = {}
    for run in runs:
        network = run.dataset, run.architecture
        if run.seed <= first.get(network, run.seed) and (results / run.path / FILE).is_file():
            first[network] = run.seed
    return ShownDetections(
        networks=tuple(
            _network(results, [r for r in runs if (r.dataset, r.architecture) == network], seed)
            for network, seed in first.items()
        )
    )


def _network(results: Path, runs: Iterable[RunSpec], seed: int) -> ShownNetwork:
    """Return the detections of one network and seed, at least one of whose runs has some."""
    shown = [run for run in runs if run.seed == seed and (results / run.path / FILE).is_file()]
    spec = shown[0].base
    pictures = PicturesResult.read(results / spec.path, spec.hash)
    return ShownNetwork(
        dataset=spec.dataset,
        architecture=spec.architecture,
        seed=seed,
        classes=pictures.classes,
        jpeg=pictures.jpeg,
        truth=pictures.truth,
        base=DetectionsResult.read(results / spec.path, spec.hash).found,
        runs={
            f"{run.method}/{run.setting}/{run.ratio_slug}": DetectionsResult.read(
                results / run.path, run.hash
            ).found
            for run in shown
        },
    )


def write_detections(folder: Path, found: ShownDetections) -> None:
    """Write the file into an experiment's folder; without networks, delete an earlier one."""
    if found.networks:
        content = found.model_dump(mode="json")
        text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
        write_text(folder / FILE, text + "\n")
    else:
        remove(folder / FILE)


def read_detections(folder: Path) -> ShownDetections:
    """Read the file in an experiment's folder, without networks if there is no file.

    ResultError names a damaged file.
    """
    path = folder / FILE
    if not path.exists():
        return ShownDetections(networks=())
    try:
        return validate(ShownDetections, read_json(path), str(path))
    except ConfigError as error:
        raise ResultError(f"{error}; the file is damaged: collect the runs again") from None
