"""Random numbers as functions of a purpose: there are no running generators.

The order of an epoch depends on (seed, phase, epoch), initial weights on (seed, "init"), and so
on: a run resumes anywhere, and one user of random numbers never disturbs another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Return a number below 2**63 that depends on the seed and the whole purpose.

    >>> derived_seed(0, 1) == derived_seed(0, 1), derived_seed(0, 1) == derived_seed(0, "1")
    (True, False)
    """
    content = repr((seed, *purpose)).encode()
    return int.from_bytes(hashlib.sha256(content).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Return a CPU generator for a purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Run a block with its own global random state on the CPU; the state before comes back."""
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)
