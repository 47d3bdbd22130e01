"""Clock: which boot this is, and what both its clocks say.

In: nothing. Out: stamps. Never: judges them (`restamp` does).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.broker.restamp import BUILT_S, Stamp

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock:
    """Both clocks of this boot; without a boot's id no stamp is of the same boot as another.
    `synchronised` says whether something keeps the wall clock right, None if nobody knows."""

    def __init__(
        self,
        boot_id: str | None = None,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        synchronised: Callable[[], bool | None] = lambda: True,
    ) -> None:
        self.boot_id = this_boot() if boot_id is None else boot_id
        self._wall, self._monotonic, self._synchronised = wall, monotonic, synchronised

    def now(self) -> Stamp:
        """This moment."""
        wall_s = self._wall()
        return Stamp(self.boot_id, wall_s, wall_s - self._monotonic())

    def for_ages(self) -> Stamp:
        """This moment, where something may go for its age: a wall clock that may be years ahead
        (a battery that is empty) counts for nothing."""
        now = self.now()
        return now if self._synchronised() else Stamp(now.boot_id, 0.0, -now.monotonic_s)

    def believable(self) -> bool:
        """Whether the wall clock may be right; below `BUILT_S` nobody has set it."""
        return self._wall() >= BUILT_S


def this_boot() -> str:
    """Names this boot of the machine: which monotonic clock `mono_ms` belongs to."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
