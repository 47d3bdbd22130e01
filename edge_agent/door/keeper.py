"""Keeper: the service's side of the door.

In: visitors on the service's own selector, what boards send. Out: answers, wires. Never: blocks,
lets a visitor hold more than `MAX_UNSENT_BYTES` or stay silent for longer than `MAX_WAIT_SECONDS`,
ends for what one of them sends.

The socket is also what tells a second service on the same state folder that it is one too many.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_agent.boards.evidence import Tail
from edge_agent.boards.ports import Ports
from edge_agent.door.visit import SOCKET_NAME, address
from firmware_bridge.codec import DELIMITER

MAX_VISITORS = 8
MAX_REQUEST_BYTES = 4096
# A wire is 20 to 80 kB a second: who is so far behind has gone.
MAX_UNSENT_BYTES = 1 << 20
MAX_WAIT_SECONDS = 5.0
READ_ONLY_OWNER = 0o177
TAKEN = "another agent runs on this state folder: stop it first"

Reply = dict[str, Any] | Future[dict[str, Any]]
Answer = Callable[[dict[str, Any]], Reply]


class Visitor:
    """One connection: a request, an answer, and then a wire or the end."""

    def __init__(self, connection: socket.socket, since_s: float) -> None:
        self.connection = connection
        self.since_s = since_s
        self.request = b""
        self.unsent = bytearray()
        self.tail: Tail | None = None
        self.awaited: Future[dict[str, Any]] | None = None
        self._within_frame = True

    def begin(self, head: bytes) -> None:
        """The board has said who it is; what comes next may begin within a frame."""
        self.unsent += DELIMITER + head
        self._within_frame = True

    def take(self, chunk: bytes) -> None:
        """A chunk of the board's wire."""
        if self._within_frame:
            _, delimiter, chunk = chunk.partition(DELIMITER)
            self._within_frame = not delimiter
        self.unsent += chunk


