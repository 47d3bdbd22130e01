"""Alarm: ratios of score to threshold to episodes, one begin and one end each.

In: one ratio a window, and its time. Out: what happened to the episode, if anything.
Never: looks at a clock, sends anything. The words are those of OPC UA Part 9: on-delay, off-delay.

        ratio >= 1 for on_delay windows in a row            ratio < clear_ratio for off_delay
    NORMAL ------------------------------> begin, ACTIVE ------------------------------> end
                                           | worse: update
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from edge_agent.manifest import AlarmSpec

Kind = Literal["begin", "update", "end"]

# A new message while the fault lasts must be worth reading: the worst ratio has doubled.
UPDATE_GROWTH = 2.0
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


class Alarm:
    """The episodes of one asset. `active` is True from begin to end, `windows_over` how many
    windows have been over the threshold since it was first crossed."""

    def __init__(self, spec: AlarmSpec) -> None:
        self._spec = spec
        self.active = False
        self.number = 0
        self.windows_over = 0
        self._over = self._under = 0
        self._first_over_t = self._told_ratio = self.peak_ratio = 0.0

    def judge(self, t: float, ratio: float) -> Change | None:
        """Takes one window's ratio; says begin, update, end or nothing."""
        self.windows_over += ratio >= 1.0
        if self.active:
            return self._while_active(t, ratio)
        if ratio < 1.0:
            self._over = self.windows_over = 0
            return None
        self._over += 1
        if self._over == 1:
            self._first_over_t, self.peak_ratio = t, 0.0
        self.peak_ratio = max(self.peak_ratio, ratio)
        if self._over < self._spec.on_delay_windows:
            return None
        self.active, self._under = True, 0
        self.number += 1
        return self._change("begin", t, ratio)

    def gap(self) -> None:
        """Windows no longer follow each other: what was counted towards a change is void."""
        self._over = self._under = 0

    def _while_active(self, t: float, ratio: float) -> Change | None:
        self.peak_ratio = max(self.peak_ratio, ratio)
        self._under = self._under + 1 if ratio < self._spec.clear_ratio else 0
        if self._under >= self._spec.off_delay_windows:
            self.active, self._over, self.windows_over = False, 0, 0
            return self._change("end", t, ratio)
        if ratio >= UPDATE_GROWTH * self._told_ratio:
            return self._change("update", t, ratio)
        return None

    def _change(self, kind: Kind, t: float, ratio: float) -> Change:
        self._told_ratio = max(ratio, 1.0)
        worst = self.peak_ratio
        return Change(kind, self.number, t, self._first_over_t, ratio, worst, severity(worst))


def severity(ratio: float) -> int:
    """1 to 4, by the worst ratio of the episode."""
    return 1 + sum(ratio >= limit for limit in SEVERITY_RATIOS)
