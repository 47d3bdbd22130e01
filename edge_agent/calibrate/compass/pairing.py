"""Pairing: each reading of the field with gravity at its moment, while both still come.

In: batches of magnetometer and accelerometer. Out: rows of both. Never: guesses gravity ahead (a
batch late is two degrees of a turn), keeps more than two seconds of what waits.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from edge_agent.calibrate.sphere import Floats

WAIT_SECONDS = 2.0
MOST_WAITING = 512
FELT_BATCHES = 256


class Pairing:
    """`felt` [seconds, x, y, z] means of batches; `waiting` [seconds, x, y, z] fields."""

    def __init__(self, with_gravity: bool) -> None:
        self._with_gravity = with_gravity
        self._felt: deque[Floats] = deque(maxlen=FELT_BATCHES)
        self._waiting: deque[Floats] = deque(maxlen=MOST_WAITING)

    def feel(self, t0: float, rate_hz: float, rows: Floats) -> None:
        """A batch of the accelerometer: its mean stands for its middle."""
        middle = t0 + 0.5 * (len(rows) - 1) / rate_hz
        if self._felt and middle <= self._felt[-1][0]:
            self._felt.clear()  # its clock began anew
        self._felt.append(np.concatenate(([middle], rows.mean(axis=0))))

    def field(self, t0: float, rate_hz: float, rows: Floats) -> None:
        """A batch of the magnetometer."""
        seconds = t0 + np.arange(len(rows)) / rate_hz
        self._waiting.extend(np.column_stack((seconds, rows)))

    def paired(self) -> Floats:
        """float64[n, 7]: seconds, field, gravity, of what need not wait any longer. Without an
        accelerometer, or where it has been silent for two seconds, gravity is NaN."""
        if not self._waiting:
            return np.empty((0, 7))
        rows = np.array(self._waiting)
        felt = np.array(self._felt) if self._felt else np.empty((0, 4))
        newest = rows[-1, 0]
        known = felt[-1, 0] if len(felt) else -np.inf
        ready = (rows[:, 0] <= known) | (rows[:, 0] < newest - WAIT_SECONDS)
        if not self._with_gravity:
            ready[:] = True
        self._waiting = deque(rows[~ready], maxlen=MOST_WAITING)
        return _with_gravity(rows[ready], felt)


def _with_gravity(rows: Floats, felt: Floats) -> Floats:
    gravity = np.full((len(rows), 3), np.nan)
    if len(felt) >= 2:
        inside = (rows[:, 0] >= felt[0, 0]) & (rows[:, 0] <= felt[-1, 0])
        for axis in range(3):
            values = np.interp(rows[inside, 0], felt[:, 0], felt[:, axis + 1])
            gravity[inside, axis] = values
    return np.hstack((rows, gravity))
