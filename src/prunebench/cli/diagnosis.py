"""What of this machine and configuration works, what is missing, and how to mend it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from packaging.requirements import Requirement

from prunebench.cli.cluster import Request, nodes, unmet
from prunebench.core.errors import PrunebenchError
from prunebench.data.registry import dataset_info
from prunebench.experiments.config import Config, read_config
from prunebench.experiments.machine import Machine, gpu_name, processor_name
from prunebench.experiments.recipe import Recipe
from prunebench.experiments.spec import RunSpec, data_path
from prunebench.measure.device import multiplies_bf16
from prunebench.measure.step_time import time_passes
from prunebench.models.registry import build
from prunebench.planning.grid import resolve
from prunebench.training.pretrained import FILES

State = Literal["ok", "note", "missing"]
SHOWN_PACKAGES = ("torch", "torchvision", "snakemake", "numpy")
LEAST_FREE = 2e9  # bytes of a disk for results
PROBE = ("resnet20", (3, 32, 32), 64)  # network, image and batch whose speed is measured
SLOW = 5e9  # multiply-accumulates a second on one core; an AVX-512 core does 60e9
JOB = Request(name="prune", partition="", cpus=1, mem_mb=4000, gpus=0, minutes=240)


class Finding(NamedTuple):
    """A line of the diagnosis; `mend` says what to do."""

    state: State
    what: str
    words: str
    mend: str = ""


def findings(config: Path, results: Path) -> Iterator[Finding]:
    """Yield what works and what does not, for the experiments of a configuration."""
    yield from _packages()
    settings, runs = Machine(), list[RunSpec]()
    try:
        read = read_config(config)
        settings, runs = read.machine, resolve(read, config.parent)
        yield _configuration(read, runs)
    except PrunebenchError as error:
        mend = "" if config.exists() else "run `prunebench init DIR`, and this command in DIR"
        yield Finding("missing", "config", str(error), mend)
    recipes = {recipe for run in runs for recipe in (run.base.recipe, *run.recipes.values())}
    yield _gpu(settings)
    yield from _processor(recipes, settings)
    yield from _compiler(recipes)
    yield _disk("results", results)
    yield from _data({run.dataset for run in runs}, settings.data_dir, results)
    yield from _weights({run.base.recipe for run in runs}, settings.data_dir)
    yield from _slurm(runs, settings)


def _packages() -> Iterator[Finding]:
    problems = list(_unmet_requirements())
    versions = ", ".join(f"{name} {version(name)}" for name in SHOWN_PACKAGES)
    state: State = "missing" if problems else "ok"
    words = "; ".join(problems) or f"Python {platform.python_version()}, {versions}"
    yield Finding(state, "packages", words, "run `pip install -e .`" if problems else "")


def _unmet_requirements() -> Iterator[str]:
    """Yield a sentence for each package that is missing or of another version."""
    for text in requires("prunebench") or ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            yield f"{wanted.name} is not installed"
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            yield f"{wanted.name} is {found}, needed is {wanted.specifier}"


def _configuration(config: Config, runs: list[RunSpec]) -> Finding:
    return Finding("ok", "config", f"{', '.join(config.experiments)}: {len(runs)} runs")


def _gpu(machine: Machine) -> Finding:
    needed: State = "missing" if machine.device == "cuda" else "note"
    if torch.cuda.is_available():
        found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        words = ", ".join(f"{gpu.name} ({gpu.total_memory / 2**30:.0f} GiB)" for gpu in found)
        return Finding("ok", "GPU", f"{words}; CUDA {torch.version.cuda}")
    name = gpu_name()
    if name is not None and torch.version.cuda is None:
        mend = "install a CUDA build of torch (pytorch.org/get-started)"
        return Finding("missing", "GPU", f"{name}, but this torch is a CPU build", mend)
    if name is not None:
        mend = f"torch is built for CUDA {torch.version.cuda}: update the driver, or install "
        return Finding("missing", "GPU", f"{name}, but torch cannot use it", f"{mend}another torch")
    mend = "set `device: auto` in the configuration" if needed == "missing" else ""
    return Finding(needed, "GPU", "none; training runs on the CPU", mend)


def _processor(recipes: set[Recipe], machine: Machine) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    yield Finding("ok", "processor", f"{processor_name()}, {cores} cores")
    name, image, batch = PROBE
    torch.set_num_threads(1)
    passes = time_passes(build(name, num_classes=10), image, batch, torch.device("cpu"))
    speed = 3 / passes.per_mac  # forward and backward, in forward passes
    words = f"{speed / 1e9:.0f} billion multiply-accumulates a second on one core"
    if speed < SLOW:
        mend = "other programs may run beside it; `prunebench plan` counts with this speed"
        yield Finding("note", "speed", f"{words}, which is slow", mend)
    else:
        yield Finding("ok", "speed", words)
    on_cpu = machine.device == "cpu" or not torch.cuda.is_available()
    if on_cpu and any(recipe.precision == "bf16" for recipe in recipes):
        if not multiplies_bf16(torch.device("cpu")):
            mend = "use the recipes without _bf16, or another processor"
            yield Finding("missing", "bf16", "recipes need it, and this processor has none", mend)
        else:
            yield Finding("ok", "bf16", "the processor has instructions for it")


def _compiler(recipes: set[Recipe]) -> Iterator[Finding]:
    if any(recipe.compile for recipe in recipes):
        found = next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
        if found is None:
            mend = "install one, such as g++, or set `compile: false` in the recipes"
            yield Finding("missing", "compiler", "recipes need a C++ compiler", mend)
        else:
            yield Finding("ok", "compiler", found)


def _disk(what: str, folder: Path) -> Finding:
    """Check that a folder, or the one in which it will be made, can be written."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        return Finding("missing", what, f"{place} cannot be written", "change its permissions")
    free = shutil.disk_usage(place).free
    words = f"{folder}: {free / 1e9:,.0f} GB free"
    if free < LEAST_FREE:
        return Finding("missing", what, words, "free some space; `prunebench plan` says how much")
    return Finding("ok", what, words)


