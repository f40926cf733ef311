# After a failed job, if the others went on: tables, figures and report of what is finished, with the
# reasons in place of the rest. A later call that finishes the rest writes them again.
from types import SimpleNamespace

from prunebench.cli.after_failure import report_finished


onerror:
    if workflow.execution_settings.keep_going:
        for name in SETTINGS.experiments:
            w = SimpleNamespace(experiment=name)
            if not all(Path(file).exists() for file in receipts(RUNS.to_run)):
                report_finished(
                    name, reuse=reuse_options(w), tables=table_flags(w), figures=figure_flags(w)
                )
