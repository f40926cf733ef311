"""The small configuration, shared with the tests of the command line."""

from prunebench.experiments.spec import RunSpec
from prunebench.methods.registry import method_class
from tests.cli.conftest import call, write_config

__all__ = ["call", "complete", "write_config"]


def complete(run: RunSpec) -> RunSpec:
    """Return the run with all options of its method, defaults included."""
    options = method_class(run.method).Options.model_validate(run.options)
    return run.model_copy(update={"options": options.model_dump(mode="json")})
