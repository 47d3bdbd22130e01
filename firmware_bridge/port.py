"""Port: a serial device or a file as chunks of bytes, for the command line.

In: a path. Out: an open, raw, non-blocking descriptor. Never: reads byte by byte, decodes.
The gateway has its own ports (edge_agent.ports), which reopen and watch many at once.
"""

from __future__ import annotations

import os
import select

import serial

READ_BYTES = 1 << 16


class PortError(OSError):
    """The port can't be opened; the text says what to do."""


class Port:
    """One serial port; pyserial opens and configures it, the rest is `os.read`."""

    def __init__(self, path: str, baud: int) -> None:
        try:
            self._serial = serial.Serial(path, baud, timeout=0, exclusive=True)
        except (OSError, ValueError) as error:
            raise PortError(
                f"{path} can't be opened: {error}; is the board plugged in, are you in the group "
                "dialout, does another program hold it?"
            ) from None
        self._fd = self._serial.fileno()

    def read(self, timeout_seconds: float) -> bytes:
        """What has come, or nothing after the time. Raises `OSError` if the device is gone."""
        ready, _, _ = select.select([self._fd], [], [], timeout_seconds)
        if not ready:
            return b""
        chunk = os.read(self._fd, READ_BYTES)
        if not chunk:
            raise PortError(f"{self._serial.port} is gone: was the board unplugged?")
        return chunk

    def write(self, data: bytes) -> None:
        """Sends everything; requests are a few bytes, so it never waits."""
        os.write(self._fd, data)

    def close(self) -> None:
        """Lets the device go."""
        self._serial.close()
