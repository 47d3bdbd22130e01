"""Sampler: which batches of a simulated board are complete, and which still wait to be sent.

In: the board's clock. Out: DATA frames, oldest first. Never: holds more than `queue_batches`;
when the host doesn't read, the oldest batch goes and the next one of its stream says GAP.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from zlib import crc32

from firmware_bridge.codec import encode
from firmware_bridge.frames import Data, DataFlag
from firmware_bridge.recording import identify_frames
from firmware_bridge.sources import Batch, Source


class _Queued(NamedTuple):
    stream: int
    batch: Batch
    start_us: int


class Sampler:
    """The running streams of one board. `first_flag` is on the first batch of every stream."""

    def __init__(self, sources: dict[int, Source], queue_batches: int, first_flag: int) -> None:
        self.sources = sources
        self.started_us: dict[int, int] = {}
        self.fifo_overrun = self.tx_dropped = 0
        self._room = queue_batches
        self._batches: deque[_Queued] = deque()
        self._marks = dict.fromkeys(sources, first_flag)

    @property
    def waiting(self) -> int:
        """Batches in the queue."""
        return len(self._batches)

    def start(self, streams: Iterable[int], clock_us: int, machine_us: int) -> None:
        """Index 0 of these streams is now."""
        for stream in streams:
            self.sources[stream].restart(machine_us)
            self.started_us[stream] = clock_us

    def stop(self, streams: Iterable[int]) -> None:
        """These streams stand still, and nothing of them is left to send."""
        for stream in streams:
            self.started_us.pop(stream, None)
        self._batches = deque(b for b in self._batches if b.stream in self.started_us)

    def sample(self, clock_us: int) -> None:
        """Queues what is complete by now, in the order in which it became so."""
        for stream, start_us in self.started_us.items():
            source = self.sources[stream]
            period_us = source.stream.batch * 1e6 / source.stream.rate_hz
            # Whoever was suspended for an hour need not make what the queue would drop anyway.
            late = source.skip(clock_us - start_us - round(2 * self._room * period_us))
            if late:
                self.fifo_overrun += late
                self._marks[stream] |= DataFlag.GAP
        while (due := self._next_due()) is not None and due[0] <= clock_us:
            self._queue(due[1])

    def sample_next(self) -> int | None:
        """Queues the next batch whatever the time is; gives the board time of its end."""
        due = self._next_due()
        if due is None:
            return None
        self._queue(due[1])
        return due[0]

    def next_data(self, tag: int) -> Data:
        """Takes the oldest batch out of the queue."""
        stream, batch, start_us = self._batches.popleft()
        mark, self._marks[stream] = self._marks[stream], 0
        return Data(
            stream, batch.seq & 0xFFFF, batch.first_index, start_us + batch.t_us,
            batch.n, tag, batch.flags | mark, batch.payload,
        )  # fmt: skip

    def _next_due(self) -> tuple[int, int] | None:
        """(board time, stream) of the batch that is complete first."""
        ready = (
            (start_us + ready_us, stream)
            for stream, start_us in self.started_us.items()
            if (ready_us := self.sources[stream].ready_us()) is not None
        )
        return min(ready, default=None)

    def _queue(self, stream: int) -> None:
        if len(self._batches) >= self._room:
            dropped = self._batches.popleft()
            self.tx_dropped += 1
            self._mark_gap(dropped.stream)
        batch = self.sources[stream].take()
        self._batches.append(_Queued(stream, batch, self.started_us[stream]))

    def _mark_gap(self, stream: int) -> None:
        """The gap is before the batch after the dropped one, which may be queued already."""
        for at, queued in enumerate(self._batches):
            if queued.stream == stream:
                flags = queued.batch.flags | DataFlag.GAP
                self._batches[at] = queued._replace(batch=queued.batch._replace(flags=flags))
                return
        self._marks[stream] |= DataFlag.GAP


def sampled(document: bytes, sources: Sequence[Source], seconds: float) -> Iterator[bytes]:
    """A recording of the first `seconds` of the sources, all streams in order of time."""
    yield identify_frames(document)
    sampler = Sampler({source.stream.id: source for source in sources}, 1, 0)
    sampler.start(sampler.sources, 0, 0)
    tag = crc32(document) & 0xFF
    while (end_us := sampler.sample_next()) is not None and end_us <= seconds * 1e6:
        yield encode(sampler.next_data(tag))
