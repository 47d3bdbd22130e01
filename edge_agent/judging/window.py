"""Window: contiguous rows to overlapping windows.

In: runs of rows with the time of the first. Out: `Window`s, every `hop` rows, as views of the ring.
Never: lets a window cross a gap (`clear` empties it), keeps more than the ring's fixed memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.judging.ring import Ring


class Window(NamedTuple):
    """`values` is float32[length, channel], valid until the next window is asked for;
    `first_row` counts rows of the stream since the last gap."""

    t_start: float
    t_end: float
    first_row: int
    values: NDArray[np.float32]


class Windows:
    """Cuts one stream; `length` and `hop` in rows."""

    def __init__(self, length: int, hop: int, channels: int) -> None:
        self.length = length
        self.hop = hop
        self._ring = Ring(2 * length, channels)
        self._row = 0

    @property
    def overwritten(self) -> int:
        """Rows that were lost because nobody asked for windows in time."""
        return self._ring.overwritten

    @property
    def missing(self) -> int:
        """Rows that the next window lacks."""
        return self._ring.missing(self.length)

    def clear(self) -> None:
        """After a gap: the next window begins with the next row."""
        self._ring.clear()
        self._row = 0

    def cut(self, rows: NDArray[np.float32], t0: float, period_seconds: float) -> Iterator[Window]:
        """Takes rows in (the first at `t0`) and gives every window that they complete."""
        step = self._ring.capacity - self.length
        for start in range(0, len(rows), step):
            part = rows[start : start + step]
            self._ring.push(part)
            t_head = t0 + (start + len(part)) * period_seconds
            while len(self._ring) >= self.length:
                t_start = t_head - len(self._ring) * period_seconds
                t_end = t_start + self.length * period_seconds
                yield Window(t_start, t_end, self._row, self._ring.window(self.length))
                self._ring.release(self.hop)
                self._row += self.hop
