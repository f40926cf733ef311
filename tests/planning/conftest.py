"""The small configuration, shared with the tests of the command line."""

from tests.cli.conftest import call, write_config

__all__ = ["call", "write_config"]
