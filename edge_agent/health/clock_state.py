"""Clock state: whether the wall clock is to be believed, and how often it has jumped.

In: systemd's mark, the kernel, and the two clocks. Out: synchronised or not, or that nobody says;
steps. Never: sets a clock, needs a right, takes slow slewing for a step.

Under `ProtectClock=` the kernel may not be asked (EPERM). Then only systemd's mark counts, and
where another daemon keeps the time (chrony leaves no mark) nothing is known.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

CLOCK_SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
STA_UNSYNC = 0x40
# Looked at ten times a second, slewing moves it by 0.1 ms at most.
STEP_SECONDS = 1.0


class _Timex(ctypes.Structure):
    """The kernel's `struct timex` as far as its status, and room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long), ("esterror", ctypes.c_long), ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )  # fmt: skip


def synchronised(mark: Path = CLOCK_SYNCHRONISED) -> bool | None:
    """Whether something keeps the wall clock right; None if nobody says."""
    if mark.exists():
        return True
    timex = _Timex(modes=0)  # changes nothing, and so needs no right
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else not timex.status & STA_UNSYNC


class ClockSteps:
    """Counts the jumps of the wall clock against the monotonic one; a suspended machine's waking
    is one, too. `last_step_s` is how far it last jumped: positive is ahead."""

    def __init__(self, wall_s: float, monotonic_s: float) -> None:
        self._ahead_s = wall_s - monotonic_s
        self.steps = 0
        self.last_step_s: float | None = None

    def look(self, wall_s: float, monotonic_s: float) -> None:
        """What the clocks say now; ten times a second or so."""
        ahead_s = wall_s - monotonic_s
        moved_s, self._ahead_s = ahead_s - self._ahead_s, ahead_s
        if abs(moved_s) > STEP_SECONDS:
            self.steps += 1
            self.last_step_s = round(moved_s, 3)
