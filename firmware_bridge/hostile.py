"""Hostile: a wire that loses, flips, doubles, cuts and delays, by the same dice every time.

In: chunks and the caller's seconds. Out: what arrives of them, and when. Never: reorders bytes,
makes a byte out of nothing, keeps anything longer than the delay.
"""

from __future__ import annotations

from collections import deque

import numpy as np

MAX_SPLIT_BYTES = 64


class HostileWire:
    """One direction of a bad cable.

    `lose` and `flip` are probabilities a byte (gone; one of its bits turned), `duplicate` is a
    probability a chunk, `split` cuts chunks into 1 to 64 bytes, `delay_s` holds every chunk for
    half to all of that time, first in, first out.
    """

    def __init__(
        self,
        lose: float = 0.0,
        flip: float = 0.0,
        split: bool = False,
        delay_s: float = 0.0,
        duplicate: float = 0.0,
        seed: int = 1,
    ) -> None:
        self._lose, self._flip, self._split = lose, flip, split
        self._delay_s, self._duplicate = delay_s, duplicate
        self._random = np.random.default_rng([seed, 4])
        self._held: deque[tuple[float, bytes]] = deque()
        self.lost_bytes = self.flipped_bytes = self.doubled_chunks = 0

    @property
    def held_bytes(self) -> int:
        """Bytes that are still on their way."""
        return sum(len(chunk) for _, chunk in self._held)

    def feed(self, chunk: bytes, now_s: float) -> None:
        """Sends a chunk into the wire."""
        if not chunk:
            return
        due_s = now_s + self._delay_s * self._random.uniform(0.5, 1.0) if self._delay_s else now_s
        if self._held:
            due_s = max(due_s, self._held[-1][0])
        copies = 1 + int(self._duplicate > 0 and self._random.random() < self._duplicate)
        self.doubled_chunks += copies - 1
        for _ in range(copies):
            self._held.extend((due_s, piece) for piece in self._cut(self._damage(chunk)))

    def poll(self, now_s: float) -> list[bytes]:
        """What has arrived by now, in order."""
        arrived: list[bytes] = []
        while self._held and self._held[0][0] <= now_s:
            arrived.append(self._held.popleft()[1])
        return arrived

    def _damage(self, chunk: bytes) -> bytes:
        if not self._lose and not self._flip:
            return chunk
        data = np.frombuffer(chunk, np.uint8).copy()
        hit = self._random.random(len(data)) < self._flip
        bits = self._random.integers(0, 8, len(data))
        data[hit] ^= (1 << bits[hit]).astype(np.uint8)
        kept = self._random.random(len(data)) >= self._lose
        self.flipped_bytes += int(hit.sum())
        self.lost_bytes += int(len(data) - kept.sum())
        return data[kept].tobytes()

    def _cut(self, chunk: bytes) -> list[bytes]:
        if not self._split:
            return [chunk] if chunk else []
        pieces: list[bytes] = []
        while chunk:
            size = int(self._random.integers(1, MAX_SPLIT_BYTES + 1))
            pieces.append(chunk[:size])
            chunk = chunk[size:]
        return pieces
