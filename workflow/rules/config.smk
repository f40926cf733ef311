# Check config/config.yaml before Snakemake reads it: an error is one line without a traceback.
import sys
from pathlib import Path

from prunebench.experiments.config import read_config
from prunebench.core.errors import PrunebenchError

if Path("config/config.yaml").is_file():
    try:
        read_config(Path("config/config.yaml"))
    except PrunebenchError as error:
        sys.exit(f"prunebench: {error}")
