"""Ring: the fixed memory of one stream.

In: rows of samples. Out: views of the oldest rows not yet released, contiguous, never copied.
Never: grows. What is overwritten before it was released is counted in `overwritten`.

The buffer holds every row twice, `capacity` rows apart, so a window that crosses the end of the
ring is one contiguous view all the same:

    capacity 4, rows 0..5 written:   | 4 5 2 3 | 4 5 2 3 |     window(3) at row 2:  2 3 4
                                           ^-------^
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Ring:
    """`capacity` rows of `channels` float32."""

    def __init__(self, capacity: int, channels: int) -> None:
        self.capacity = capacity
        self.overwritten = 0
        self._rows = np.zeros((2 * capacity, channels), np.float32)
        self._head = 0
        self._tail = 0

    def __len__(self) -> int:
        """Rows written and not released."""
        return max(self._head - self._tail, 0)

    def missing(self, rows: int) -> int:
        """Rows to be pushed until there are so many."""
        return max(rows - (self._head - self._tail), 0)

    def push(self, rows: NDArray[np.float32]) -> None:
        """Appends rows; with more unreleased rows than `capacity` the oldest are lost, counted."""
        for start in range(0, len(rows), self.capacity):
            self._push(rows[start : start + self.capacity])

    def window(self, length: int) -> NDArray[np.float32]:
        """A view of the oldest `length` unreleased rows, valid until the next `push`."""
        start = self._tail % self.capacity
        return self._rows[start : start + length]

    def release(self, rows: int) -> None:
        """Gives the oldest rows up; more than there are means that coming ones are skipped."""
        self._tail += rows

    def clear(self) -> None:
        """Forgets everything, skips included."""
        self._head = self._tail = 0

    def _push(self, rows: NDArray[np.float32]) -> None:
        capacity, at = self.capacity, self._head % self.capacity
        first = min(len(rows), capacity - at)
        self._rows[at : at + first] = rows[:first]
        self._rows[at + capacity : at + capacity + first] = rows[:first]
        rest = len(rows) - first
        if rest:
            self._rows[:rest] = rows[first:]
            self._rows[capacity : capacity + rest] = rows[first:]
        self._head += len(rows)
        lost = self._head - self._tail - capacity
        if lost > 0:
            self.overwritten += lost
            self._tail += lost
