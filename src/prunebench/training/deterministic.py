"""The same bits at every repetition, on a GPU too: PyTorch's switch, and what goes with it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from prunebench.core.errors import ConfigError, TrainingError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
# The values with which cuBLAS repeats its bits, as its documentation and PyTorch's say; the first
# is the faster one, for 24 MiB of memory.
WORKSPACES = (":4096:8", ":16:8")


@contextmanager
def deterministic(asked: bool) -> Iterator[None]:
    """Compute by deterministic algorithms alone, if asked to.

    cuBLAS reads its setting when it is first used, so this comes before any work on a GPU. An
    operation without a deterministic implementation raises TrainingError, which names it.
    """
    if not asked:
        yield
        return
    if (found := os.environ.setdefault(WORKSPACE, WORKSPACES[0])) not in WORKSPACES:
        raise ConfigError(
            f"deterministic: true needs {WORKSPACE} to be unset or one of "
            f"{', '.join(WORKSPACES)}, and the environment has {found!r}"
        )
    cudnn = torch.backends.cudnn
    before = torch.are_deterministic_algorithms_enabled(), cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        if matched := re.match(r"(\S+) does not have a deterministic implementation", str(error)):
            raise TrainingError(
                f"{matched[1]} has no deterministic implementation in PyTorch "
                f"{torch.__version__}, and deterministic: true asks for one; "
                "deterministic: false goes on without"
            ) from error
        raise
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.deterministic, cudnn.benchmark = before[1:]
