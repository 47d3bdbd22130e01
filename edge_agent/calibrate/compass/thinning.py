"""Thinning: no attitude weighs much more than another, however long the board rested in it.

In: magnetometer readings and a rough sphere. Out: which of them the fit should see. Never: drops a
reading where there are few, so a short or evenly turned recording stays whole.

The sphere is cut into 1024 cells of equal area, 3.6 degrees across. Each keeps as many readings as
four times the usual cell has, at least 512 (ten seconds at 50 Hz), spread over the time the board
was there. What a sensor gets wrong in one attitude it gets wrong in every reading of it, so the
thousandth tells nothing that the first did not; but a turn that was slow in places stays whole.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.sphere import Floats, Sphere

HEIGHTS = TURNS = 32
LEAST_IN_A_CELL = 512
TIMES_THE_USUAL = 4
# A fit of this many takes a tenth of a second; more would not make it better.
LIMIT_READINGS = 20_000


def thinned(readings: Floats, sphere: Sphere) -> NDArray[np.bool_]:
    """bool[n]: what is kept, at most 20,000."""
    cells = cells_of(readings - sphere.centre)
    counts = np.bincount(cells, minlength=HEIGHTS * TURNS)
    usual = float(np.median(counts[counts > 0]))
    quota = max(LEAST_IN_A_CELL, round(TIMES_THE_USUAL * usual))
    kept = np.ones(len(readings), np.bool_)
    by_cell = np.argsort(cells, kind="stable")
    for crowd in np.split(by_cell, np.cumsum(counts)[:-1]):
        if len(crowd) > quota:
            kept[crowd] = False
            kept[crowd[np.linspace(0, len(crowd) - 1, quota).round().astype(np.intp)]] = True
    return _limited(kept)


def spread(readings: Floats, sphere: Sphere, quota: int) -> NDArray[np.intp]:
    """Which readings a live calibration keeps, in order: the first `quota` of each cell, at most
    1024 times as many."""
    cells = cells_of(readings - sphere.centre)
    by_cell = np.argsort(cells, kind="stable")
    ranked = cells[by_cell]
    first = np.searchsorted(ranked, ranked, side="left")
    rank = np.arange(len(ranked)) - first
    return np.sort(by_cell[rank < quota])


def cells_of(directions: Floats) -> NDArray[np.intp]:
    """The cell, 0 to 1023: heights of equal thickness cut slices of equal area off a sphere."""
    length = np.maximum(np.linalg.norm(directions, axis=1), np.finfo(float).tiny)
    height = (directions[:, 2] / length + 1.0) / 2.0
    turn = np.arctan2(directions[:, 1], directions[:, 0]) / (2 * np.pi) + 0.5
    row = np.minimum((height * HEIGHTS).astype(np.intp), HEIGHTS - 1)
    return np.asarray(row * TURNS + np.minimum((turn * TURNS).astype(np.intp), TURNS - 1))


def _limited(kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
    where = np.flatnonzero(kept)
    if len(where) > LIMIT_READINGS:
        kept[:] = False
        kept[where[np.linspace(0, len(where) - 1, LIMIT_READINGS).round().astype(np.intp)]] = True
    return kept
