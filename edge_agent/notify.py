"""Notify: tells systemd that the service is ready, alive, and what it is doing.

In: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` from the environment. Out: datagrams.
Never: raises when nobody listens, waits for a systemd that does not read (but for `READY_SECONDS`
with what would be missed), pings by itself: the service says that all its threads move.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping

READY_SECONDS = 1.0


class Notify:
    """Does nothing outside systemd."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for an abstract socket, whose name begins with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = None
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self.interval_seconds = _watchdog_seconds(environment) / 2
        self._due_s = 0.0
        self._status = ""

    @property
    def watched(self) -> bool:
        """Whether somebody restarts us when the pings end."""
        return self.interval_seconds > 0

    def ready(self) -> None:
        """The loop runs."""
        self._send("READY=1", READY_SECONDS)

    def reloading(self) -> None:
        """The configuration is read anew; `ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The loop has been asked to end."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows; sent when it changes."""
        if text != self._status and self._send(f"STATUS={text}"):
            self._status = text

    def alive(self, now_s: float) -> None:
        """All that must move has moved; pings the watchdog twice in its time."""
        if self.interval_seconds and now_s >= self._due_s and self._send("WATCHDOG=1"):
            self._due_s = now_s + self.interval_seconds

    def stuck(self) -> None:
        """Something will not move again: the watchdog need not wait."""
        self._send("WATCHDOG=trigger")

    def close(self) -> None:
        """Nothing is sent any more."""
        if self._socket:
            self._socket.close()
            self._socket = None

    def _send(self, text: str, seconds: float = 0.0) -> bool:
        """Whether systemd has it."""
        if self._socket is None:
            return False
        try:
            self._socket.settimeout(seconds)
            self._socket.sendto(text.encode(), self._address)
        except OSError:
            # systemd itself is restarting; its watchdog decides whether that was too long.
            return False
        return True


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    mine = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    microseconds = environment.get("WATCHDOG_USEC", "")
    return int(microseconds) / 1e6 if mine and microseconds.isdigit() else 0.0
