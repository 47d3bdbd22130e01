"""Scrape: `GET /metrics` on this machine's own port, for a Prometheus that runs here.

In: connections on 127.0.0.1, on the service's selector. Out: the text that `text()` gives. Never:
listens on a network, waits for a visitor, keeps more than `MAX_VISITORS` of them or any for longer
than `MAX_SECONDS`, raises for what one of them sends.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress

from edge_agent.boards.ports import Ports
from edge_agent.health.prometheus import CONTENT_TYPE

LOOPBACK = "127.0.0.1"
PATH = b"/metrics"
MAX_VISITORS = 4
MAX_REQUEST_BYTES = 2048
MAX_SECONDS = 2.0
# What comes behind a request is read and thrown away, or closing would cut the answer off.
MAX_UNREAD_BYTES = 65_536


class _Visitor:
    """One connection: its request, then its answer."""

    def __init__(self, connection: socket.socket, since_s: float) -> None:
        self.connection, self.since_s = connection, since_s
        self.request = self.unsent = b""
        self.answered = False
        self.unread = 0


class Scrape:
    """Serves on `port`; all methods belong to the service's thread. `problem` is why it can't."""

    def __init__(self, port: int, ports: Ports, text: Callable[[], str]) -> None:
        self._ports, self._text = ports, text
        self._visitors: dict[int, _Visitor] = {}
        self.problem: str | None = None
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.setblocking(False)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._listener.bind((LOOPBACK, port))
            self._listener.listen(MAX_VISITORS)
        except OSError as error:
            self._listener.close()
            told = error.strerror or str(error)
            self.problem = f"health.prometheus_port: {LOOPBACK}:{port}: {told}: choose another"
        else:
            self._ports.watch(self._listener.fileno(), False, self._knocked)

    def tick(self, now_s: float) -> None:
        """Ten times a second or so: sees off who is too slow."""
        for visitor in list(self._visitors.values()):
            if now_s - visitor.since_s > MAX_SECONDS:
                self._see_off(visitor)

    def close(self) -> None:
        """Nobody is served any more."""
        for visitor in list(self._visitors.values()):
            self._see_off(visitor)
        if self._listener.fileno() >= 0:
            self._ports.unwatch(self._listener.fileno())
            self._listener.close()

    def _knocked(self, _mask: int) -> None:
        with suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            visitor = _Visitor(connection, time.monotonic())
            self._visitors[connection.fileno()] = visitor
            self._watch(visitor)
        if len(self._visitors) >= MAX_VISITORS:
            # The next ones wait in the kernel until somebody has left.
            self._ports.unwatch(self._listener.fileno())

    def _watch(self, visitor: _Visitor) -> None:
        def ready(mask: int) -> None:
            self._ready(visitor, mask)

        self._ports.watch(visitor.connection.fileno(), bool(visitor.unsent), ready)

    def _ready(self, visitor: _Visitor, mask: int) -> None:
        try:
            if mask & selectors.EVENT_READ:
                self._read(visitor)
            if visitor.unsent:
                visitor.unsent = visitor.unsent[visitor.connection.send(visitor.unsent) :]
                if not visitor.unsent:
                    visitor.connection.shutdown(socket.SHUT_WR)
                self._watch(visitor)
        except BlockingIOError:
            self._watch(visitor)
        except OSError:
            self._see_off(visitor)

    def _read(self, visitor: _Visitor) -> None:
        """Raises `OSError` when the other side has left, or should."""
        heard = visitor.connection.recv(MAX_REQUEST_BYTES)
        if visitor.answered:
            visitor.unread += len(heard)
        if not heard or visitor.unread > MAX_UNREAD_BYTES:
            raise ConnectionResetError
        if not visitor.answered:
            visitor.request += heard
            visitor.unsent = self._answer(visitor.request)
            visitor.answered = bool(visitor.unsent)

    def _answer(self, request: bytes) -> bytes:
        """Nothing until the request is whole."""
        head, end, _ = request.partition(b"\r\n\r\n")
        if len(request) > MAX_REQUEST_BYTES:
            return _response("431 Request Header Fields Too Large")
        if not end:
            return b""
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            return _response("400 Bad Request")
        if words[1].partition(b"?")[0] != PATH:
            return _response("404 Not Found")
        if words[0] != b"GET":
            return _response("405 Method Not Allowed", "Allow: GET\r\n")
        return _response("200 OK", body=self._text().encode())

    def _see_off(self, visitor: _Visitor) -> None:
        if self._visitors.pop(visitor.connection.fileno(), None) is None:
            return
        self._ports.unwatch(visitor.connection.fileno())
        visitor.connection.close()
        self._ports.watch(self._listener.fileno(), False, self._knocked)


def _response(status: str, more: str = "", body: bytes = b"") -> bytes:
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n"
        f"{more}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + body
