"""Fixtures of the command line, of small networks, and of runs that were never trained."""

from tests.cli.conftest import call, write_config
from tests.measure.conftest import image, small_net
from tests.report.conftest import results, runs, runs_csv

__all__ = ["call", "image", "results", "runs", "runs_csv", "small_net", "write_config"]
