# Start the server from which the training jobs of this machine fork, with torch imported, and keep
# Snakemake's scheduler from waking up all the time.
from prunebench.cli import forkserver


onstart:
    forkserver.start()
    lift_default_rate(workflow.scheduler)
