"""Board: the other end of the link, as a pure state machine. The firmware's behaviour in Python.

In: bytes from the host, the host's seconds. Out: bytes for the host.
Never: raises for what the host sends, speaks before START or 5 s after the last valid frame,
answers DATA or replies (a tty may echo them).

Times: `now_s` is the caller's clock. The board's own clock is microseconds since its last reset,
plus `clock_offset_us`, running `speed` x (1 + `clock_ppm`) times as fast as the caller's. At
`speed` 10 a recording takes a tenth of its time, and TIME replies, DATA times and the heartbeat's
5 s (always of the caller's clock) still fit together: the host sees a board whose crystal is ten
times too fast. At infinite speed the clock stands at the end of the last batch that was read, or
at the caller's clock if that is later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf
from struct import Struct
from typing import NamedTuple

from firmware_bridge.codec import Decoder, encode, encode_body
from firmware_bridge.frames import (
    HEAD,
    LAYOUTS,
    REPLY,
    Data,
    DataFlag,
    FrameType,
    Heartbeat,
    HeartbeatRequest,
    IdentifyRequest,
    RateSet,
    RegRead,
    RegReadRequest,
    Reply,
    Request,
    ResetReply,
    ResetRequest,
    SelfTest,
    SelfTestRequest,
    SetRateRequest,
    Started,
    StartRequest,
    Stats,
    StatsRequest,
    Status,
    Stopped,
    StopRequest,
    Time,
    TimeRequest,
    from_body,
)
from firmware_bridge.recording import identify_chunk
from firmware_bridge.schema import parse_schema, write_schema
from firmware_bridge.signals import at_rate
from firmware_bridge.sources import Batch, Source

HOST_SILENCE_SECONDS = 5.0
MAX_QUEUED_BATCHES = 32
MAX_QUEUED_REPLIES = 16
MAX_BATCH_WIRE_BYTES = 1030
REGISTERS = bytes([0xE5]) + bytes(63)  # an ADXL345 says E5 at address 0
SELF_TEST_LIMITS = Struct("<3h")

RESET_POWER_ON = 1
RESET_SOFTWARE = 2
RESET_BROWN_OUT = 3

_REPLY_BYTES = {int(layout.type): layout.fields.size for layout in LAYOUTS}


class _Queued(NamedTuple):
    stream: int
    batch: Batch
    start_us: int
    tag: int


class SimulatedBoard:
    """A board that streams `sources`. `document` must describe exactly their streams."""

    def __init__(
        self,
        document: bytes,
        sources: Sequence[Source],
        now_s: float = 0.0,
        clock_offset_us: int = 0,
        clock_ppm: float = 0.0,
        speed: float = 1.0,
        queue_batches: int = MAX_QUEUED_BATCHES,
    ) -> None:
        self._document = document
        self.schema = parse_schema(document)
        self._sources = {source.stream.id: source for source in sources}
        if {s.id for s in self.schema.streams} != set(self._sources):
            raise ValueError("the schema's streams and the sources are not the same")
        self._power_s = now_s
        self._clock_offset_us, self._clock_ppm, self._speed = clock_offset_us, clock_ppm, speed
        self._advanced_us = 0
        self._queue_batches = queue_batches
        self._restart(now_s, RESET_POWER_ON)

    def reset(self, now_s: float, cause: int = RESET_BROWN_OUT) -> None:
        """The board begins anew and is silent; the machine it is bolted to turns on."""
        self._restart(now_s, cause)

    @property
    def streaming(self) -> bool:
        """Whether any stream runs."""
        return bool(self._started_us)

    @property
    def finished(self) -> bool:
        """Whether every stream runs, has no more to come, and all of it was read."""
        ended = [self._sources[stream].ready_us() is None for stream in self._started_us]
        return len(ended) == len(self._sources) and all(ended) and not self._batches

    def clock_us(self, now_s: float) -> int:
        """The board's clock."""
        since_reset = self.machine_us(now_s) - self._reset_us
        return self._clock_offset_us + round(since_reset * (1.0 + self._clock_ppm * 1e-6))

    def machine_us(self, now_s: float) -> int:
        """Time since power-on as the machine knows it: the caller's clock, `speed` times as fast."""
        since_s = max(now_s - self._power_s, 0.0)
        if self._speed == inf:
            return max(int(since_s * 1e6), self._advanced_us)
        return int(since_s * self._speed * 1e6)

    def feed(self, chunk: bytes, now_s: float) -> None:
        """Takes in what the host sent."""
        for body in self._decoder.bodies(chunk):
            kind, stream, seq = HEAD.unpack_from(body)
            if kind & REPLY or kind == FrameType.DATA:
                continue
            self._host_s = now_s
            if len(self._replies) < MAX_QUEUED_REPLIES:
                self._replies.append(self._answer(body, now_s) or _refusal(kind, stream, seq))

    def poll(self, now_s: float, room_bytes: int = 1 << 16) -> bytes:
        """Whole frames for the host, at most `room_bytes`: replies first, then due batches."""
        if now_s - self._host_s > HOST_SILENCE_SECONDS:
            self._stop(set(self._started_us))
        out = bytearray()
        while self._replies and len(out) + MAX_BATCH_WIRE_BYTES <= room_bytes:
            out += self._sealed(self._replies.popleft(), now_s)
        if self._reset_pending and not self._replies:
            self._restart(now_s, RESET_SOFTWARE)
        if self._speed != inf:
            self._sample(self.clock_us(now_s))
        while len(out) + MAX_BATCH_WIRE_BYTES <= room_bytes:
            if self._speed == inf and not self._batches:
                self._sample_next()
            if not self._batches:
                break
            out += self._data(self._batches.popleft())
        return bytes(out)

    def _restart(self, now_s: float, cause: int) -> None:
        self._decoder = Decoder()
        self._reset_us = self.machine_us(now_s)
        self._reset_cause = cause
        self._reset_pending = False
        self._host_s = now_s
        self._started_us: dict[int, int] = {}
        self._replies: deque[Reply | bytes] = deque()
        self._batches: deque[_Queued] = deque()
        self._marks = dict.fromkeys(
            self._sources, 0 if cause == RESET_POWER_ON else int(DataFlag.CLOCK_RESTARTED)
        )
        self._seq_base = dict.fromkeys(self._sources, 0)
        self._fifo_overrun = self._tx_dropped = 0

    def _stop(self, streams: set[int]) -> None:
        for stream in streams:
            self._started_us.pop(stream, None)
        self._batches = deque(b for b in self._batches if b.stream not in streams)

    # -- samples ---------------------------------------------------------------------------

    def _sample(self, clock_us: int) -> None:
        """Queues what is complete by now, in the order in which it became so."""
        for stream, start_us in self._started_us.items():
            source = self._sources[stream]
            period_us = source.stream.batch * 1e6 / source.stream.rate_hz
            # Whoever was suspended for an hour need not make what the queue would drop anyway.
            late = source.skip(clock_us - start_us - round(2 * self._queue_batches * period_us))
            if late:
                self._fifo_overrun += late
                self._marks[stream] |= DataFlag.GAP
        while (due := self._next_due()) is not None and due[0] <= clock_us:
            self._queue(due[1])

    def _sample_next(self) -> None:
        due = self._next_due()
        if due is not None:
            self._queue(due[1])
            board_us = due[0] - self._clock_offset_us
            self._advanced_us = max(self._advanced_us, self._reset_us + board_us)

    def _next_due(self) -> tuple[int, int] | None:
        """(board time, stream) of the batch that is complete first."""
        ready = (
            (start_us + ready_us, stream)
            for stream, start_us in self._started_us.items()
            if (ready_us := self._sources[stream].ready_us()) is not None
        )
        return min(ready, default=None)

    def _queue(self, stream: int) -> None:
        if len(self._batches) >= self._queue_batches:
            dropped = self._batches.popleft()
            self._tx_dropped += 1
            self._mark_gap(dropped.stream)
        start_us, tag = self._started_us[stream], self.schema.tag
        self._batches.append(_Queued(stream, self._sources[stream].take(), start_us, tag))

    def _mark_gap(self, stream: int) -> None:
        """The gap belongs to the batch after the dropped one, which may be queued already."""
        for at, queued in enumerate(self._batches):
            if queued.stream == stream:
                flags = queued.batch.flags | DataFlag.GAP
                self._batches[at] = queued._replace(batch=queued.batch._replace(flags=flags))
                return
        self._marks[stream] |= DataFlag.GAP

    def _data(self, queued: _Queued) -> bytes:
        stream, batch = queued.stream, queued.batch
        mark, self._marks[stream] = self._marks[stream], 0
        return encode(
            Data(
                stream, batch.seq & 0xFFFF, batch.first_index, queued.start_us + batch.t_us,
                batch.n, queued.tag, batch.flags | mark, batch.payload,
            )
        )  # fmt: skip

    # -- commands --------------------------------------------------------------------------

    def _answer(self, body: bytes, now_s: float) -> Reply | None:
        """The reply; None if the type or the size of the request is not in the protocol."""
        try:
            request = from_body(body)
        except ValueError:
            return None
        answer = _ANSWERS[type(request)]
        return answer(self, request, now_s)

    def _sealed(self, reply: Reply | bytes, now_s: float) -> bytes:
        if isinstance(reply, bytes):
            return encode_body(reply)
        if isinstance(reply, Time):
            reply = reply._replace(t_tx_us=self.clock_us(now_s))
        return encode(reply)

    def _start(self, request: StartRequest, now_s: float) -> Started:
        streams = {stream for stream in self._sources if request.mask >> stream & 1}
        clock_us = self.clock_us(now_s)
        self._stop(streams)
        for stream in sorted(streams):
            self._sources[stream].restart(self.machine_us(now_s))
            self._started_us[stream] = clock_us
        status = Status.OK if streams else Status.BAD_ARGUMENT
        return Started(request.stream, request.seq, status, clock_us)

    def _stopped(self, request: StopRequest, now_s: float) -> Stopped:
        self._stop({stream for stream in self._sources if request.mask >> stream & 1})
        return Stopped(request.stream, request.seq, Status.OK, self.clock_us(now_s))

    def _set_rate(self, request: SetRateRequest, now_s: float) -> RateSet:
        refusal = RateSet(request.stream, request.seq, self._refuses(request.stream), 0, 0, 0)
        if refusal.status != Status.OK:
            return refusal
        old = self._sources[request.stream].stream
        asked_hz = request.rate_millihertz / 1000
        rate_hz = min(old.rates_hz or (old.rate_hz,), key=lambda rate: abs(rate - asked_hz))
        source = None
        if asked_hz and request.batch <= old.max_batch:
            source = self._sources[request.stream].at_rate(at_rate(old, rate_hz, request.batch))
        if source is None:
            return refusal._replace(status=Status.BAD_ARGUMENT)
        self._sources[request.stream] = source
        new = source.stream
        streams = tuple(self._sources[s.id].stream for s in self.schema.streams)
        said = self.schema
        self._document = write_schema(said.board, said.uid, said.firmware, streams)
        self.schema = parse_schema(self._document)
        return refusal._replace(
            rate_millihertz=round(new.rate_hz * 1000), batch=new.batch, schema_crc=self.schema.crc
        )

    def _refuses(self, stream: int) -> Status:
        """Why a command for one stopped stream can't be: it isn't there, or it runs."""
        if stream not in self._sources:
            return Status.BAD_ARGUMENT
        return Status.BUSY if stream in self._started_us else Status.OK

    def _self_test(self, request: SelfTestRequest, now_s: float) -> SelfTest:
        status = self._refuses(request.stream)
        if status != Status.OK:
            return SelfTest(request.stream, request.seq, status, 0, 0, b"")
        channels = len(self._sources[request.stream].stream.channels)
        limits = SELF_TEST_LIMITS.pack(300, 50, 540) * channels
        return SelfTest(request.stream, request.seq, 0, channels, (1 << channels) - 1, limits)

    def _stats(self, request: StatsRequest, now_s: float) -> Stats:
        seen = self._decoder.counters
        uptime_ms = (self.clock_us(now_s) - self._clock_offset_us) // 1000
        return Stats(
            request.stream, request.seq, Status.OK,
            rx_ok=seen.frames, bad_crc=seen.bad_crc, bad_cobs=seen.bad_cobs,
            oversize=seen.oversize, rx_overrun=0, fifo_overrun=self._fifo_overrun,
            tx_dropped=self._tx_dropped, reset_cause=self._reset_cause,
            uptime_ms=uptime_ms & 0xFFFFFFFF,
        )  # fmt: skip

    def _registers(self, request: RegReadRequest, now_s: float) -> RegRead:
        end = request.register + request.count
        if request.stream not in self._sources or not request.count or end > len(REGISTERS):
            return RegRead(request.stream, request.seq, Status.BAD_ARGUMENT, b"")
        return RegRead(request.stream, request.seq, 0, REGISTERS[request.register : end])

    def _reset(self, request: ResetRequest, now_s: float) -> ResetReply:
        # Mode 1, the bootloader, is a thing of silicon.
        self._reset_pending = self._reset_pending or request.mode == 0
        status = Status.BAD_ARGUMENT if request.mode else Status.OK
        return ResetReply(request.stream, request.seq, status)

    def _time(self, request: TimeRequest, now_s: float) -> Time:
        clock_us = self.clock_us(now_s)
        return Time(request.stream, request.seq, 0, request.token, clock_us, clock_us)

    def _heartbeat(self, request: HeartbeatRequest, now_s: float) -> Heartbeat:
        return Heartbeat(request.stream, request.seq, 0, self.clock_us(now_s))
