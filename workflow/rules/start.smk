# The training jobs of this machine fork from one process, which has imported torch already.
from prunebench.cli import forkserver


onstart:
    forkserver.start()
