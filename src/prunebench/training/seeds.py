"""Random numbers as functions of a purpose: there are no running generators.

The order of an epoch depends on (seed, phase, epoch), initial weights on (seed, "init"), and so
on: a run resumes anywhere, and one user of random numbers never disturbs another.
"""

from __future__ import annotations

import hashlib

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
