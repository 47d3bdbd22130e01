"""A broker that does what a test wants: other brokers as they are met in the field.

It reads CONNECT by itself and answers as it is told to; what comes later is read and forgotten.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

LEVEL_AT = 8  # of a CONNECT shorter than 128 bytes: type, length, "MQTT" with its length
ACCEPTED = {4: bytes.fromhex("20 02 00 00"), 5: bytes.fromhex("20 03 00 00 00")}
# What a broker of 3.1.1 says to 5, in its own words and in those of 5.
REFUSED_OLD, REFUSED_NEW = bytes.fromhex("20 02 00 01"), bytes.fromhex("20 03 00 84 00")


class ScriptedBroker(threading.Thread):
    """`answer(level)` gives the bytes to send to a CONNECT of that protocol level, and None to
    close without a word; the connection is also closed after a refusal. `levels` are those seen."""

    def __init__(self, answer: Callable[[int], bytes | None], after: bytes = b"") -> None:
        super().__init__(daemon=True)
        self.levels: list[int] = []
        self.port = 0
        self._answer, self._after = answer, after
        self._open: list[socket.socket] = []

    def __enter__(self) -> ScriptedBroker:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self.drop()
        self.join()

    def drop(self) -> None:
        """Cuts all connections."""
        while self._open:
            connection = self._open.pop()
            with suppress(OSError):  # the other end was faster
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def run(self) -> None:
        """Takes one connection after the other."""
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        head = connection.recv(4096)
        if len(head) <= LEVEL_AT:
            connection.close()
            return
        self.levels.append(head[LEVEL_AT])
        answer = self._answer(head[LEVEL_AT])
        if answer is None:
            connection.close()
            return
        refused = answer in (REFUSED_OLD, REFUSED_NEW)
        if not refused:
            # Before the answer: who has it may ask for a cut at once.
            self._open.append(connection)
        connection.sendall(answer + self._after)
        if refused:
            connection.close()
