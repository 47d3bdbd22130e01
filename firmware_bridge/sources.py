"""Sources: where a simulated board's batches come from, a machine or a recording.

In: when the stream was started. Out: batches with the time at which each is complete.
Never: looks at a clock, makes a batch that nobody asked for.

All times are microseconds of the board's clock after START.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil
from typing import NamedTuple, Protocol

import numpy as np

from firmware_bridge.codec import Decoder
from firmware_bridge.frames import Data, DataFlag
from firmware_bridge.link import Identified
from firmware_bridge.recording import Playback
from firmware_bridge.samples import INDEX_MODULUS
from firmware_bridge.schema import Schema, StreamSchema
from firmware_bridge.signals import Machine, digitise, raw_limit


class Batch(NamedTuple):
    """What becomes a DATA frame: `seq`, `first_index` and `t_us` count from START."""

    seq: int
    first_index: int
    t_us: int
    n: int
    flags: int
    payload: bytes


class Source(Protocol):
    """One stream of a simulated board."""

    @property
    def stream(self) -> StreamSchema:
        """What the board says about it."""
        ...

    def restart(self, machine_us: int) -> None:
        """START: index 0 comes next. `machine_us` is the time since power-on, for a machine
        that has a life of its own."""
        ...

    def ready_us(self) -> int | None:
        """When the next batch is complete; None if there will be none."""
        ...

    def take(self) -> Batch:
        """The next batch. Only after `ready_us` gave a time."""
        ...

    def skip(self, until_us: int) -> int:
        """Leaves out whole batches that are complete by then, unmade; gives how many."""
        ...

    def at_rate(self, stream: StreamSchema) -> Source | None:
        """The same source as `stream` asks, or None if it can't be had."""
        ...


class MachineSource:
    """A synthetic machine through a sensor. Faults are on the machine's time, since power-on."""

    def __init__(self, stream: StreamSchema, machine: Machine) -> None:
        self.stream = stream
        self.machine = machine
        self._limit = raw_limit(stream)
        self.restart(0)

    def restart(self, machine_us: int) -> None:
        """Index 0 is the first sample of the machine's grid that is not over yet."""
        self._origin = ceil(machine_us * self.stream.rate_hz / 1e6)
        self._made = 0

    def ready_us(self) -> int:
        """When the last sample of the next batch has been taken."""
        return self._time_us(self._made + 1)

    def take(self) -> Batch:
        """The next batch, digitised."""
        stream, index = self.stream, self._made * self.stream.batch
        raw = digitise(self.machine.values(self._origin + index, stream.batch), stream)
        clipped = bool(np.any(np.abs(raw) >= self._limit))
        flags = DataFlag.EMULATED | (DataFlag.CLIPPED if clipped else 0)
        seq, t_us = self._made, self._time_us(self._made)
        self._made += 1
        return Batch(seq, index % INDEX_MODULUS, t_us, stream.batch, flags, raw.tobytes())

    def skip(self, until_us: int) -> int:
        """Leaves out the batches before `until_us`."""
        whole = int(until_us * self.stream.rate_hz / 1e6 / self.stream.batch)
        skipped = max(whole - self._made, 0)
        self._made += skipped
        return skipped

    def at_rate(self, stream: StreamSchema) -> MachineSource:
        """The same machine sampled as `stream` says."""
        return MachineSource(stream, self.machine.at_rate(stream.rate_hz))

    def _time_us(self, batches: int) -> int:
        return round(batches * self.stream.batch * 1e6 / self.stream.rate_hz)


