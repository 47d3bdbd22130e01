"""Ports: all serial ports of the gateway on one selector.

In: which ports, and time. Out: bytes as they come, and when a port opened or went away.
Never: interprets a byte, waits for one port while another has data, keeps a dead port open (an
open descriptor makes a replugged ttyACM0 come back as ttyACM1).
"""

from __future__ import annotations

import os
import random
import selectors
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple, TypeAlias

from edge_agent.config import BoardSettings
from firmware_bridge.port import READ_BYTES, Device, PortError

FIRST_WAIT_SECONDS = 0.25
MAX_WAIT_SECONDS = 10.0
JITTER = 0.2
# Requests are tens of bytes: when so many don't go out, nobody reads them.
MAX_UNSENT_BYTES = 4096


class Opened(NamedTuple):
    """The port is open; the board may have been reset by that."""


class Closed(NamedTuple):
    """The port is gone or could not be opened; `waiting` says that it is the same as before."""

    reason: str
    waiting: bool = False


PortEvent: TypeAlias = bytes | Opened | Closed
Ready: TypeAlias = Callable[[int], None]


class _Port:
    """One port: closed and waiting for its next try, or open."""

    def __init__(self, name: str, settings: BoardSettings) -> None:
        self.name = name
        self.path = str(settings.port)
        self.baud = settings.baud
        self.device: Device | None = None
        self.fd = -1
        self.unsent = b""
        self.wait_seconds = FIRST_WAIT_SECONDS
        self.retry_s = 0.0
        self.lost = False
        self.node: tuple[int, int, float] | None = None
        self.trouble = ""

    def open(self) -> None:
        """Opens raw, for us alone. Raises `PortError`."""
        self.node = _node(self.path)
        self.device, self.unsent = Device(self.path, self.baud), b""
        self.fd = self.device.fd

    def close(self) -> None:
        """Closes at once."""
        if self.device is not None:
            self.device.close()
        self.device, self.fd, self.unsent = None, -1, b""

    def put_off(self, now_s: float) -> None:
        """The next try comes later than the one before, up to `MAX_WAIT_SECONDS`."""
        self.retry_s = now_s + self.wait_seconds * random.uniform(1.0 - JITTER, 1.0 + JITTER)
        self.wait_seconds = min(2.0 * self.wait_seconds, MAX_WAIT_SECONDS)


class Ports:
    """The ports by board name. Other descriptors may be watched on the same selector."""

    def __init__(self, boards: Mapping[str, BoardSettings]) -> None:
        self._ports = {name: _Port(name, settings) for name, settings in boards.items()}
        self._selector = selectors.DefaultSelector()
        self._pending: list[tuple[str, PortEvent]] = []

    def poll(self, timeout_seconds: float) -> list[tuple[str, PortEvent]]:
        """What happened, waiting at most `timeout_seconds` for something to happen."""
        events, self._pending = self._pending, []
        wait = 0.0 if events or timeout_seconds < 0.0 else timeout_seconds
        for key, mask in self._selector.select(wait):
            port = key.data
            if type(port) is not _Port:
                port(mask)
                continue
            if mask & selectors.EVENT_READ:
                try:
                    chunk = os.read(port.fd, READ_BYTES)
                except BlockingIOError:
                    continue
                except OSError as error:
                    events.append((port.name, self._lose(port, error.strerror or "read failed")))
                    continue
                if chunk:
                    events.append((port.name, chunk))
                else:
                    events.append((port.name, self._lose(port, "the device is gone")))
                    continue
            if mask & selectors.EVENT_WRITE:
                self._flush(port)
        return events

    def tick(self, now_s: float) -> None:
        """Opens what is due; ten times a second is often enough. `poll` tells what came of it."""
        for port in self._ports.values():
            if port.lost:
                port.lost = False
                port.put_off(now_s)
            if port.device is None and (now_s >= port.retry_s or self._reappeared(port)):
                self._pending.append((port.name, self._open(port, now_s)))

    def write(self, name: str, data: bytes) -> None:
        """Sends without waiting; what doesn't fit now follows when it does."""
        port = self._ports[name]
        if port.device is None:
            return
        port.unsent += data
        self._flush(port)

    def close(self, name: str, now_s: float, again_soon: bool = False) -> None:
        """Closes one port, to be opened again after its wait; `again_soon` says that it was open
        for so long that no longer wait is needed."""
        port = self._ports[name]
        if port.device is not None:
            self._release(port)
            if again_soon:
                port.wait_seconds = FIRST_WAIT_SECONDS
            port.put_off(now_s)

    def settled(self, name: str) -> None:
        """The board streams: after the next loss it is tried again soon."""
        self._ports[name].wait_seconds = FIRST_WAIT_SECONDS
        self._ports[name].trouble = ""

    def watch(self, fd: int, writing: bool, ready: Ready) -> None:
        """Calls `ready(mask)` from `poll` when `fd` has bytes, or room if `writing`."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if writing else 0)
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, ready)
        else:
            self._selector.register(fd, events, ready)

    def unwatch(self, fd: int) -> None:
        """Forgets `fd`; it must still be open."""
        with suppress(KeyError):
            self._selector.unregister(fd)

    def shut(self) -> None:
        """Closes everything, for good."""
        for port in self._ports.values():
            if port.device is not None:
                self._release(port)
        self._selector.close()

    def _open(self, port: _Port, now_s: float) -> PortEvent:
        try:
            port.open()
        except PortError as error:
            port.put_off(now_s)
            reason = str(error)
            waiting, port.trouble = reason == port.trouble, reason
            return Closed(reason, waiting)
        self._selector.register(port.fd, selectors.EVENT_READ, port)
        return Opened()

    def _reappeared(self, port: _Port) -> bool:
        """The device node is another one than at the last try, or udev has just changed it."""
        node = _node(port.path)
        if node is None or node == port.node:
            port.node = node
            return False
        port.wait_seconds = FIRST_WAIT_SECONDS
        return True

    def _lose(self, port: _Port, reason: str) -> Closed:
        self._release(port)
        port.lost = True
        return Closed(f"{port.path}: {reason}")

    def _release(self, port: _Port) -> None:
        with suppress(KeyError):
            self._selector.unregister(port.fd)
        port.close()

    def _flush(self, port: _Port) -> None:
        try:
            port.unsent = port.unsent[os.write(port.fd, port.unsent) :]
        except BlockingIOError:
            pass
        except OSError as error:
            # Not during `poll`'s round: the caller hears of it in the next one.
            self._pending.append((port.name, self._lose(port, error.strerror or "write failed")))
            return
        if len(port.unsent) > MAX_UNSENT_BYTES:
            self._pending.append((port.name, self._lose(port, "the board takes no bytes")))
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if port.unsent else 0)
        if self._selector.get_key(port.fd).events != events:
            self._selector.modify(port.fd, events, port)


def _node(path: str) -> tuple[int, int, float] | None:
    """What tells one device node from the next at the same path; follows symlinks."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_rdev, status.st_ctime
