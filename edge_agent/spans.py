"""Spans: how long something takes, as a median and a worst per cent.

In: seconds, one a call. Out: percentiles of the newest ones. Never: keeps more than `SLOTS` of
them (8 KiB), sorts while anybody waits for a judgement: that is done when somebody asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

SLOTS = 1024

A = TypeVar("A")
B = TypeVar("B")


class Percentiles(NamedTuple):
    """Of one interval, in milliseconds; None if nothing was timed."""

    p50_ms: float | None = None
    p99_ms: float | None = None


class Spans:
    """A ring of durations, begun anew with each interval."""

    def __init__(self) -> None:
        self._seconds = np.zeros(SLOTS)
        self._next = self.count = 0

    def take(self, seconds: float) -> None:
        """One more; the oldest goes if the ring is full."""
        self._seconds[self._next] = seconds
        self._next = (self._next + 1) % SLOTS
        self.count += 1

    def kept(self) -> NDArray[np.float64]:
        """What the interval has so far: float64[at most SLOTS], seconds, in no order."""
        return self._seconds[: min(self.count, SLOTS)]

    def begin(self) -> None:
        """Another interval."""
        self._next = self.count = 0


def percentiles(spans: Iterable[Spans]) -> Percentiles:
    """Of all of them together."""
    kept = [ring.kept() for ring in spans]
    seconds = np.concatenate(kept) if kept else np.zeros(0)
    if not len(seconds):
        return Percentiles()
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return Percentiles(round(float(p50), 3), round(float(p99), 3))


def timed(call: Callable[[A], B], spans: Spans) -> Callable[[A], B]:
    """The same call, and how long it took goes to `spans`."""

    def both(argument: A) -> B:
        began_s = perf_counter()
        result = call(argument)
        spans.take(perf_counter() - began_s)
        return result

    return both
