"""Recording: the wire as a file. IDENTIFY replies, then DATA frames exactly as they came.

In: chunks of a recording, or arrays that should become one. Out: samples, or bytes of the wire.
Never: opens a file, raises for damaged bytes (they are counted), bridges a gap.

The board's clock is the only clock of a recording: host seconds are board microseconds x 1e-6.
A file may end anywhere (the power went), and a second IDENTIFY begins another session in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.codec import Decoder, encode
from firmware_bridge.frames import MAX_JSON_CHUNK_BYTES, Data, DataFlag, Frame, Identify, Status
from firmware_bridge.link import Identified
from firmware_bridge.samples import INDEX_MODULUS, Assembler, Samples, assemblers_for
from firmware_bridge.schema import Schema, SchemaChunks, SchemaError, StreamSchema

PlaybackEvent: TypeAlias = Identified | Samples


def host_seconds(board_us: int) -> float:
    """The clock of a recording: board microseconds as seconds."""
    return board_us * 1e-6


class Playback:
    """A recording as events, from the same decoder and assemblers as a live board.

    `schema` is None and `problem` says why until a whole, valid IDENTIFY has come; DATA before
    that is counted in `unread_frames` and gives nothing. Memory: one frame and one schema.
    """

    def __init__(self) -> None:
        self.decoder = Decoder()
        self.schema: Schema | None = None
        self.assemblers: dict[int, Assembler] = {}
        self.unread_frames = 0
        self.problem: str | None = (
            "no IDENTIFY frame found: a recording begins with the board's own description; "
            "is this a recording?"
        )
        self._chunks = SchemaChunks()

    def feed(self, chunk: bytes) -> list[PlaybackEvent]:
        """What `chunk` of the recording completes."""
        events: list[PlaybackEvent] = []
        for frame in self.decoder.feed(chunk):
            event = self._take(frame)
            if event is not None:
                events.append(event)
        return events

    def _take(self, frame: Frame) -> PlaybackEvent | None:
        if isinstance(frame, Data):
            assembler = self.assemblers.get(frame.stream)
            if assembler is not None:
                return assembler.take(frame, host_seconds)
        elif isinstance(frame, Identify) and frame.status == Status.OK:
            return self._take_identify(frame)
        self.unread_frames += 1
        return None

    def _take_identify(self, reply: Identify) -> Identified | None:
        if reply.offset == 0:
            self._chunks = SchemaChunks()
        try:
            whole = self._chunks.add(reply.offset, reply.total, reply.schema_crc, reply.json)
        except SchemaError as error:
            self.problem = str(error)
            return None
        if whole is None:
            return None
        schema, document = whole
        self.problem = None
        self.assemblers = assemblers_for(schema, self.schema, self.assemblers)
        self.schema = schema
        return Identified(schema, document)


def identify_chunk(document: bytes, offset: int, seq: int) -> Identify:
    """The reply to IDENTIFY for `offset`; past the end its JSON is empty and status says so."""
    chunk = document[offset : offset + MAX_JSON_CHUNK_BYTES]
    status = Status.OK if chunk else Status.BAD_ARGUMENT
    return Identify(0, seq, status, offset, len(document), crc32(document), chunk)


def identify_frames(document: bytes) -> bytes:
    """The first bytes of a recording: the whole schema as IDENTIFY replies."""
    offsets = range(0, len(document), MAX_JSON_CHUNK_BYTES)
    return b"".join(encode(identify_chunk(document, at, seq)) for seq, at in enumerate(offsets))


def record(
    document: bytes,
    stream: StreamSchema,
    raw: NDArray[Any],
    start_us: int = 0,
    first_index: int = 0,
    gaps: Sequence[tuple[int, int]] = (),
    first_seq: int = 0,
    flags: int = 0,
) -> Iterator[bytes]:
    """The wire bytes of `raw` [n, channels], one DATA frame at a time; the last may be shorter.

    Row 0 has sample index `first_index` and time `start_us`; k samples later the time is
    start_us + round(k x 1e6 / rate). `gaps` are sorted (row, lost): `lost` samples are missing in
    front of that row, and the batch that begins there says so. Does not yield the IDENTIFY part.
    Raises `ValueError` if `raw` isn't of the stream's shape and format, or a gap is out of order.
    """
    if raw.ndim != 2 or raw.shape[1] != len(stream.channels) or raw.dtype != stream.format:
        raise ValueError(
            f"stream {stream.name} takes {stream.format}[n, {len(stream.channels)}], "
            f"got {raw.dtype.str}{list(raw.shape)}"
        )
    tag, lost_so_far, seq = crc32(document) & 0xFF, 0, first_seq
    edges = [row for row, _ in gaps]
    if edges != sorted(set(edges)) or any(not 0 <= row < len(raw) for row in edges):
        raise ValueError("gaps: expected rows of the array in rising order")
    losses = dict(gaps)
    for begin, end in zip([0, *edges], [*edges, len(raw)], strict=True):
        lost = losses.get(begin, 0) if end > begin else 0
        lost_so_far += lost
        for row in range(begin, end, stream.batch):
            block = raw[row : min(row + stream.batch, end)]
            elapsed = row + lost_so_far
            mark = DataFlag.GAP if lost and row == begin else 0
            yield encode(
                Data(
                    stream=stream.id,
                    seq=seq & 0xFFFF,
                    first_index=(first_index + elapsed) % INDEX_MODULUS,
                    t_us=start_us + round(elapsed * 1e6 / stream.rate_hz),
                    n=len(block),
                    schema=tag,
                    flags=flags | mark,
                    payload=np.ascontiguousarray(block).tobytes(),
                )
            )
            seq += 1
