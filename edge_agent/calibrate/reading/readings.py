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
# The usual periods of a time column in seconds, milliseconds, microseconds do not meet.
SECONDS_BELOW, MILLISECONDS_BELOW, MICROSECONDS_BELOW = 0.5, 500.0, 500e3


class ReadingsError(ValueError):
    """The file holds no readings; the text says what was seen and what was expected."""


class Columns(NamedTuple):
    """What a file's own format gave: field float64[n, 3], and if there are any the
    accelerations at the same rows and seconds. `gravity_only`: by its names the file holds an
    accelerometer alone, and that is `field`; `second` is one second in the unit of `seconds` where
    a text's header tells."""

    field: Floats
    acceleration: Floats | None = None
    seconds: Floats | None = None
    unit: str | None = None
    uid: str | None = None
    notes: tuple[str, ...] = ()
    gravity_only: bool = False
    second: float | None = None


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
    if columns.gravity_only:
        raise ReadingsError(f"{name}: by its names it holds an accelerometer only; expected a "
                            "magnetometer's x y z")  # fmt: skip
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


def second_of(times: Floats) -> float | None:
    """One second in the unit of a column of times, by its usual step: 1, 1e3, 1e6 or 1e9; None if
    they say nothing."""
    if len(times) < 2 or not np.isfinite(times).all():
        return None
    steps = np.diff(times)
    steps = steps[steps != 0.0]  # rounded, some repeat
    period = float(np.median(steps)) if len(steps) else 0.0
    if period <= 0.0:
        return None
    return next(
        (unit for below, unit in ((SECONDS_BELOW, 1.0), (MILLISECONDS_BELOW, 1e3),
         (MICROSECONDS_BELOW, 1e6)) if period < below), 1e9,
    )  # fmt: skip


def clocked(columns: Columns) -> Columns:
    """The same with seconds; without where they are no clock."""
    if columns.seconds is None:
        return columns
    second = columns.second or second_of(columns.seconds)
    if second is None or not (np.diff(columns.seconds) >= 0.0).all():
        return columns._replace(seconds=None)
    return columns._replace(seconds=columns.seconds / second, second=1.0)


def beside(columns: Columns) -> Columns:
    """A logger that writes a row for each sensor leaves the cells of the other empty: gravity is
    then taken from between its own rows. `columns` are `clocked`."""
    gravity = columns.acceleration
    if gravity is None:
        return columns
    felt = np.isfinite(gravity).all(axis=1)
    if felt.all() or felt.sum() < 2:
        return columns
    moments = np.arange(len(gravity), dtype=np.float64)
    if columns.seconds is not None:
        moments = columns.seconds
    return columns._replace(acceleration=at_moments(moments, moments[felt], gravity[felt]))


def at_moments(moments: Floats, seconds: Floats, rows: Floats) -> Floats:
    """Rows of another sensor at these moments, between its own by straight lines."""
    return np.column_stack([np.interp(moments, seconds, column) for column in rows.T])
