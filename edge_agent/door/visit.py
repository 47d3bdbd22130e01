"""Visit: asks the service that runs on this state folder.

In: the state folder, a request. Out: its answer, or a socket with a board's wire. Never: waits
longer than it was told to, takes an answer larger than `MAX_ANSWER_BYTES`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SOCKET_NAME = "agent.sock"
MAX_ANSWER_BYTES = 1 << 20
TIMEOUT_SECONDS = 5.0


class NoService(OSError):
    """Nobody answers there; the text says what to do."""


def ask(
    state_dir: Path, request: dict[str, Any], timeout_seconds: float = TIMEOUT_SECONDS
) -> dict[str, Any]:
    """One question, one answer. Raises `NoService`, `OSError`, and `ValueError` with the service's
    own sentence if it says no."""
    with _connected(state_dir, timeout_seconds) as door:
        return _asked(door, request)


def follow(state_dir: Path, board: str, timeout_seconds: float = TIMEOUT_SECONDS) -> socket.socket:
    """The wire of a board from now on, a recording that begins with IDENTIFY; the caller closes
    it. Raises as `ask`."""
    door = _connect(state_dir, timeout_seconds)
    try:
        _asked(door, {"do": "follow", "board": board})
    except BaseException:
        door.close()
        raise
    return door


@contextmanager
def address(state_dir: Path) -> Iterator[str]:
    """The socket's address: by way of a descriptor, as a path may have 107 characters only."""
    folder = os.open(state_dir, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{SOCKET_NAME}"
    finally:
        os.close(folder)


def _connect(state_dir: Path, timeout_seconds: float) -> socket.socket:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.settimeout(timeout_seconds)
    try:
        with address(state_dir) as name:
            door.connect(name)
    except PermissionError:
        door.close()
        raise NoService(f"{state_dir / SOCKET_NAME}: not allowed: use sudo") from None
    except (FileNotFoundError, ConnectionRefusedError):
        door.close()
        told = "no service runs there: systemctl status edge-agent, journalctl -u edge-agent"
        raise NoService(f"{state_dir}: {told}") from None
    except BlockingIOError:
        door.close()
        raise NoService("too many ask the service at once: try again") from None
    except OSError:
        door.close()
        raise
    return door


@contextmanager
def _connected(state_dir: Path, timeout_seconds: float) -> Iterator[socket.socket]:
    with _connect(state_dir, timeout_seconds) as door:
        yield door


def _asked(door: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
    door.sendall(json.dumps(request).encode() + b"\n")
    answer = json.loads(_line(door))
    if not isinstance(answer, dict) or not answer.pop("ok", False):
        raise ValueError(str(answer.get("error")) if isinstance(answer, dict) else "no answer")
    return answer


def _line(door: socket.socket) -> bytes:
    """Up to the end of the line and not a byte more: a wire may follow."""
    line = bytearray()
    while not line.endswith(b"\n"):
        try:
            peeked = door.recv(65_536, socket.MSG_PEEK)
        except TimeoutError:
            raise NoService("the service does not answer: is it stuck? systemctl status") from None
        if not peeked or len(line) > MAX_ANSWER_BYTES:
            raise NoService("the service has closed its door without a word")
        part, newline, _ = peeked.partition(b"\n")
        line += door.recv(len(part) + len(newline))
    return bytes(line)
