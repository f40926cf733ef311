"""The start of a workflow."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.workflow.conftest import snakemake

PRINT_THE_LIMIT = """
rule nothing:
    output:
        "nothing",
    shell:
        "touch {output}"


onsuccess:
    print("limit:", getattr(workflow.scheduler.job_rate_limiter, "max_jobs", None))
"""


@pytest.mark.parametrize(
    ("options", "limit"), [((), "None"), (("--max-jobs-per-timespan", "7/1s"), "7")]
)
def test_only_the_default_limit_of_job_starts_is_lifted(
    resolved: Path, options: tuple[str, ...], limit: str
) -> None:
    with (resolved / "Snakefile").open("a", encoding="utf-8") as file:
        file.write(PRINT_THE_LIMIT)
    arguments = ("nothing", "--cores", "1", *options, "--config", "experiments=quick")
    done = snakemake(resolved, *arguments, env={"PRUNEBENCH_FORKSERVER": ""})
    assert done.returncode == 0, done.stdout
    assert f"limit: {limit}" in done.stdout
