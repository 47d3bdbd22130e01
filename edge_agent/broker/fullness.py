"""Fullness: which bound of the outbox is reached, said when that begins and when it is over.

In: what the store holds, what went for want of room or for its age. Out: words for people.
Never: says the same twice in a row.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.broker.store import DAY_SECONDS, Limits, Row

# A bound is over when so much is free again.
ROOM_SHARE = 0.9
OVER = "outbox: there is room again: nothing is dropped any more"
DO = "bring the broker back, or raise storage.outbox_limit_bytes"


class Fullness:
    """`told` is the bound that is reached now."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._room: str | None = None
        self._age: str | None = None

    @property
    def told(self) -> str | None:
        """In words."""
        return self._room or self._age

    def take(
        self, size_bytes: int, rows: int, dropped: Sequence[Row], expired: Sequence[Row],
        looked: bool,
    ) -> list[str]:  # fmt: skip
        """After each write; `looked` says that ages were looked at. Gives what is new."""
        before = self.told
        if dropped:
            kind = "alerts" if any(row.message.alert for row in dropped) else "telemetry"
            limit = f"{self.limits.bytes / 1e6:.0f} MB or {self.limits.rows} messages"
            self._room = f"outbox at its limit of {limit}: the oldest {kind} go: {DO}"
        elif max(size_bytes / self.limits.bytes, rows / self.limits.rows) < ROOM_SHARE:
            self._room = None
        if looked:
            self._age = self._too_old() if expired else None
        now = self.told
        if now == before:
            return []
        return [now or OVER]

    def _too_old(self) -> str:
        days = self.limits.telemetry_seconds / DAY_SECONDS
        alert_days = self.limits.alert_seconds / DAY_SECONDS
        return (
            f"outbox: what has waited too long goes: telemetry after {days:g} days, alerts after "
            f"{alert_days:g}: bring the broker back"
        )
