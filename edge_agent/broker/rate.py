"""Rate: how much was put into the outbox in the last day.

In: sizes, as they come. Out: bytes and rows an hour. Never: keeps more than a number an hour.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

HOUR_SECONDS = 3600.0
HOURS = 24
# Sooner than this a rate would be that of one alarm.
MIN_SECONDS = 60.0


class Hourly(NamedTuple):
    """What an hour brings."""

    bytes: float
    rows: float


class Rate:
    """Counts from `since_s` on, at most a day back."""

    def __init__(self, since_s: float) -> None:
        self._hours: deque[list[int]] = deque([[0, 0]], maxlen=HOURS)
        self._hour_s = since_s

    def add(self, size_bytes: int, now_s: float) -> None:
        """One row more."""
        while now_s - self._hour_s >= HOUR_SECONDS:
            self._hour_s += HOUR_SECONDS
            self._hours.append([0, 0])
        hour = self._hours[-1]
        hour[0] += size_bytes
        hour[1] += 1

    def hourly(self, now_s: float) -> Hourly | None:
        """None while nothing has come yet."""
        passed = len(self._hours) - 1 + max(now_s - self._hour_s, MIN_SECONDS) / HOUR_SECONDS
        size_bytes, rows = (sum(hour[place] for hour in self._hours) for place in (0, 1))
        return Hourly(size_bytes / passed, rows / passed) if rows else None
