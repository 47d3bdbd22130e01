"""Readings: what a magnetometer (and an accelerometer beside it) said.

In: columns of numbers as a file's own format gave them. Out: `Readings`. Never: keeps a row that is
no number (it is counted), opens a file (`files.py` does).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.calibrate.sphere import Floats

LIMIT_BYTES = 256 << 20
# Beyond this squares lose their meaning; no sensor in any unit says it.
MOST = 1e12


class ReadingsError(ValueError):
    """The file holds no readings; the text says what was seen and what was expected."""


class Columns(NamedTuple):
    """What a file's own format gave: field float64[n, 3], and if there are any the
    accelerations at the same rows and seconds."""

    field: Floats
    acceleration: Floats | None = None
    seconds: Floats | None = None
    unit: str | None = None
    uid: str | None = None
    notes: tuple[str, ...] = ()


class Readings(NamedTuple):
    """Rows that are numbers. `field` float64[n, 3]; `acceleration` float64[n, 3] at the same
    moments or None; `unit` None if nobody knows; `dropped` rows were no numbers."""

    name: str
    field: Floats
    acceleration: Floats | None
    seconds: Floats | None
    unit: str | None
    uid: str | None
    dropped: int
    notes: tuple[str, ...]


def finite(name: str, columns: Columns) -> Readings:
    """Without the rows that are no numbers or absurd ones. Raises `ReadingsError`."""
    together = [columns.field]
    if columns.acceleration is not None:
        together.append(columns.acceleration)
    values = np.hstack(together)
    good = np.all(np.isfinite(values) & (np.abs(values) < MOST), axis=1)
    if not good.any():
        raise ReadingsError(f"{name}: no row has three numbers that a magnetometer could say")
    acceleration = None if columns.acceleration is None else columns.acceleration[good]
    seconds = None if columns.seconds is None else columns.seconds[good]
    return Readings(
        name, columns.field[good], acceleration, seconds, columns.unit, columns.uid,
        int(len(good) - good.sum()), columns.notes,
    )  # fmt: skip


def at_moments(moments: Floats, seconds: Floats, rows: Floats) -> Floats:
    """Rows of another sensor at these moments, between its own by straight lines."""
    return np.column_stack([np.interp(moments, seconds, column) for column in rows.T])
