"""The form of the rules."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import ROOT, snakemake

RULES = sorted((ROOT / "workflow" / "rules").glob("*.smk"))


def test_lint_finds_nothing(resolved: Path) -> None:
    done = snakemake(resolved, "--lint", "--config", "experiments=quick")
    assert done.returncode == 0, done.stdout


@pytest.mark.skipif(shutil.which("snakefmt") is None, reason="snakefmt is in the extra `dev`")
def test_rules_are_formatted() -> None:
    subprocess.run(
        ["snakefmt", "--check", str(ROOT / "Snakefile"), str(ROOT / "workflow")],
        check=True,
        cwd=ROOT,
        capture_output=True,
    )


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_rules_hold_no_lambda_no_python_block_and_no_torch(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\blambda\b|^ +run:|\bimport torch\b", text, flags=re.MULTILINE)


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_every_rule_has_a_log_and_an_environment(path: Path) -> None:
    rules = re.split(r"^rule ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    for rule in rules:
        assert "    log:\n" in rule
        assert "    conda:\n" in rule


def test_rules_import_only_what_needs_no_torch() -> None:
    imports = {
        (path.name, module)
        for path in RULES
        for module in re.findall(r"prunebench\.\w+", path.read_text(encoding="utf-8"))
    }
    assert imports == {
        ("common.smk", "prunebench.core"),
        ("common.smk", "prunebench.experiments"),
        ("config.smk", "prunebench.core"),
        ("config.smk", "prunebench.experiments"),
        ("failed.smk", "prunebench.cli"),  # the reports after a failure, by commands
        ("start.smk", "prunebench.cli"),  # its fork server, which needs the standard library only
    }


def test_parsing_the_workflow_imports_no_torch(workflow: Path) -> None:
    code = (
        "import sys; from snakemake.cli import main\n"  # the SLURM plugin imports pandas here
        "sys.modules.update(torch=None, pandas=None); main()"
    )
    subprocess.run(
        [sys.executable, "-c", code, "-n", "-q", "--config", "experiments=quick"],
        check=True,
        cwd=workflow,
        capture_output=True,
    )


@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_inputs_and_specifications_trigger_reruns_and_edits_of_code_do_not(profile: str) -> None:
    text = (ROOT / "profiles" / profile / "config.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text)["rerun-triggers"] == ["mtime", "params", "input"]


@pytest.mark.parametrize("profile", ["default", "slurm"])
def test_jobs_of_a_killed_main_process_start_again(profile: str) -> None:
    # They wait for a living writer and keep a finished run: tests/workflow/test_killed.py.
    entries = yaml.safe_load((ROOT / "profiles" / profile / "config.yaml").read_text("utf-8"))
    assert entries["rerun-incomplete"] is True
    assert entries.get("retries", 1) == 1


def test_an_edit_of_a_method_collects_again_and_speaks_to_the_terminal() -> None:
    text = (ROOT / "workflow" / "rules" / "measure.smk").read_text(encoding="utf-8")
    rule = text[text.index("rule collect") :]
    assert "sources=method_sources," in rule
    assert "2>&1 > {log} | tee -a {log}" in rule


def test_figures_get_the_highlighted_methods_of_their_experiment(workflow: Path) -> None:
    path = workflow / "config" / "experiments" / "quick.yaml"
    path.write_text(f"{path.read_text(encoding='utf-8')}highlight: [l1]\n", encoding="utf-8")
    table = workflow / "results" / "quick" / "runs.csv"
    table.parent.mkdir(parents=True)
    table.write_text("method\n", encoding="utf-8")
    options = ("-n", "-p", "--config", "experiments=quick")
    done = snakemake(workflow, "figures", *options)
    command = "--runs-csv results/quick/runs.csv --highlight l1 --out results/quick/figures"
    assert command in done.stdout
