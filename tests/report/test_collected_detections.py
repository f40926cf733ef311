from __future__ import annotations

from pathlib import Path

import pytest

from prunebench.core.errors import ResultError
from prunebench.experiments.results import DetectionsResult, FoundBox, PicturesResult, TrueBox
from prunebench.experiments.spec import BaseSpec, RunSpec
from prunebench.report.collect import collect_to_csv
from prunebench.report.collected_detections import FILE, collect_detections, read_detections

OneRun = tuple[Path, RunSpec]


def write_found(results: Path, spec: RunSpec | BaseSpec, score: float) -> None:
    box = FoundBox(1, score, 0.0, 0.0, 4.0, 4.0)
    own = {"spec_hash": spec.hash, "weights_sha256": "w"}
    DetectionsResult(found=((box,),), **own).write(results / spec.path)
    if isinstance(spec, BaseSpec):
        truth = ((TrueBox(0, 0.0, 0.0, 5.0, 5.0),),)
        pictures = PicturesResult(jpeg=("",), truth=truth, classes=("a", "b"), **own)
        pictures.write(results / spec.path)


def test_collecting_runs_collects_their_detections(one_run: OneRun) -> None:
    results, spec = one_run
    write_found(results, spec.base, 0.9)
    write_found(results, spec, 0.5)
    folder = collect_to_csv(results, "digits", [spec]).parent
    (network,) = read_detections(folder).networks
    assert (network.dataset, network.architecture, network.seed) == ("digits", "resnet20", 0)
    assert network.base[0][0].score == 0.9
    assert {name: found[0][0].score for name, found in network.runs.items()} == {
        "l1/default/0.5": 0.5
    }
    assert network.truth[0][0].x2 == 5.0
    (results / spec.path / FILE).unlink()
    collect_to_csv(results, "digits", [spec])
    assert not (folder / FILE).exists()


def test_only_the_first_seed_is_collected(one_run: OneRun) -> None:
    results, spec = one_run
    runs = [spec.model_copy(update={"seed": seed, "setting": f"s{seed}"}) for seed in (2, 1, 3)]
    write_found(results, spec.base, 0.9)
    for run in runs:
        write_found(results, run, 0.5)
    (network,) = collect_detections(results, runs).networks
    assert (network.seed, list(network.runs)) == (1, ["l1/s1/0.5"])


def test_stale_detections_are_refused(one_run: OneRun) -> None:
    results, spec = one_run
    write_found(results, spec.base, 0.9)
    write_found(results, spec, 0.5)
    other = spec.model_copy(update={"revision": 2})
    with pytest.raises(ResultError, match=r"detections\.json: stale result"):
        collect_detections(results, [other])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"networks": [{"dataset": 1}]}')
    with pytest.raises(ResultError, match=r"detections\.json: .*collect the runs again"):
        read_detections(tmp_path)
