"""Sphere map: which of the 100 sections were seen, in twelve lines of text.

In: the sections, the one of now. Out: lines of `#`, `.` and `@`. Never: more than 77 cells wide.

Each section has the same share of the sphere: a ring of the sphere is a band, a turn all round goes
once from left to right. Level is at the top, turned over at the bottom.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.sphere import RINGS

CELLS = 68
LINES_OF_RINGS = (1, 2, 3, 3, 2, 1)
LABELS = ("level", "", "", "", "", "on edge", "", "", "", "", "turned", "over")
LABEL_CELLS = 9


def sphere_map(seen: NDArray[np.bool_], now: int | None, z_up: bool) -> tuple[str, ...]:
    """Twelve lines; `z_up` is a board whose z points up when it is level."""
    bands: list[list[str]] = []
    first = 0
    for (_, sectors), lines in zip(RINGS, LINES_OF_RINGS, strict=True):
        drawn = "".join(
            _sign(bool(seen[section]), section == now)
            for section in (first + cell * sectors // CELLS for cell in range(CELLS))
        )
        bands.append([drawn] * lines)
        first += sectors
    ordered = [line for band in (reversed(bands) if z_up else bands) for line in band]
    return tuple(
        f"{label:<{LABEL_CELLS}}{line}" for label, line in zip(LABELS, ordered, strict=True)
    )


def _sign(seen: bool, now: bool) -> str:
    return "@" if now else "#" if seen else "."
