from __future__ import annotations

import pytest
import torch


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """One thread, before any fixture: the networks are small, and sums follow the threads.

    What is computed for a whole module must have the bits of what its tests compute, whatever
    ran before in the same process (a stage sets the threads of its specification).
    """
    torch.set_num_threads(1)
