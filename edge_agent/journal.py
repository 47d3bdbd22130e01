"""Journal: one line a state change, for people and for journald.

In: a priority and a sentence. Out: `<6>sentence` on standard error; systemd reads the number, and
people at a terminal don't get it.
Never: more than `BURST` lines at once and `LINES_A_SECOND` on average (what was left out is said),
ends the service because nobody reads it any more.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import suppress
from typing import TextIO

ERROR, WARNING, NOTICE, INFO = 3, 4, 5, 6
BURST = 50
LINES_A_SECOND = 1.0
MAX_LINE_CHARACTERS = 1000
PROBLEMS_KEPT = 10


class Journal:
    """Writes to `stream`, standard error by default. `problems`: the last errors and warnings."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream
        self._credit = float(BURST)
        self._then = time.monotonic()
        self._left_out = 0
        self.problems: deque[str] = deque(maxlen=PROBLEMS_KEPT)

    def error(self, text: str) -> None:
        """Something doesn't work and won't without help."""
        self.problems.append(text[:MAX_LINE_CHARACTERS])
        self._write(ERROR, text)

    def warning(self, text: str) -> None:
        """Something doesn't work just now."""
        self.problems.append(text[:MAX_LINE_CHARACTERS])
        self._write(WARNING, text)

    def notice(self, text: str) -> None:
        """Something that people asked to be told: an alarm."""
        self._write(NOTICE, text)

    def info(self, text: str) -> None:
        """A change of state that is as it should be."""
        self._write(INFO, text)

    def _write(self, priority: int, text: str) -> None:
        now = time.monotonic()
        self._credit = min(BURST, self._credit + (now - self._then) * LINES_A_SECOND)
        self._then = now
        if self._credit < 1.0:
            self._left_out += 1
            return
        self._credit -= 1.0
        stream = self._stream or sys.stderr
        if self._left_out:
            stream.write(f"<{WARNING}>{self._left_out} lines left out\n")
            self._left_out = 0
        line = text[:MAX_LINE_CHARACTERS].replace("\n", "; ")
        with suppress(OSError):  # whoever read this has gone; `problems` has it
            stream.write(line + "\n" if stream.isatty() else f"<{priority}>{line}\n")
            stream.flush()
