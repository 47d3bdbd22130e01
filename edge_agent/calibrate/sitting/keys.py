"""Keys: single key presses of the person at the terminal.

In: a terminal's descriptor. Out: one character, or nothing. Never: waits, leaves the terminal
changed, reads what is no terminal (a script's standard input is its own business).
"""

from __future__ import annotations

import os
import select
import termios
import tty
from contextlib import suppress
from types import TracebackType
from typing import Any

ENTER, QUIT = "\n", "q"


class Keys:
    """A context: inside it keys come one by one, without Enter and without an echo."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] | None = None
        self.present = fd >= 0 and os.isatty(fd)

    def __enter__(self) -> Keys:
        if self.present:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        if self._before is not None:
            with suppress(termios.error):  # the terminal may be gone
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def pressed(self) -> str:
        """The key, `ENTER` for Enter, or "" if none was pressed."""
        if not self.present or not select.select([self._fd], [], [], 0.0)[0]:
            return ""
        try:
            key = os.read(self._fd, 1)
        except OSError:
            key = b""
        if not key:  # the terminal has gone: SIGHUP tells
            self.present = False
        text = key.decode("ascii", "replace")
        return ENTER if text in "\r\n" and text else text.lower()
