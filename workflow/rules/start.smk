# Start the server from which the training jobs of this machine fork, with torch imported.
from prunebench.cli import forkserver


onstart:
    forkserver.start()
