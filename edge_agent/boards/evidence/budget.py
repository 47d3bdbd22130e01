"""Budget: how much evidence may be written in a day, for the card's sake.

In: bytes about to be written, host seconds. Out: whether an alarm may still have its recording.
Never: refuses what an operator asks for (that only counts), keeps more than three numbers. The day
begins with the agent, as no clock can be trusted to know when it does.
"""

from __future__ import annotations

DAY_SECONDS = 86_400.0


class Budget:
    """`unrecorded` counts the alarms of this run that had to go without a recording."""

    def __init__(self, daily_bytes: int) -> None:
        self._daily_bytes = daily_bytes
        self._begun_s: float | None = None
        self._spent_bytes = 0
        self._told = self._refused = False
        self.unrecorded = 0

    def spend(self, size_bytes: int) -> None:
        """So much is written, come what may."""
        self._spent_bytes += size_bytes

    def tick(self, now_s: float) -> None:
        """A new day is a new budget."""
        if self._begun_s is None:
            self._begun_s = now_s
        if now_s - self._begun_s >= DAY_SECONDS:
            self._begun_s, self._spent_bytes = now_s, 0
            self._told = self._refused = False

    def allows(self, size_bytes: int) -> bool:
        """Whether an alarm may have a recording that begins with so many bytes."""
        if self._spent_bytes + size_bytes <= self._daily_bytes:
            return True
        self.unrecorded += 1
        self._refused = True
        return False

    def notice(self) -> str | None:
        """What people should read, once a day."""
        if self._told or not self._refused:
            return None
        self._told = True
        megabytes = self._daily_bytes / 1e6
        return (
            f"evidence: {megabytes:g} MB have been written today: further alarms are kept without "
            "the wire around them; raise storage.evidence_daily_bytes if the disk can take it"
        )
