"""Tail: the last seconds of one board's wire, in memory.

In: the board's description, chunks as they came, host seconds. Out: those chunks, oldest first, and
what comes after them for each follower.
Never: copies or reads the wire, keeps more than its limits, mixes two sessions of the board.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from firmware_bridge.recording import identify_frames

LIMIT_BYTES = 256 * 1024
LIMIT_SECONDS = 30.0
# What Python needs for a chunk beside its bytes; it counts, or tiny chunks would cost megabytes.
CHUNK_COST_BYTES = 144
# Each hand-over wakes the writer; a follower holds this much of the wire at most.
HAND_OVER_SECONDS = 1.0


class Handed(NamedTuple):
    """What came for one follower since the last time; `over` says that it was all."""

    name: str
    chunks: list[bytes]
    over: bool


class Listener(Protocol):
    """Who hears the wire as it comes: `begin` with how a recording of a session begins, `take`
    with each chunk. It must not wait."""

    def begin(self, head: bytes) -> None: ...

    def take(self, chunk: bytes) -> None: ...


@dataclass(slots=True)
class _Follower:
    name: str
    until_s: float
    due_s: float
    chunks: list[bytes] = field(default_factory=list)
    over: bool = False


class Tail:
    """One board's. Call `begin` at each IDENTIFY, `take` for each chunk, `end` when the session
    is over. `head` is how a recording of this session begins; empty before the first.
    `listeners` may be changed at any time."""

    def __init__(
        self, limit_bytes: int = LIMIT_BYTES, limit_seconds: float = LIMIT_SECONDS
    ) -> None:
        self.head = b""
        self._limit_bytes, self._limit_seconds = limit_bytes, limit_seconds
        self._chunks: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._live = False
        self._followers: list[_Follower] = []
        self.listeners: list[Listener] = []

    @property
    def live(self) -> bool:
        """Whether what comes can be understood: the board has said who it is."""
        return self._live

    def begin(self, document: bytes) -> None:
        """The board said who it is: what came before belongs to another session."""
        self.end()
        self.head = identify_frames(document)
        self._chunks.clear()
        self._bytes = 0
        self._live = True
        for listener in self.listeners:
            listener.begin(self.head)

    def take(self, chunk: bytes, now_s: float) -> None:
        """A chunk came. On the hot path: two appends, and what is too old goes."""
        if not self._live:
            return
        chunks = self._chunks
        chunks.append((now_s, chunk))
        self._bytes += len(chunk) + CHUNK_COST_BYTES
        since_s = now_s - self._limit_seconds
        while chunks and (self._bytes > self._limit_bytes or chunks[0][0] < since_s):
            self._bytes -= len(chunks.popleft()[1]) + CHUNK_COST_BYTES
        for follower in self._followers:
            follower.chunks.append(chunk)
        for listener in self.listeners:
            listener.take(chunk)

    def end(self) -> None:
        """The board is gone or begins anew: followers get no more. What came stays for a while."""
        self._live = False
        for follower in self._followers:
            follower.over = True

    def last(self, now_s: float) -> list[bytes]:
        """What came in the last seconds, oldest first; may begin and end within a frame."""
        since_s = now_s - self._limit_seconds
        return [chunk for came_s, chunk in self._chunks if came_s >= since_s]

    def follow(self, name: str, now_s: float, until_s: float) -> None:
        """From now on `handed` has what comes for `name`, up to `until_s`."""
        self._followers.append(_Follower(name, until_s, now_s + HAND_OVER_SECONDS))

    def handed(self, now_s: float) -> list[Handed]:
        """What is due to be taken away."""
        found = []
        for follower in self._followers:
            follower.over = follower.over or now_s >= follower.until_s
            if follower.over or now_s >= follower.due_s:
                found.append(Handed(follower.name, follower.chunks, follower.over))
                follower.chunks, follower.due_s = [], now_s + HAND_OVER_SECONDS
        if found:
            self._followers = [follower for follower in self._followers if not follower.over]
        return found
