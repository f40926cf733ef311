"""The small configuration of the command line's tests."""

from tests.cli.conftest import call, write_config

__all__ = ["call", "write_config"]
