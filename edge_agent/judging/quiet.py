"""Quiet: windows that say nothing about the machine's health.

In: starts, gaps, windows. Out: whether a window is quiet: it neither alarms nor teaches.
Never: quiet for longer than it was told to be.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.judging.window import Window


class QuietSpec(NamedTuple):
    """Seconds after a start or a gap; and a channel (of speed or load) that makes a window quiet
    while it changes by more than `ramp_per_second` of its own unit."""

    seconds: float = 0.0
    ramp_channel: str | None = None
    ramp_per_second: float = 0.0


class Quiet:
    """One asset's. Raises `ValueError` for a ramp channel that the stream doesn't have."""

    def __init__(self, spec: QuietSpec, channels: tuple[str, ...]) -> None:
        self._seconds, self._per_second = spec.seconds, spec.ramp_per_second
        if spec.ramp_channel is not None and spec.ramp_channel not in channels:
            known = ", ".join(channels)
            raise ValueError(f"ramp_channel {spec.ramp_channel}: there is none; known: {known}")
        self._ramp = channels.index(spec.ramp_channel) if spec.ramp_channel else None
        self._until_t: float | None = None
        self._began = False

    def restart(self) -> None:
        """A start or a gap: the next window is the first."""
        self._began = False

    def holds(self, window: Window) -> bool:
        """Whether this window is quiet."""
        if not self._began:
            self._began = True
            self._until_t = window.t_start + self._seconds
        if self._until_t is not None and window.t_end <= self._until_t:
            return True
        return self._ramp is not None and self._ramps(window, self._ramp)

    def _ramps(self, window: Window, channel: int) -> bool:
        """By the means of the window's halves, so that noise is no ramp."""
        values = window.values[:, channel]
        half, seconds = len(values) // 2, window.t_end - window.t_start
        if not half or seconds <= 0.0:
            return False
        change = float(np.mean(values[-half:]) - np.mean(values[:half]))
        return abs(change) / (seconds / 2.0) > self._per_second
