"""The markers of the figures as SVG paths in the square from -1 to 1, for charts and legends."""

from __future__ import annotations

import math

from prunebench.report.looks import Look


def _polygon(*angles: float, radii: tuple[float, ...] = (1.0,), flat: float = 1.0) -> str:
    """Return a closed path through points at some angles, in degrees clockwise from the top."""
    corners = [
        (flat * r * math.sin(math.radians(a)), -r * math.cos(math.radians(a)))
        for a, r in zip(angles, radii * (len(angles) // len(radii)), strict=True)
    ]
    # Adding 0.0 turns -0.0 into 0.0.
    return "M" + "L".join(f"{round(x, 3) + 0.0:g},{round(y, 3) + 0.0:g}" for x, y in corners) + "Z"


def _regular(corners: int, first: float = 0.0) -> str:
    return _polygon(*(first + 360 * i / corners for i in range(corners)))


_CROSS = tuple(
    a for quarter in (0, 90, 180, 270) for a in (quarter - 19, quarter + 19, quarter + 45)
)
_CROSS_RADII = (1.05, 1.05, 0.48)
_PATHS = {
    "o": "M0,-1A1,1,0,1,1,0,1A1,1,0,1,1,0,-1Z",
    "s": _polygon(45, 135, 225, 315, radii=(1.2,)),
    "D": _regular(4),
    "d": _polygon(0, 90, 180, 270, flat=0.6),
    "^": _regular(3),
    ">": _regular(3, 90),
    "v": _regular(3, 180),
    "<": _regular(3, 270),
    "p": _regular(5),
    "h": _regular(6),
    "*": _polygon(*(36 * i for i in range(10)), radii=(1.15, 0.48)),
    "P": _polygon(*_CROSS, radii=_CROSS_RADII),
    "X": _polygon(*(angle + 45 for angle in _CROSS), radii=_CROSS_RADII),
    "x": "M-0.8,-0.8L0.8,0.8M-0.8,0.8L0.8,-0.8",
}


def path_of(look: Look) -> str:
    """Return the path of a look's marker.

    >>> from prunebench.report.looks import look
    >>> path_of(look("epruner"))
    'M0,-1L1,0L0,1L-1,0Z'
    """
    return _PATHS[look.marker]
