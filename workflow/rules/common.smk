# What the rules ask for: files, hashes and threads of runs. The answers come from the resolved
# configuration, which prunebench.core reads without importing torch.
import shutil
import sys
from pathlib import Path

from prunebench.core.config import read_experiment
from prunebench.core.errors import PrunebenchError
from prunebench.core.resolved import (
    RESOLVED_FILE,
    Resolved,
    only_table_left,
    resolved_runs,
    source_hash,
)
from prunebench.core.spec import run_path

RESULTS = Path("results")
RESOLVED_RUNS = RESULTS / RESOLVED_FILE
DATA_DIR = config.get("data_dir", "data")
DEVICE = config.get("device", "auto")
CHECKPOINT_SECONDS = config.get("checkpoint_seconds", 60)


wildcard_constraints:
    experiment=r"[a-z][a-z0-9_]*",
    dataset=r"[a-z][a-z0-9_]*",
    architecture=r"[a-z][a-z0-9_]*",
    recipe=r"[a-z][a-z0-9_]*",
    method=r"[a-z][a-z0-9_]*",
    setting=r"[a-z][a-z0-9_.]*",
    ratio=r"auto|([a-z_]+-)?0(\.\d+)?",
    seed=r"\d+",


def experiment_names():
    names = config.get("experiments", [])
    return [names] if isinstance(names, str) else list(names)


def read_runs():
    """Return the resolved runs; none where only tables of earlier runs are there to draw from."""
    if all(only_table_left(RESULTS, name) for name in experiment_names()):
        return Resolved("", {}, {})
    try:
        return resolved_runs(config, Path("config"), RESULTS)
    except PrunebenchError as error:
        sys.exit(f"prunebench: {error}")


RUNS = read_runs()


def run_of(wildcards):
    return RUNS.runs[
        run_path(
            wildcards.experiment,
            wildcards.dataset,
            wildcards.architecture,
            wildcards.method,
            wildcards.setting,
            wildcards.ratio,
            wildcards.seed,
        )
    ]


def base_of(wildcards):
    return RUNS.bases[
        f"base/{wildcards.dataset}/{wildcards.architecture}/{wildcards.recipe}/seed{wildcards.seed}"
    ]


def run_hash(wildcards):
    return run_of(wildcards)["hash"]


def base_hash(wildcards):
    return base_of(wildcards)["hash"]


def run_threads(wildcards):
    return run_of(wildcards)["threads"]


def base_threads(wildcards):
    return base_of(wildcards)["threads"]


def start_of_run(wildcards):
    """Return what a run starts from: the base network, or the run whose widths it takes over."""
    run = run_of(wildcards)
    starts = [] if run["start"] == "fresh" else [base_path(run)]
    return starts + ([run["widths_from"]] if run["widths_from"] else [])


def start_files(wildcards):
    return [f"results/{path}/training.json" for path in start_of_run(wildcards)]


def base_path(run):
    base = run["base"]
    return (
        f"base/{base['dataset']}/{base['architecture']}/{base['recipe_name']}/seed{base['seed']}"
    )


def runs_of_network(wildcards):
    key = (wildcards.experiment, wildcards.dataset, wildcards.architecture)
    return RUNS.by_network.get(key, [])


def network_files(wildcards):
    """Return training.json of a network's runs and of their bases."""
    runs = runs_of_network(wildcards)
    paths = [run["path"] for run in runs] + [base_path(run) for run in runs]
    return [f"results/{path}/training.json" for path in dict.fromkeys(paths)]


def measured_flags(wildcards):
    networks = [key for key in RUNS.by_network if key[0] == wildcards.experiment]
    return [
        f"results/{'/'.join(network)}/{what}.done"
        for network in networks
        for what in ("cost", "latency")
    ]


def gpus(wildcards):
    """Return how many GPUs a training job takes on this machine."""
    return int(DEVICE == "cuda" or (DEVICE == "auto" and shutil.which("nvidia-smi") is not None))


def table_title(wildcards):
    return read_experiment(Path("config"), wildcards.experiment).title


def report_sources(wildcards):
    """Identify the code that draws: tables and figures follow its edits, runs do not."""
    return source_hash("report")


def all_bases(wildcards):
    return [f"results/{path}/training.json" for path in RUNS.bases]


def all_runs(wildcards):
    return [f"results/{path}/training.json" for path in RUNS.runs]


def all_tables(wildcards):
    return [f"results/{name}/tables/summary.html" for name in experiment_names()]


def all_figures(wildcards):
    return [f"results/{name}/figures/accuracy_speedup.svg" for name in experiment_names()]