class RecordingSource:
    """One stream of a recording: the payloads bit for bit, index, seq and time with the spacing
    they had, moved so that the first batch is at 0. Holds all the stream's frames in memory."""

    def __init__(self, stream: StreamSchema, frames: list[Data], start_us: int, repeat: bool):
        self.stream = stream
        self._batches = _rebased(frames, start_us, stream.rate_hz)
        self._repeat = repeat
        self.restart(0)

    def restart(self, machine_us: int) -> None:
        """The recording begins again at its beginning."""
        self._at = 0
        self._seq = self._index = self._lap_us = 0

    def ready_us(self) -> int | None:
        """When the last sample of the next batch was taken."""
        if self._at >= len(self._batches):
            return None
        batch = self._batches[self._at]
        return self._lap_us + batch.t_us + round(batch.n * 1e6 / self.stream.rate_hz)

    def take(self) -> Batch:
        """The next batch; after a repeat the first one is marked as a gap."""
        batch = self._batches[self._at]
        seam = DataFlag.GAP if self._at == 0 and self._lap_us else 0
        moved = batch._replace(
            seq=(batch.seq + self._seq) & 0xFFFF,
            first_index=(batch.first_index + self._index) % INDEX_MODULUS,
            t_us=batch.t_us + self._lap_us,
            flags=batch.flags | seam,
        )
        self._at += 1
        if self._repeat and self._at == len(self._batches):
            self._lap_us = moved.t_us + round(moved.n * 1e6 / self.stream.rate_hz)
            self._seq, self._index = moved.seq + 1, moved.first_index + moved.n
            self._at = 0
        return moved

    def skip(self, until_us: int) -> int:
        """Leaves out the batches that are complete by `until_us`."""
        skipped = 0
        while (ready_us := self.ready_us()) is not None and ready_us <= until_us:
            self.take()
            skipped += 1
        return skipped

    def at_rate(self, stream: StreamSchema) -> None:
        """A recording has the rate it has."""
        return


def recording_sources(
    chunks: Iterable[bytes], repeat: bool = False
) -> tuple[bytes, list[RecordingSource]]:
    """The first schema of a recording, and one source for each of its streams.

    Raises `ValueError` if it has no schema or no data.
    """
    decoder, header = Decoder(), Playback()
    identified: Identified | None = None
    frames: dict[int, list[Data]] = {}
    for chunk in chunks:
        if identified is None:
            seen = (event for event in header.feed(chunk) if isinstance(event, Identified))
            identified = next(seen, None)
        _collect(decoder, chunk, frames)
    if identified is None:
        raise ValueError(header.problem)
    schema, document = identified
    kept = {s.id: _of_schema(frames.get(s.id, []), schema, s) for s in schema.streams}
    if not any(kept.values()):
        raise ValueError("the recording has a schema but no whole batch of data")
    start_us = min(data[0].t_us for data in kept.values() if data)
    sources = [RecordingSource(s, kept[s.id], start_us, repeat) for s in schema.streams]
    return document, sources


def _collect(decoder: Decoder, chunk: bytes, frames: dict[int, list[Data]]) -> None:
    for frame in decoder.feed(chunk):
        if isinstance(frame, Data):
            frames.setdefault(frame.stream, []).append(frame)


def _of_schema(frames: list[Data], schema: Schema, stream: StreamSchema) -> list[Data]:
    return [
        frame
        for frame in frames
        if frame.schema == schema.tag
        and frame.n > 0
        and frame.n * stream.sample_bytes == len(frame.payload)
    ]


def _rebased(frames: list[Data], start_us: int, rate_hz: float) -> list[Batch]:
    """Counts from the first frame on; a clock that fell back goes on where it had been."""
    batches: list[Batch] = []
    shift_us, last_us, end_us = start_us, start_us, 0
    for frame in frames:
        flags = frame.flags | DataFlag.EMULATED
        if frame.t_us < last_us:
            shift_us = frame.t_us - end_us
            flags |= DataFlag.CLOCK_RESTARTED
        last_us, t_us = frame.t_us, frame.t_us - shift_us
        end_us = t_us + round(frame.n * 1e6 / rate_hz)
        first = frames[0]
        seq = (frame.seq - first.seq) & 0xFFFF
        index = (frame.first_index - first.first_index) % INDEX_MODULUS
        batches.append(Batch(seq, index, t_us, frame.n, flags, frame.payload))
    return batches
