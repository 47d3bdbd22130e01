"""Progress: whether a thread still does what it is asked to.

In: `asked` from who asks, `took` and `answered` from the thread. Out: for how long it has owed an
answer. Never: judges an answer (a disk that says no is alive), needs a lock of its own: each side
writes its own number.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MAX_NAME_CHARACTERS = 15


class Progress:
    """Of one thread, watched by another; `monotonic` is the clock of both."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._asked = self._taken = self._answered = 0
        self._since_s = 0.0

    def asked(self) -> None:
        """There is something to do, or just a sign of life to give."""
        if self._asked == self._answered:
            self._since_s = self._monotonic()
        self._asked += 1

    def took(self) -> None:
        """The thread has seen all that it was asked until now."""
        self._taken = self._asked

    def answered(self) -> None:
        """What it took is done, or could not be."""
        self._since_s, self._answered = self._monotonic(), self._taken

    def owed_seconds(self, now_s: float) -> float:
        """For how long the thread has owed an answer; 0 if it owes none."""
        return 0.0 if self._asked == self._answered else max(0.0, now_s - self._since_s)


def known_as(name: str) -> None:
    """The kernel, `top -H` and `ps -T` call this thread so; Python alone does not tell them."""
    with suppress(OSError):
        comm = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
        comm.write_text(name[:MAX_NAME_CHARACTERS])
