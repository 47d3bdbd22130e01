"""Bad network: a TCP line between gateway and broker that fails the way real ones do.

In: the port of a broker on loopback, and what is wrong with the line from now on. Out: a port to
connect to instead. Never: changes a byte or the order of bytes, keeps more than 64 KiB a direction.

    good      all goes through                     cut       each connection is reset, at once
    swallow   accepted, but nothing comes through  trickle   one byte a second in each direction
    delay     everything comes 5 s late            refuse    nobody listens

What was swallowed stays so: a connection of that time is dead for ever, only nobody is told, as
after a router has forgotten it.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections import deque
from contextlib import suppress
from types import TracebackType
from typing import Literal, TypeAlias

Trouble: TypeAlias = Literal["good", "cut", "swallow", "trickle", "delay", "refuse"]
DELAY_SECONDS = 5.0
TRICKLE_SECONDS = 1.0
POLL_SECONDS = 0.01
# An end that is full is ready all the time.
REST_SECONDS = 0.001
LIMIT_BYTES = 65_536
READ_BYTES = 4096
CONNECT_SECONDS = 2.0
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time


class _Way:
    """One direction: bytes, and when they are due."""

    def __init__(self) -> None:
        self._held: deque[tuple[float, bytes]] = deque()
        self._held_bytes, self._due_s = 0, 0.0

    @property
    def full(self) -> bool:
        return self._held_bytes >= LIMIT_BYTES

    def put(self, data: bytes, due_s: float) -> None:
        self._held.append((due_s, data))
        self._held_bytes += len(data)

    def send(self, to: socket.socket, now_s: float, trickles: bool) -> None:
        """What is due, as far as there is room; raises `OSError` if the other end is gone."""
        while self._held and self._held[0][0] <= now_s and now_s >= self._due_s:
            due_s, data = self._held.popleft()
            try:
                sent = to.send(data[:1] if trickles else data)
            except BlockingIOError:
                sent = 0
            self._held_bytes -= sent
            if sent < len(data):
                self._held.appendleft((due_s, data[sent:]))
            if trickles:
                self._due_s = now_s + TRICKLE_SECONDS
            if not sent:
                return


class _Line:
    """One connection through the network; `dead` if it was swallowed."""

    def __init__(self, client: socket.socket, server: socket.socket | None) -> None:
        self.ends = tuple(end for end in (client, server) if end)
        self.ways = _Way(), _Way()
        self.dead = server is None
        for end in self.ends:
            end.setblocking(False)

    def step(self, trouble: Trouble, now_s: float) -> None:
        """Reads and sends what there is; raises `OSError` when an end is gone."""
        self.dead = self.dead or trouble == "swallow"
        for number, end in enumerate(self.ends):
            way = self.ways[number]
            if not way.full:
                with suppress(BlockingIOError):
                    data = end.recv(READ_BYTES)
                    if not data:
                        raise ConnectionResetError
                    if not self.dead:
                        way.put(data, now_s + DELAY_SECONDS if trouble == "delay" else now_s)
            if not self.dead:
                way.send(self.ends[1 - number], now_s, trouble == "trickle")

    def close(self, reset: bool) -> None:
        """Ends both sides, the rude way if wanted."""
        for end in self.ends:
            if reset:
                with suppress(OSError):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            end.close()


class BadNetwork:
    """`with BadNetwork(1883) as network:` connect to `network.port`, set `network.trouble`."""

    def __init__(self, target_port: int) -> None:
        self.trouble: Trouble = "good"
        self._target = ("127.0.0.1", target_port)
        self._listener: socket.socket | None = self._listen(0)
        self.port = int(self._listener.getsockname()[1])
        self._lines: list[_Line] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bad-network", daemon=True)

    def __enter__(self) -> BadNetwork:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        for line in self._lines:
            line.close(reset=True)
        if self._listener:
            self._listener.close()

    def _listen(self, port: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", port))
        listener.setblocking(False)
        return listener

    def _run(self) -> None:
        while not self._stop.is_set():
            trouble = self.trouble
            self._accept(trouble)
            if trouble in ("cut", "refuse"):
                self._drop()
            self._step(trouble)
            ends = [end for line in self._lines for end in line.ends]
            select.select(ends, [], [], POLL_SECONDS)
            time.sleep(REST_SECONDS)

    def _accept(self, trouble: Trouble) -> None:
        if trouble == "refuse":
            if self._listener:
                self._listener.close()
            self._listener = None
            return
        if self._listener is None:
            self._listener = self._listen(self.port)
        with suppress(BlockingIOError):
            client, _ = self._listener.accept()
            if trouble == "swallow":
                self._lines.append(_Line(client, None))
                return
            try:
                server = socket.create_connection(self._target, CONNECT_SECONDS)
            except OSError:
                client.close()
            else:
                self._lines.append(_Line(client, server))

    def _drop(self) -> None:
        while self._lines:
            self._lines.pop().close(reset=True)

    def _step(self, trouble: Trouble) -> None:
        now_s = time.monotonic()
        for line in list(self._lines):
            try:
                line.step(trouble, now_s)
            except OSError:
                self._lines.remove(line)
                line.close(reset=False)
