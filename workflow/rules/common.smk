# Functions for the rules: input files, hashes and threads of the runs. They read the resolved
# configuration without importing torch.
import shlex
import shutil
import sys
from pathlib import Path

from prunebench.experiments.config import (
    highlighted_methods,
    merged_config,
    published_text,
    table_options,
)
from prunebench.core.errors import PrunebenchError
from prunebench.experiments.resolved import only_drawn, resolved_runs, source_hash
from prunebench.experiments.reuse import digest_of_rows
from prunebench.experiments.spec import base_path, data_path, run_path

CONFIG_DIR = Path("config")
RESULTS = Path("results")


wildcard_constraints:
    experiment=r"[a-z][a-z0-9_]*",
    dataset=r"[a-z][a-z0-9_]*",
    architecture=r"[a-z][a-z0-9_]*",
    recipe=r"[a-z][a-z0-9_]*",
    method=r"[a-z][a-z0-9_]*",
    setting=r"[a-z][a-z0-9_.]*",
    ratio=r"auto|([a-z_]+-)?0(\.\d+)?",
    seed=r"\d+",


try:
    SETTINGS = merged_config(config, CONFIG_DIR)
    TABLES = {name: table_options(CONFIG_DIR, name) for name in SETTINGS.experiments}
    HIGHLIGHTS = {name: highlighted_methods(CONFIG_DIR, name) for name in SETTINGS.experiments}
    PUBLISHED = {name: published_text(CONFIG_DIR, name) for name in SETTINGS.experiments}
    RUNS = resolved_runs(SETTINGS, CONFIG_DIR, RESULTS)
except PrunebenchError as error:
    sys.exit(f"prunebench: {error}")

for name in only_drawn(SETTINGS, RESULTS):
    table = RESULTS / name / "runs.csv"
    print(f"prunebench: using {table} only; delete it to run {name} again", file=sys.stderr)


def stop_for(path):
    sys.exit(
        f"prunebench: results/{path} is not configured; see {RESULTS / 'resolved'} for all runs"
    )


def run_of(wildcards):
    w = wildcards
    path = run_path(w.experiment, w.dataset, w.architecture, w.method, w.setting, w.ratio, w.seed)
    return RUNS.runs.get(path) or stop_for(path)


def base_of(wildcards):
    path = base_path(wildcards.dataset, wildcards.architecture, wildcards.recipe, wildcards.seed)
    return RUNS.bases.get(path) or stop_for(path)


def run_hash(wildcards):
    return run_of(wildcards)["hash"]


def base_hash(wildcards):
    return base_of(wildcards)["hash"]


def run_threads(wildcards):
    return run_of(wildcards)["threads"]


def base_threads(wildcards):
    return base_of(wildcards)["threads"]


def start_files(wildcards):
    return receipts(RUNS.starts_of(run_of(wildcards)["path"]))


def network_files(wildcards):
    """Return the receipts of all runs of a network and of their base networks."""
    place = f"{wildcards.experiment}/{wildcards.dataset}/{wildcards.architecture}"
    return receipts(RUNS.by_network.get(place) or stop_for(place))


def receipts(paths):
    return [f"results/{path}/finished.json" for path in paths]


def measured_flags(wildcards):
    if wildcards.experiment not in SETTINGS.experiments:
        stop_for(wildcards.experiment)
    places = [place for place in RUNS.by_network if place.startswith(f"{wildcards.experiment}/")]
    return [f"results/{place}/{what}.done" for place in places for what in ("cost", "latency")]


def reused_data(wildcards):
    """Return the data files of the reused runs, whose hashes `collect` compares."""
    paths = RUNS.reused_in(wildcards.experiment)
    return sorted({str(data_path(RESULTS, RUNS.runs[path]["dataset"])) for path in paths})


def reuse_options(wildcards):
    return " ".join(f"--reuse {shlex.quote(str(file))}" for file in SETTINGS.reuse)


def reused_rows(wildcards):
    """Return a hash of the reused rows: a change of them reruns `collect`."""
    return digest_of_rows(RUNS.reused_in(wildcards.experiment))


def gpus(wildcards):
    """Return the number of GPUs of a job on this machine: 0 or 1."""
    found = SETTINGS.device == "auto" and shutil.which("nvidia-smi") is not None
    return int(found or SETTINGS.device == "cuda")


def published_rows(wildcards):
    """Return the experiment's key `published` as text: a change of it reruns `collect`."""
    return PUBLISHED.get(wildcards.experiment, "")


def table_flags(wildcards):
    options = TABLES.get(wildcards.experiment, {"title": wildcards.experiment})
    return " ".join(f"--{name} {shlex.quote(value)}" for name, value in options.items())


def figure_flags(wildcards):
    methods = HIGHLIGHTS.get(wildcards.experiment, ())
    return " ".join(f"--highlight {method}" for method in methods)


def report_sources(wildcards):
    """Return a hash of the code that draws: its edits redraw tables, figures and reports."""
    return source_hash("report", "papers")


def method_sources(wildcards):
    """Return a hash of the methods' code: its edits mark the runs that other code has made."""
    return source_hash("methods", "criteria")


def cost_sources(wildcards):
    """Return a hash of the code and data behind the printed and recomputed costs."""
    return source_hash("papers", "models", "channels", "measure", "report")


def all_bases(wildcards):
    return receipts(RUNS.to_train)


def all_runs(wildcards):
    return receipts(RUNS.to_run)


def all_csvs(wildcards):
    return [f"results/{name}/runs.csv" for name in SETTINGS.experiments]


def all_tables(wildcards):
    return [f"results/{name}/tables/summary.html" for name in SETTINGS.experiments]


def all_figures(wildcards):
    return [f"results/{name}/figures" for name in SETTINGS.experiments]


def all_reports(wildcards):
    return [f"results/{name}/report/index.html" for name in SETTINGS.experiments]
