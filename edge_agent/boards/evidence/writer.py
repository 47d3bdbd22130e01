"""Writer: the thread that alone touches the folder of evidence.

In: orders of the service. Out: files, some time later; `problem` if not.
Never: lets the service wait (a card can take a third of a second for one commit, and a serial
line's buffer does not hold that long), holds more than `MAX_WAITING_BYTES` of the wire and
`MAX_WAITING_NOTES` facts. It may wait itself, so every file is synced before it gets its name.

Recordings that can't be written are lost, and their cases say what was known. Facts wait: what an
operator said is tried again every few seconds.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from edge_agent.boards.evidence.shelf import Shelf
from edge_agent.progress import Progress, known_as

MAX_WAITING_BYTES = 8 << 20
MAX_WAITING_NOTES = 200
RETRY_SECONDS = 5.0
CLOSE_SECONDS = 5.0


class Order(NamedTuple):
    """A piece of a recording: with a `head` the first one, with `over` the last one."""

    name: str
    chunks: list[bytes]
    over: bool
    head: bytes = b""


class Writer:
    """The service's side of it; all methods belong to one thread."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes
        self._shelf: Shelf | None = None
        self._changed = threading.Condition()
        self._orders: deque[Order] = deque()
        self._notes: dict[str, dict[str, Any]] = {}
        self._waiting_bytes = self._written = 0
        self._failed = self._closing = self._nudged = False
        self.progress = Progress()
        self._problem: str | None = None
        self._thread = threading.Thread(target=self._write_forever, name="evidence", daemon=True)
        self._thread.start()

    @property
    def problem(self) -> str | None:
        """What is wrong with the folder now."""
        if not (self._closing or self._thread.is_alive()):
            return "evidence: the writer has died: this is a bug"
        return self._problem

    def record(self, order: Order) -> None:
        """Has a piece of a recording written. While the disk is too slow, recordings end and
        none begins."""
        size_bytes = _size_bytes(order)
        with self._changed:
            if self._waiting_bytes + size_bytes > MAX_WAITING_BYTES:
                self._problem = f"evidence: {self._folder}: the disk is too slow"
                if order.head:
                    return
                order, size_bytes = order._replace(chunks=[], over=True), 0
            self._waiting_bytes += size_bytes
            self._orders.append(order)
            self._changed.notify_all()

    def note(self, name: str, facts: dict[str, Any]) -> None:
        """Has facts added to the case `name`."""
        with self._changed:
            self._add(name, facts)
            self._changed.notify_all()

    def nudge(self) -> None:
        """Asks for a sign of life."""
        with self._changed:
            self._nudged = True
            self.progress.asked()
            self._changed.notify_all()

    def close(self) -> None:
        """Writes what is left; gives up on a disk that does not answer."""
        with self._changed:
            self._closing, self._failed = True, False
            self._changed.notify_all()
        self._thread.join(CLOSE_SECONDS)

    def _add(self, name: str, facts: dict[str, Any]) -> None:
        """The lock is held."""
        if name not in self._notes and len(self._notes) >= MAX_WAITING_NOTES:
            unjudged = (key for key, known in self._notes.items() if "verdict" not in known)
            del self._notes[next(unjudged, next(iter(self._notes)))]
        self._notes[name] = {**self._notes.get(name, {}), **facts}

    def _write_forever(self) -> None:
        known_as(self._thread.name)
        self._failed = not self._open()
        while True:
            with self._changed:
                self.progress.answered()
                again = self._failed and (self._notes or not self._shelf)
                self._changed.wait_for(self._due, RETRY_SECONDS if again else None)
                if self._closing and not self._orders and (self._failed or not self._notes):
                    break
                self._nudged = False
                self.progress.took()
                orders, notes = [*self._orders], dict(self._notes)
                self._orders.clear()
            opened = self._shelf is not None or self._open()
            self._written = 0
            done = [opened, *(opened and self._try(self._obey, order) for order in orders)]
            with self._changed:
                notes = {**notes, **self._notes}
            done += [opened and self._try(self._save, *item) for item in notes.items()]
            with self._changed:
                self._waiting_bytes -= sum(map(_size_bytes, orders))
                self._failed = not all(done)
                if self._written and not self._failed:
                    self._problem = None
        if self._shelf:
            self._try(self._shelf.close)

    def _due(self) -> bool:
        owed = self._orders or (self._notes and not self._failed)
        return self._closing or self._nudged or bool(owed)

    def _open(self) -> bool:
        return self._try(self._open_shelf)

    def _open_shelf(self) -> None:
        self._shelf = Shelf(self._folder, self._limit_bytes)
        self._problem = None

    def _try(self, work: Callable[..., None], *arguments: Any) -> bool:
        try:
            work(*arguments)
        except OSError as error:
            self._problem = f"evidence: {self._folder}: {error.strerror or error}"
            return False
        return True

    def _obey(self, order: Order) -> None:
        shelf = self._shelf
        assert shelf is not None
        if order.head:
            shelf.begin(order.name, order.head)
        seen_bytes = shelf.append(order.name, b"".join(order.chunks))
        self._written += seen_bytes
        if order.head:
            with self._changed:
                self._add(order.name, {"seen_bytes": seen_bytes})
        if order.over:
            shelf.finish(order.name)

    def _save(self, name: str, facts: dict[str, Any]) -> None:
        assert self._shelf is not None
        self._shelf.note(name, facts)
        self._written += 1
        with self._changed:
            # What was added meanwhile is written next time.
            if self._notes.get(name) is facts:
                del self._notes[name]


def _size_bytes(order: Order) -> int:
    return len(order.head) + sum(map(len, order.chunks))
