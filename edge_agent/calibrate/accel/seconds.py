"""Seconds: runs of rows that were still, found while samples come.

In: contiguous rows in g, in batches of any size. Out: each tenth of a second the last whole second.
Never: puts a second together across a gap, keeps more than one second.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from edge_agent.calibrate.sphere import Floats

BLOCKS = 10
STILL_G = 0.010
LEAST_RATE_HZ = 10.0


class Second(NamedTuple):
    """A second of rows [n, 3] in g that ended at `t_s`: `mean` [3], `spread` [3] the standard
    deviation of the rows, `noise` [3] that of the mean, from how its tenths scatter. That sees
    slow noise, too, which the spread over the root of n does not."""

    t_s: float
    mean: Floats
    spread: Floats
    noise: Floats
    rows: Floats

    @property
    def still(self) -> bool:
        """Less than 10 mg on every axis."""
        return bool((self.spread < STILL_G).all())


class Seconds:
    """Cuts a stream into tenths of a second."""

    def __init__(self, rate_hz: float) -> None:
        self.rows_a_block = max(1, round(rate_hz / BLOCKS))
        self._rate_hz = rate_hz
        self._rest = np.empty((0, 3))
        self._blocks: deque[Floats] = deque(maxlen=BLOCKS)

    def restart(self) -> None:
        """Rows are missing: what comes does not go on from what was."""
        self._rest = np.empty((0, 3))
        self._blocks.clear()

    def take(self, rows: Floats, t0_s: float) -> list[Second]:
        """The seconds that these rows complete; the first of them was at `t0_s`."""
        begun_s = t0_s - len(self._rest) / self._rate_hz
        joined = np.concatenate((self._rest, rows))
        count, found = len(joined) // self.rows_a_block, []
        for number in range(count):
            end = (number + 1) * self.rows_a_block
            self._blocks.append(joined[end - self.rows_a_block : end])
            if len(self._blocks) == BLOCKS:
                found.append(self._second(begun_s + end / self._rate_hz))
        self._rest = joined[count * self.rows_a_block :]
        return found

    def _second(self, t_s: float) -> Second:
        blocks = np.stack(self._blocks)
        means = blocks.mean(axis=1)
        rows = blocks.reshape(-1, 3)
        noise = means.std(axis=0, ddof=1) / np.sqrt(BLOCKS)
        return Second(t_s, means.mean(axis=0), rows.std(axis=0), noise, rows)
