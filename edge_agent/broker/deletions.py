"""Deletions: rows that the broker has, and that are still on the disk.

In: ids, time. Out: when they should go. Never: lets many of them pile up.

They wait for company, the next alert's commit most of all: that spares the card, and after a crash
costs a duplicate, never a loss. What an earlier run left is a repetition as it is: it goes soon.
"""

from __future__ import annotations

from math import inf

WAIT_SECONDS, EARLIER_WAIT_SECONDS = 120.0, 1.0
MAX_IDS = 500


class Deletions:
    """`ids` are those that wait; up to `earlier_id` they are an earlier run's."""

    def __init__(self, earlier_id: int) -> None:
        self.ids: set[int] = set()
        self._earlier_id = earlier_id
        self._now_s, self._due_s = 0.0, inf

    def add(self, row_id: int, soon: bool = False) -> None:
        """A row less."""
        self.ids.add(row_id)
        soon = soon or row_id <= self._earlier_id
        wait_seconds = EARLIER_WAIT_SECONDS if soon else WAIT_SECONDS
        self._due_s = min(self._due_s, self._now_s + wait_seconds)

    def due(self, now_s: float) -> bool:
        """Whether they have waited long enough."""
        self._now_s = now_s
        return bool(self.ids) and (now_s >= self._due_s or len(self.ids) >= MAX_IDS)

    def done(self, ids: set[int]) -> None:
        """These are gone."""
        self.ids -= ids
        if not self.ids:
            self._due_s = inf
