"""Hearing: how well a machine was heard while it was captured, minute by minute.

In: batches of one stream. Out: which minutes count, and the gauges of each block. Never: counts a
minute in which more than 0.1 % of the samples were lost, or more than a second in one go; keeps
more than a day of numbers (`MOST_STRETCHES`) or a few blocks of samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.baseline.gauges import Gauge, GaugeKind, gauge
from firmware_bridge.frames import DataFlag
from firmware_bridge.samples import Samples

STRETCH_SECONDS = 60.0
MOST_LOST_SHARE, MOST_GAP_SECONDS = 0.001, 1.0
MOST_STRETCHES = 1440
# Blocks that wait to be gauged; more are gauged at once.
MOST_WAITING = 4
CLIPPED = int(DataFlag.CLIPPED)


@dataclass(slots=True)
class Stretch:
    """A minute of one state: samples that came, that are missing, the longest gap."""

    state: int
    received: int = 0
    lost: int = 0
    gap_seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether it counts."""
        most = MOST_LOST_SHARE * (self.received + self.lost)
        return self.lost <= most and self.gap_seconds <= MOST_GAP_SECONDS


@dataclass(slots=True)
class Hearing:
    """One stream. `stretches` are its minutes, `gauges` its blocks and `gauged` the stretch that
    each ends in; `clipped` counts batches that the board itself called clipped, of `batches`."""

    kind: GaugeKind
    stretches: list[Stretch] = field(default_factory=list)
    gauges: list[Gauge] = field(default_factory=list)
    gauged: list[int] = field(default_factory=list)
    batches: int = 0
    clipped: int = 0
    _rows: list[NDArray[np.float32]] = field(default_factory=list)
    _count: int = 0
    _waiting: list[tuple[int, NDArray[np.float32]]] = field(default_factory=list)

    def begin(self, state: int) -> None:
        """From now on the machine is in this state."""
        self.stretches.append(Stretch(state))
        self._cut()

    @property
    def number(self) -> int:
        """Of the minute that runs."""
        return len(self.stretches) - 1

    def take(self, samples: Samples) -> None:
        """A batch, after `begin`."""
        rate_hz, now = self.kind.rate_hz, self.stretches[-1]
        if (now.received + now.lost) >= STRETCH_SECONDS * rate_hz and self.number < MOST_STRETCHES:
            now = Stretch(now.state)
            self.stretches.append(now)
        if not samples.contiguous:
            now.lost += samples.lost_before
            # After a restart nobody knows how many are missing.
            gap_seconds = np.inf if samples.restarted else samples.lost_before / rate_hz
            now.gap_seconds = max(now.gap_seconds, gap_seconds)
            self._cut()
        now.received += len(samples.values)
        self.batches += 1
        self.clipped += bool(samples.flags & CLIPPED)
        self._keep(samples.values)

    def settle(self) -> None:
        """Gauges the blocks that are whole; some milliseconds each."""
        for stretch, rows in self._waiting:
            self.gauges.append(gauge(rows, self.kind))
            self.gauged.append(stretch)
        self._waiting.clear()

    def good(self) -> NDArray[np.bool_]:
        """bool[stretches]: which count."""
        return np.array([stretch.good for stretch in self.stretches], np.bool_)

    def _keep(self, values: NDArray[np.float32]) -> None:
        self._rows.append(values)
        self._count += len(values)
        size = self.kind.rows
        if self._count < size:
            return
        rows = np.concatenate(self._rows)
        while len(rows) >= size:
            self._waiting.append((self.number, rows[:size]))
            rows = rows[size:]
        self._rows, self._count = [rows], len(rows)
        if len(self._waiting) > MOST_WAITING:
            self.settle()

    def _cut(self) -> None:
        self._rows, self._count = [], 0
