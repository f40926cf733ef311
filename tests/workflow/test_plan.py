"""Jobs that a dry run plans, and configurations that it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prunebench.experiments.resolved import read_resolved
from tests.workflow.conftest import planned, quick_methods, snakemake

QUICK = {
    "data": 1,
    "base": 1,
    "prune": len(quick_methods()),
    "measure_cost": 1,
    "measure_latency": 1,
    "collect": 1,
    "write_tables": 1,
    "draw_figures": 1,
    "write_report": 1,
    "all": 1,
}


def test_the_command_line_chooses_what_is_run(workflow: Path) -> None:
    config = ["experiments=[quick]", "seeds=[7]", "device=cpu", "checkpoint_seconds=0.5"]
    assert planned(workflow, "--config", *config) == QUICK


def test_an_override_moves_an_experiment_to_other_data(workflow: Path) -> None:
    override = 'override={"dataset": "synthetic", "epochs_scale": 0.25}'
    assert planned(workflow, "--config", "experiments=quick", override) == QUICK
    runs = read_resolved(workflow / "results/resolved/quick_on_synthetic_x0_25.jsonl")
    run = runs["quick_on_synthetic_x0_25/synthetic/resnet20/l1/default/0.5/seed0"]
    assert run.base.path == "base/synthetic/resnet20/digits_base_x0_25/seed0"
    assert run.recipes["fine_tune"].epochs == 2


def test_a_named_target_stops_earlier(resolved: Path) -> None:
    jobs = planned(resolved, "runs", "--config", "experiments=quick")
    assert jobs == {"data": 1, "base": 1, "prune": len(quick_methods()), "runs": 1}


def test_a_profile_chooses_how_training_jobs_are_launched(resolved: Path) -> None:
    (resolved / "profiles/default/config.yaml").write_text(
        "set-resources: {prune: {launcher: torchrun --standalone --nproc-per-node=2, gpu: 2}}"
    )
    jobs = snakemake(resolved, "runs", "-n", "-p", "--config", "experiments=quick").stdout
    launched = re.findall(r"^Shell command: (.*) -m prunebench (\w+)", jobs, flags=re.MULTILINE)
    assert set(launched) == {
        ("python", "data"),
        ("python", "base"),
        ("torchrun --standalone --nproc-per-node=2", "prune"),
    }


def test_a_control_waits_for_the_run_whose_widths_it_takes(workflow: Path) -> None:
    output = snakemake(workflow, "-n", "--config", "experiments=digits", "seeds=0").stdout
    jobs = re.split(r"^\[.*\]$", output, flags=re.MULTILINE)
    cell = "architecture=resnet20, method=scratch_e, setting=default, ratio=0.75"
    scratch = [job for job in jobs if cell in job]
    inputs = [re.search(r"input: (.*)", job)[1] for job in scratch]  # type: ignore[index]
    assert "results/digits/digits/resnet20/l1/default/0.75/seed0/finished.json" in inputs[0]
    assert "results/base" not in inputs[0]


def test_one_job_may_train_several_runs(resolved: Path) -> None:
    config = ("--config", "experiments=quick", "runs_per_job=2")
    jobs = QUICK | {"prune_part": -(-len(quick_methods()) // 2)}
    del jobs["prune"]
    assert planned(resolved, *config) == jobs
    unknown = snakemake(resolved, "results/quick/digits/resnet20/pruned_2_9.done", "-n", *config)
    assert unknown.stdout.splitlines()[-1] == (
        "prunebench: results/quick/digits/resnet20, part 9 is not configured; see "
        "results/resolved for all runs"
    )


def test_a_target_that_is_not_configured_is_a_one_line_error(resolved: Path) -> None:
    place = "results/quick/digits/resnet20/l1/default/0.7/seed0"
    target = f"{place}/finished.json"
    done = snakemake(resolved, target, "-n", "--config", "experiments=quick")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == (
        f"prunebench: {place} is not configured; see results/resolved for all runs"
    )
    assert "Traceback" not in done.stdout


QUICK_FILE = "config/experiments/quick.yaml"


@pytest.mark.parametrize(
    ("file", "edit", "config", "words"),
    [
        (
            "config/config.yaml",
            ("device:", "divice:"),
            [],
            "config/config.yaml: unknown key 'divice'; did you mean device? "
            "(allowed: auto_accumulate, capture, check_base, checkpoint_seconds, data_dir, "
            "deterministic, device, experiments, override, ratios, reuse, runs_per_job, seeds, "
            "shared_bases, workers)",
        ),
        pytest.param(
            "config/config.yaml",
            ("experiments:", "experiments: ["),
            [],
            "config/config.yaml, line ",
            marks=pytest.mark.slow,
        ),
        (
            None,
            None,
            ["experiments=quick", "seed=0"],
            "config/config.yaml with --config: unknown key 'seed'; did you mean seeds? (allowed: ",
        ),
        pytest.param(
            None,
            None,
            ["experiments=quik"],
            "config/config.yaml: experiments: unknown experiment 'quik'; did you mean quick? ",
            marks=pytest.mark.slow,
        ),
        (
            QUICK_FILE,
            ("  l1:", "  l11:"),
            ["experiments=quick"],
            f"{QUICK_FILE}: methods: unknown method 'l11'; did you mean l1? (allowed: asfp, ",
        ),
        pytest.param(
            QUICK_FILE,
            ("ratios: [0.5]", "ratios: [50]"),
            ["experiments=quick"],
            f"{QUICK_FILE}: ratios[0]: 50 is not in [0, 1); a ratio is the fraction removed",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_bad_configuration_is_one_line_before_any_job(
    workflow: Path,
    file: str | None,
    edit: tuple[str, str] | None,
    config: list[str],
    words: str,
) -> None:
    if file and edit:
        content = (workflow / file).read_text(encoding="utf-8")
        assert edit[0] in content
        (workflow / file).write_text(content.replace(*edit), encoding="utf-8")
    done = snakemake(workflow, "-n", *(["--config", *config] if config else []))
    lines = [line for line in done.stdout.splitlines() if not is_snakemakes_own(line)]
    assert done.returncode == 1
    assert len(lines) == 1
    assert lines[0].startswith(f"prunebench: {words}")
    assert not (workflow / "results").exists()


def test_another_folder_is_told_what_it_lacks(workflow: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    files = ["-s", f"{workflow}/Snakefile", "--configfile", f"{workflow}/config/config.yaml"]
    done = snakemake(elsewhere, "-n", *files)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == (
        "prunebench: config/config.yaml: experiments: config/experiments: no such "
        f"folder in {elsewhere}; run in the folder that holds config/ (snakemake: --directory), "
        "or make one: prunebench init FOLDER"
    )


def is_snakemakes_own(line: str) -> bool:
    return line.startswith(("Using workflow specific profile", "Config file config/config.yaml is"))


def test_printed_costs_are_one_job_without_data(resolved: Path) -> None:
    assert planned(resolved, "costs", "--config", "experiments=quick") == {
        "costs": 1,
        "write_costs": 1,
    }


def test_claims_follow_from_the_runs_of_the_configured_experiments(workflow: Path) -> None:
    jobs = planned(workflow, "claims", "--config", "experiments=[claims_greg,claims_increg]")
    assert {name: jobs[name] for name in ("claims", "write_claims", "collect")} == {
        "claims": 1,
        "write_claims": 1,
        "collect": 2,
    }
    assert "draw_figures" not in jobs
