"""Progress while a source is read, for data sets that take minutes: a bar, or lines in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from typing import TypeVar

T = TypeVar("T")

SECONDS = 10.0  # between two lines of a log


def counted(items: Collection[T], what: str) -> Iterator[T]:
    """Yield the items; show on a terminal how many are done, and in a log every ten seconds.

    `what` says what is done to them, such as "decode". A bar disappears when it is complete, and
    work of less than ten seconds leaves no line in a log.
    """
    if sys.stdout.isatty():
        from rich.progress import track

        yield from track(items, f"{what:<10}", transient=True)
        return
    said = time.monotonic()
    for done, item in enumerate(items):
        if time.monotonic() - said >= SECONDS:
            said = time.monotonic()
            print(f"{what:<10} {done:,} of {len(items):,}", flush=True)
        yield item
