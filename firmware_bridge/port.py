"""Port: a serial device as a raw, non-blocking descriptor of our own. The only file that knows
pyserial.

In: a path and a baud rate. Out: an open device; `Port` reads it in chunks, for the command line.
Never: shares the device, reads byte by byte, decodes. The gateway has its own loop over many
devices, which reopens them (edge_agent.boards.ports).
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import termios
from contextlib import suppress

import serial

from firmware_bridge.devices import why_not

READ_BYTES = 1 << 16


class PortError(OSError):
    """The port can't be opened or is gone; the text says what to do. `is_busy`: somebody has it."""

    def __init__(self, text: str, number: int | None = None) -> None:
        super().__init__(text)
        self.is_busy = number in (errno.EAGAIN, errno.EBUSY)


class Device:
    """An open serial device. Raises `PortError`, with the cure, if it can't be opened."""

    def __init__(self, path: str, baud: int) -> None:
        self.path = path
        try:
            self._serial = serial.Serial(path, baud, timeout=0, exclusive=True)
        except OSError as error:  # pyserial's own error is one, but may have lost its number
            raise PortError(why_not(path, error), error.errno) from None
        except (ValueError, OverflowError):
            told = f"{path}: this device can't do {baud} baud: choose another rate"
            raise PortError(told) from None
        self.fd = self._serial.fileno()
        # `exclusive` is only flock, which a program that does not ask never notices.
        with suppress(OSError):
            fcntl.ioctl(self.fd, termios.TIOCEXCL)
        # FTDI adapters hold bytes back for 16 ms without this; ptys and CDC don't know it.
        with suppress(OSError, ValueError, NotImplementedError):
            self._serial.set_low_latency_mode(True)

    def set_baud(self, baud: int) -> None:
        """Another rate without closing, which could reset the board. Raises `PortError`."""
        try:
            self._serial.baudrate = baud
        except (OSError, ValueError, OverflowError):
            raise PortError(f"{self.path}: this device can't do {baud} baud") from None

    def close(self) -> None:
        """Closes at once: unsent bytes would hold a real UART open for up to 30 s."""
        with suppress(OSError, termios.error):
            termios.tcflush(self.fd, termios.TCIOFLUSH)
        with suppress(OSError):
            self._serial.close()


class Port:
    """One device for one reader who waits."""

    def __init__(self, path: str, baud: int) -> None:
        self._device = Device(path, baud)

    def set_baud(self, baud: int) -> None:
        """Another rate without closing. Raises `PortError`."""
        self._device.set_baud(baud)

    def read(self, timeout_seconds: float) -> bytes:
        """What has come, or nothing after the time. Raises `OSError` if the device is gone."""
        ready, _, _ = select.select([self._device.fd], [], [], timeout_seconds)
        if not ready:
            return b""
        chunk = os.read(self._device.fd, READ_BYTES)
        if not chunk:
            raise PortError(f"{self._device.path} is gone: was the board unplugged?")
        return chunk

    def write(self, data: bytes) -> None:
        """Sends everything; requests are a few bytes, so it never waits."""
        os.write(self._device.fd, data)

    def close(self) -> None:
        """Lets the device go."""
        self._device.close()
