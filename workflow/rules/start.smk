# Before the first job: check what the jobs ask a cluster for, or start the server from which the
# training jobs of this machine fork, with torch imported; and keep Snakemake's scheduler from
# waking up all the time.
from prunebench.cli import forkserver
from prunebench.cli.cluster import Request, check_cluster, silence_account_guess


def check_slurm(workflow):
    """Exit if the cluster cannot meet what a job asks for; do nothing for other executors."""
    settings = workflow.executor_settings
    if workflow.executor_plugin.name != "slurm":
        return
    if settings.no_account:
        silence_account_guess(logger)
    jobs = workflow.dag.needrun_jobs()
    check_cluster({requested(job) for job in jobs if not job.is_local})


def requested(job):
    """Return what a job asks of a node of a cluster."""
    got = job.resources.get
    return Request(
        name=job.rule.name,
        partition=got("slurm_partition") or "",
        cpus=(got("cpus_per_task") or job.threads) * (got("tasks_per_node") or 1),
        mem_mb=got("mem_mb") or 0,
        gpus=got("gpu") or 0,
        minutes=got("runtime") or 0,
    )


onstart:
    if workflow.local_exec:
        forkserver.start()
    else:
        check_slurm(workflow)
    lift_default_rate(workflow.scheduler)
