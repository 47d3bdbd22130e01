"""Alarm: ratios of score to threshold to episodes, one begin and one end each.

In: one ratio a window, and its time. Out: what happened to the episode, if anything.
Never: looks at a clock, sends anything, decides who is told (that is annunciator.py).
The words are those of OPC UA Part 9: on-delay, off-delay.

        ratio >= 1 for m of the last n windows              ratio < clear_ratio for off_delay
    NORMAL ------------------------------> begin, ACTIVE ------------------------------> end
                                           | more severe: update
"""

from __future__ import annotations

from collections import deque
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from edge_agent.bundles.manifest import AlarmSpec

Kind = Literal["begin", "update", "end"]

SEVERITY_RATIOS = (1.5, 3.0, 6.0)


class Change(NamedTuple):
    """What happened to the episode; times in host seconds."""

    kind: Kind
    number: int
    t: float
    first_over_t: float
    ratio: float
    peak_ratio: float
    severity: int


class AlarmState(BaseModel):
    """What of an alarm outlives the process. Counts towards a begin don't: there was a gap."""

    model_config = ConfigDict(extra="ignore")

    active: bool = False
    number: int = 0
    first_over_t: float = 0.0
    peak_ratio: float = 0.0
    severity: int = 0
    windows_over: int = 0


class Alarm:
    """The episodes of one asset. `active` is True from begin to end, `windows_over` how many
    windows have been over the threshold since it was first crossed, `number` counts episodes."""

    def __init__(self, spec: AlarmSpec, state: AlarmState | None = None) -> None:
        self.spec = spec
        self._window = self._under = 0
        self._crossings: deque[tuple[int, float, float]] = deque()
        state = state or AlarmState()
        self.active, self.number = state.active, state.number
        self.peak_ratio, self.severity = state.peak_ratio, state.severity
        self.windows_over, self._first_over_t = state.windows_over, state.first_over_t

    def judge(self, t: float, ratio: float, severity: int = 1) -> Change | None:
        """Takes one window's ratio; says begin, update, end or nothing. `severity` is the least
        that this window means, whatever its ratio."""
        severity = max(severity, severity_of(ratio)) if ratio >= 1.0 else 0
        if self.active:
            return self._while_active(t, ratio, severity)
        self._cross(t, ratio)
        if len(self._crossings) < self.spec.on_delay_windows:
            return None
        self.active, self._under = True, 0
        self.number += 1
        self._first_over_t = self._crossings[0][1]
        self.peak_ratio = max(crossing[2] for crossing in self._crossings)
        self.severity = max(severity, severity_of(self.peak_ratio))
        return self._change("begin", t, ratio)

    def gap(self) -> None:
        """Windows no longer follow each other: what was counted towards a change is void."""
        self._crossings.clear()
        self._under = 0

    def close(self, t: float) -> Change | None:
        """Ends the episode, if there is one, because somebody says so."""
        if not self.active:
            return None
        self._over()
        return self._change("end", t, 0.0)

    def lasting(self, t: float) -> Change | None:
        """The episode as it is by now, if there is one."""
        return self._change("update", t, self.peak_ratio) if self.active else None

    def state(self) -> AlarmState:
        """What a later process needs to go on."""
        return AlarmState(
            active=self.active, number=self.number, first_over_t=self._first_over_t,
            peak_ratio=self.peak_ratio, severity=self.severity, windows_over=self.windows_over,
        )  # fmt: skip

    def _cross(self, t: float, ratio: float) -> None:
        """Keeps which of the last n windows were over."""
        self._window += 1
        if ratio >= 1.0:
            self._crossings.append((self._window, t, ratio))
        span = self.spec.on_of_windows or self.spec.on_delay_windows
        while self._crossings and self._crossings[0][0] <= self._window - span:
            self._crossings.popleft()
        self.windows_over = len(self._crossings)

    def _while_active(self, t: float, ratio: float, severity: int) -> Change | None:
        self.windows_over += ratio >= 1.0
        self.peak_ratio = max(self.peak_ratio, ratio)
        self._under = self._under + 1 if ratio < self.spec.clear_ratio else 0
        if self._under >= self.spec.off_delay_windows:
            self._over()
            return self._change("end", t, ratio)
        if severity > self.severity:
            self.severity = severity
            return self._change("update", t, ratio)
        return None

    def _over(self) -> None:
        self.active = False
        self._crossings.clear()

    def _change(self, kind: Kind, t: float, ratio: float) -> Change:
        return Change(
            kind, self.number, t, self._first_over_t, ratio, self.peak_ratio, self.severity
        )


def severity_of(ratio: float) -> int:
    """1 to 4, by a ratio."""
    return 1 + sum(ratio >= limit for limit in SEVERITY_RATIOS)
