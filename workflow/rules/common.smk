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
from prunebench.core.own_code import code_of_name
from prunebench.experiments.parts import MEASURED_TOGETHER, Parts
from prunebench.experiments.resolved import only_drawn, resolved_runs, source_hash
from prunebench.experiments.reuse import digest_of_rows
from prunebench.experiments.spec import DATASETS, base_path, data_path, run_path

CONFIG_DIR = Path("config")
RESULTS = Path("results")
HAS_GPU = shutil.which("nvidia-smi") is not None


wildcard_constraints:
    experiment=r"[a-z][a-z0-9_]*",
    dataset=r"[A-Za-z_][A-Za-z0-9_.]*",
    architecture=r"[A-Za-z_][A-Za-z0-9_.]*",
    recipe=r"[a-z][a-z0-9_]*",
    method=r"[a-z][a-z0-9_]*",
    setting=r"[a-z][a-z0-9_.]*",
    ratio=r"auto|([a-z_]+-)?0(\.\d+)?",
    seed=r"\d+",
    size=r"\d+",
    part=r"\d+",


try:
    SETTINGS = merged_config(config, CONFIG_DIR)
    TABLES = {name: table_options(CONFIG_DIR, name) for name in SETTINGS.experiments}
    HIGHLIGHTS = {name: highlighted_methods(CONFIG_DIR, name) for name in SETTINGS.experiments}
    PUBLISHED = {name: published_text(CONFIG_DIR, name) for name in SETTINGS.experiments}
    RUNS = resolved_runs(SETTINGS, CONFIG_DIR, RESULTS)
    TRAINED = Parts(RUNS, SETTINGS.runs_per_job, for_training=True)
    MEASURED = Parts(RUNS, MEASURED_TOGETHER, for_training=False)
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
    return starts_of([run_of(wildcards)["path"]])


def starts_of(paths):
    """Return the files that say that all is trained from which some runs start."""
    starts = {start: None for path in paths for start in RUNS.starts_of(path)}
    runs = [start for start in starts if start in RUNS.runs]
    return receipts(start for start in starts if start not in RUNS.runs) + trained_files(runs)


def trained_files(paths):
    """Return the files that say that some runs are trained: of the runs, or of their parts."""
    if SETTINGS.runs_per_job == 1:
        return receipts(paths)
    done = (TRAINED.of_run[path] for path in paths if path in TRAINED.of_run)
    places = dict.fromkeys(done)
    return [f"results/{place}/pruned_{TRAINED.size}_{number}.done" for place, number in places]


def receipts(paths):
    return [f"results/{path}/finished.json" for path in paths]


def part_runs(wildcards, parts):
    """Return the paths of the runs of a part."""
    place = f"{wildcards.experiment}/{wildcards.dataset}/{wildcards.architecture}"
    known, number = parts.of_network.get(place, []), int(wildcards.part)
    return known[number] if number < len(known) else stop_for(f"{place}, part {number}")


def pruned_part(wildcards):
    if int(wildcards.size) != TRAINED.size:
        stop_for(
            f"parts of {wildcards.size} runs: runs_per_job is {TRAINED.size}, so that this part"
        )
    return part_runs(wildcards, TRAINED)


def pruned_part_starts(wildcards):
    return starts_of(pruned_part(wildcards))


def pruned_part_hash(wildcards):
    return " ".join(RUNS.runs[path]["hash"] for path in pruned_part(wildcards))


def pruned_part_threads(wildcards):
    return max(RUNS.runs[path]["threads"] for path in pruned_part(wildcards))


def pruned_part_flags(wildcards):
    return run_flags(pruned_part(wildcards))


def measured_part_files(wildcards):
    """Return the files that say that the runs of a part and their base networks are trained."""
    runs = part_runs(wildcards, MEASURED)
    return receipts(RUNS.bases_of(runs)) + trained_files(runs)


def measured_part_flags(wildcards):
    return run_flags(part_runs(wildcards, MEASURED))


def run_flags(paths):
    return " ".join(f"--run {path}" for path in paths)


def measured_flags(wildcards):
    if wildcards.experiment not in SETTINGS.experiments:
        stop_for(wildcards.experiment)
    return [
        f"results/{place}/{what}_{number}.done"
        for place, parts in MEASURED.of_network.items()
        if place.startswith(f"{wildcards.experiment}/")
        for number in range(len(parts))
        for what in ("cost", "latency")
    ]


def reused_data(wildcards):
    """Return the data files of the reused runs, whose hashes `collect` compares."""
    paths = RUNS.reused_in(wildcards.experiment)
    return sorted({str(data_path(RESULTS, RUNS.runs[path]["dataset"])) for path in paths})


def reuse_options(wildcards):
    return " ".join(f"--reuse {shlex.quote(str(file))}" for file in SETTINGS.reuse)


def reused_rows(wildcards):
    """Return a hash of the reused rows: a change of them reruns `collect`."""
    return digest_of_rows(RUNS.reused_in(wildcards.experiment))


def code_of_data(wildcards):
    """Return a hash of the code of a data set of the user's own: a change stores the data again."""
    return code_of_name(wildcards.dataset, DATASETS) or ""


def gpus(wildcards):
    """Return the number of GPUs of a job on this machine: 0 or 1."""
    return int(SETTINGS.device == "cuda" or (SETTINGS.device == "auto" and HAS_GPU))


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
    return trained_files(RUNS.to_run)


def all_csvs(wildcards):
    return [f"results/{name}/runs.csv" for name in SETTINGS.experiments]


def all_tables(wildcards):
    return [f"results/{name}/tables/summary.html" for name in SETTINGS.experiments]


def all_figures(wildcards):
    return [f"results/{name}/figures" for name in SETTINGS.experiments]


def all_reports(wildcards):
    return [f"results/{name}/report/index.html" for name in SETTINGS.experiments]


def lift_default_rate(scheduler):
    """Remove the default limit of 100 job starts per second; keep any other limit.

    To enforce it, Snakemake 9 wakes its scheduler up once per second and finished job. With many
    jobs waiting, this takes a whole core after a few hundred (benchmarks/README.md).
    """
    limiter = scheduler.job_rate_limiter
    if limiter and (limiter.max_jobs, limiter.timespan) == (100, 1):
        scheduler.job_rate_limiter = None
