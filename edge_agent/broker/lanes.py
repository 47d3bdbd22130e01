"""Lanes: of which assets something waits in the outbox.

In: rows that come and go, by the lane that they are in. Out: the lanes that are not empty, and the
newest row of each. Never: says that a lane is empty while something waits in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Lane(NamedTuple):
    """What waits of one asset: how many rows, and the newest of them."""

    rows: int
    last_id: int


class Lanes:
    """All that is not acknowledged, by lane; begins with what is on the disk."""

    def __init__(self, found: Mapping[str, Lane]) -> None:
        self._lanes = dict(found)

    def add(self, name: str, row_id: int) -> None:
        """A row more."""
        lane = self._lanes.get(name)
        self._lanes[name] = Lane(lane[0] + 1 if lane else 1, row_id)

    def remove(self, name: str) -> None:
        """A row less; a lane that nobody knows has none."""
        lane = self._lanes.get(name)
        if lane is None:
            return
        if lane.rows > 1:
            self._lanes[name] = lane._replace(rows=lane.rows - 1)
        else:
            del self._lanes[name]

    def last_ids(self) -> dict[str, int]:
        """The newest row of each lane that is not empty."""
        return {name: lane.last_id for name, lane in self._lanes.items()}

    def begin_anew(self, found: Mapping[str, Lane], more: Iterable[tuple[str, int]]) -> None:
        """What is on another disk file, and rows beside it."""
        self._lanes = dict(found)
        for name, row_id in more:
            self.add(name, row_id)