class Keeper:
    """Keeps the door; all methods belong to the service's thread. `answer` is given each request
    but `follow`; what it raises as `ValueError` or `OSError` is the visitor's answer, and for a
    `Future` the visitor waits.

    Raises `OSError` if another service runs on this folder; whatever else is in the way is in
    `problem`, and nobody can come in.
    """

    def __init__(
        self, folder: Path, ports: Ports, tails: Mapping[str, Tail], answer: Answer
    ) -> None:
        self._ports, self._tails, self._answer = ports, tails, answer
        self._visitors: dict[int, Visitor] = {}
        self.problem: str | None = None
        self._path = folder / SOCKET_NAME
        self._door = self._open(folder)

    def tick(self, now_s: float) -> None:
        """Ten times a second or so: sends what boards have said, and sees off who says nothing."""
        for visitor in list(self._visitors.values()):
            if visitor.awaited is not None and visitor.awaited.done():
                self._reply(visitor, visitor.awaited.result)
            waits = visitor.tail is not None or visitor.awaited is not None
            silent = not waits and now_s - visitor.since_s > MAX_WAIT_SECONDS
            if silent or len(visitor.unsent) > MAX_UNSENT_BYTES:
                self._see_off(visitor)
            elif visitor.unsent:
                self._send(visitor)

    def close(self) -> None:
        """Nobody can come in any more."""
        for visitor in list(self._visitors.values()):
            self._see_off(visitor)
        if self._door is not None:
            self._ports.unwatch(self._door.fileno())
            self._door.close()
            self._path.unlink(missing_ok=True)
            self._door = None

    def _open(self, folder: Path) -> socket.socket | None:
        door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        door.setblocking(False)
        try:
            with address(folder) as name:
                if _answers(name):
                    raise FileExistsError(None, TAKEN, str(folder))
                self._path.unlink(missing_ok=True)
                mask = os.umask(READ_ONLY_OWNER)
                try:
                    door.bind(name)
                finally:
                    os.umask(mask)
            door.listen(MAX_VISITORS)
        except FileExistsError as error:
            door.close()
            raise OSError(f"{error.filename}: {error.strerror}") from None
        except OSError as error:
            door.close()
            self.problem = (
                f"{self._path}: {error.strerror or error}: status and calibrate can't ask"
            )
            return None
        self._ports.watch(door.fileno(), False, self._knocked)
        return door

    def _knocked(self, _mask: int) -> None:
        assert self._door is not None
        with suppress(OSError):
            connection, _ = self._door.accept()
            if len(self._visitors) >= MAX_VISITORS:
                connection.close()
                return
            connection.setblocking(False)
            visitor = Visitor(connection, time.monotonic())
            self._visitors[connection.fileno()] = visitor
            self._watch(visitor)

    def _ready(self, visitor: Visitor, mask: int) -> None:
        if mask & selectors.EVENT_READ:
            try:
                heard = visitor.connection.recv(MAX_REQUEST_BYTES)
            except OSError:
                heard = b""
            if not heard:
                self._see_off(visitor)
                return
            if visitor.tail is None and visitor.awaited is None and not visitor.unsent:
                self._hear(visitor, heard)
        self._send(visitor)

    def _hear(self, visitor: Visitor, heard: bytes) -> None:
        visitor.request += heard
        line, newline, _ = visitor.request.partition(b"\n")
        if newline or len(visitor.request) > MAX_REQUEST_BYTES:
            self._reply(visitor, lambda: self._do(visitor, _request(line)))

    def _reply(self, visitor: Visitor, do: Callable[[], Reply]) -> None:
        """What came of it, or a visitor that waits for that."""
        visitor.awaited, visitor.since_s = None, time.monotonic()
        try:
            reply = do()
            if isinstance(reply, Future):
                visitor.awaited = reply
                return
            answer = {"ok": True, **reply}
        except (ValueError, OSError) as error:
            answer = {"ok": False, "error": str(error)}
        visitor.unsent[:0] = json.dumps(answer).encode() + b"\n"

    def _do(self, visitor: Visitor, request: dict[str, Any]) -> Reply:
        if request.get("do") != "follow":
            return self._answer(request)
        board = request.get("board")
        tail = self._tails.get(board) if isinstance(board, str) else None
        if tail is None:
            raise ValueError(f"saw board {board!r}; there are {', '.join(self._tails)}")
        visitor.tail = tail
        if tail.live:
            visitor.begin(tail.head)
        tail.listeners.append(visitor)
        return {}

    def _send(self, visitor: Visitor) -> None:
        try:
            sent = visitor.connection.send(visitor.unsent) if visitor.unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._see_off(visitor)
            return
        del visitor.unsent[:sent]
        answered = sent and not visitor.unsent and visitor.tail is None
        if answered:
            self._see_off(visitor)
        else:
            self._watch(visitor)

    def _watch(self, visitor: Visitor) -> None:
        def ready(mask: int) -> None:
            self._ready(visitor, mask)

        self._ports.watch(visitor.connection.fileno(), bool(visitor.unsent), ready)

    def _see_off(self, visitor: Visitor) -> None:
        if self._visitors.pop(visitor.connection.fileno(), None) is None:
            return
        if visitor.tail:
            visitor.tail.listeners.remove(visitor)
        self._ports.unwatch(visitor.connection.fileno())
        visitor.connection.close()


def check_alone(folder: Path) -> None:
    """Raises `OSError` if another service runs on this folder, before anything in it is touched."""
    with suppress(FileNotFoundError), address(folder) as name:
        if _answers(name):
            raise OSError(f"{folder}: {TAKEN}")


def _answers(name: str) -> bool:
    """Whether somebody is behind the door already, and not only what a killed one has left."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return probe.connect_ex(name) == 0


def _request(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        raise ValueError('expected one line of JSON such as {"do": "status"}')
    return request
