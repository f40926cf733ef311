from __future__ import annotations

import pytest

from prunebench.experiments.recipe import Recipe


@pytest.fixture
def recipe() -> Recipe:
    """A recipe that leaves the number of epochs to the method."""
    return Recipe(batch_size=4, lr=0.01, weight_decay=0.0)
