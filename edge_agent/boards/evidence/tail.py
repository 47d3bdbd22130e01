"""Tail: the last seconds of one board's wire, in memory.

In: the board's description, chunks as they came, host seconds. Out: the bytes of the last seconds,
and what comes after them for each follower.
Never: reads the wire, keeps more than its limits, mixes two sessions of the board. Its memory is
allocated once: thousands of chunks of all sizes, kept for half a minute, would tear holes into it.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from firmware_bridge.recording import identify_frames

LIMIT_BYTES = 256 * 1024
LIMIT_SECONDS = 30.0
# When bytes came is known to this; each of them would cost more than its bytes.
MARK_SECONDS = 0.1
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
        self._limit_seconds = limit_seconds
        self._ring = bytearray(limit_bytes)
        self._total = 0  # bytes of this session; the ring holds the last of them
        self._marks: deque[tuple[float, int]] = deque()  # when, and how many had come before
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
        self._marks.clear()
        self._total = 0
        self._live = True
        for listener in self.listeners:
            listener.begin(self.head)

    def take(self, chunk: bytes, now_s: float) -> None:
        """A chunk came. On the hot path: a copy, and now and then a mark."""
        if not self._live:
            return
        marks = self._marks
        if not marks or now_s - marks[-1][0] >= MARK_SECONDS:
            marks.append((now_s, self._total))
            while marks[0][0] < now_s - self._limit_seconds:
                marks.popleft()
        self._keep(chunk)
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
        """What came in the last seconds; may begin and end within a frame."""
        since_s = now_s - self._limit_seconds
        begin = next((before for came_s, before in self._marks if came_s >= since_s), self._total)
        kept = min(self._total - begin, len(self._ring))
        at = (self._total - kept) % len(self._ring)
        first = bytes(self._ring[at : at + kept])
        rest = bytes(self._ring[: kept - len(first)])
        return [part for part in (first, rest) if part]

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

    def _keep(self, chunk: bytes) -> None:
        ring, room = self._ring, len(self._ring)
        self._total += len(chunk)
        chunk = chunk[-room:]
        at = (self._total - len(chunk)) % room
        first = chunk[: room - at]
        ring[at : at + len(first)] = first
        rest = chunk[len(first) :]
        ring[: len(rest)] = rest