def _data(datasets: set[str], data_dir: Path, results: Path) -> Iterator[Finding]:
    for name in sorted(datasets):
        stored, places = data_path(results, name), dataset_info(name).places
        if stored.exists():
            yield Finding("ok", "data", f"{name}: {stored}")
        elif not places:
            yield Finding("ok", "data", f"{name}: will be generated, read or downloaded")
        elif found := next((p for p in places if (data_dir / p).exists()), None):
            yield Finding("ok", "data", f"{name}: {data_dir / found}")
        else:
            where = " or ".join(str(data_dir / place) for place in places)
            mend = f"put it there, or set data_dir; {dataset_info(name).source}"
            yield Finding("missing", "data", f"{name}: {where} does not exist", mend)


def _weights(recipes: set[Recipe], data_dir: Path) -> Iterator[Finding]:
    for name in sorted({recipe.weights for recipe in recipes if recipe.weights is not None}):
        is_address = name.startswith(("https://", "http://"))
        path = data_dir / (name.rpartition("/")[2] if is_address else name)
        copies = [path, path.with_suffix(".safetensors")]
        if found := next((p for p in copies if p.is_file()), None):
            yield Finding("ok", "weights", str(found))
        elif is_address or not name.endswith(FILES):
            yield Finding("note", "weights", f"{name}: will be downloaded, unless it was before")
        else:
            mend = "put the file there, or set data_dir"
            yield Finding("missing", "weights", f"{path}: no such file", mend)


def _slurm(runs: list[RunSpec], machine: Machine) -> Iterator[Finding]:
    if shutil.which("sinfo") is None:
        yield Finding("note", "SLURM", "none (no command sinfo); jobs run on this machine")
        return
    known = nodes()
    if not known:
        mend = "ask your administrator; `sinfo` must list partitions before jobs can be sent"
        yield Finding("note", "SLURM", "sinfo lists no nodes", mend)
        return
    partitions = ", ".join(sorted({node.partition for node in known}))
    yield Finding("ok", "SLURM", f"{len(known)} nodes in the partitions {partitions}")
    if find_plugin() is None:
        mend = "pip install snakemake-executor-plugin-slurm"
        yield Finding("note", "SLURM", "Snakemake's plugin for it is not installed", mend)
    wanted = JOB._replace(
        cpus=max((run.threads for run in runs), default=1), gpus=int(machine.device == "cuda")
    )
    for problem in unmet([wanted], known):
        yield Finding("note", "SLURM", problem, "see profiles/slurm/config.yaml")


def find_plugin() -> str | None:
    """Return the version of Snakemake's plugin for SLURM; None without it."""
    try:
        return version("snakemake-executor-plugin-slurm")
    except PackageNotFoundError:
        return None


def lines_of(found: list[Finding]) -> Iterator[str]:
    """Yield the findings as text, with what to do in a line below.

    >>> [*lines_of([Finding("missing", "data", "none", "get some")])]
    ['missing  data       none', '                    -> get some', '1 problem to mend']
    """
    for state, what, words, mend in found:
        yield f"{state:<8} {what:<10} {words}"
        if mend:
            yield f"{'':<19} -> {mend}"
    missing = sum(one.state == "missing" for one in found)
    yield f"{missing} problem{'' if missing == 1 else 's'} to mend" if missing else "all is there"
