"""Commands: what can be asked of a machine under systemd, however it was booted.

In: a way to run a program inside. Out: properties of units, lines of the journal.
Never: believes a thing before the machine has said it.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TypeVar

LOOK_SECONDS = 0.1
T = TypeVar("T")


class Commands(ABC):
    """A machine that answers."""

    @abstractmethod
    def run(self, *command: str, code: int | None = 0) -> str:
        """Standard output of a command inside that must end with `code` (None: any).

        Raises `AssertionError` if it ends with another one.
        """

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit: str) -> list[str]:
        """What a unit said and what systemd said of it, oldest first."""
        lines = self.run("journalctl", f"--unit={unit}", "--output=json", "--no-pager")
        return [str(json.loads(line).get("MESSAGE")) for line in lines.splitlines()]

    def said(self, unit: str, words: str, seconds: float = 15.0) -> str:
        """The last line of the journal with these words; waits for it."""

        def line() -> str | None:
            return next((line for line in self.journal(unit)[::-1] if words in line), None)

        return until(line, f"{unit} says {words!r}", seconds)


def until(look: Callable[[], T | None], what: str, seconds: float) -> T:
    """What `look` gives as soon as it gives something; `AssertionError` after so many seconds."""
    end_s = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end_s:
            raise AssertionError(f"waited {seconds:g} s in vain: {what}")
        time.sleep(LOOK_SECONDS)
    return found
