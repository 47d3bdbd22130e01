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
from math import inf
from struct import Struct
from typing import Any

from firmware_bridge.codec import Decoder, encode, encode_body
from firmware_bridge.frames import (
    HEAD,
    LAYOUTS,
    REPLY,
    DataFlag,
    FrameType,
    Heartbeat,
    HeartbeatRequest,
    Identify,
    IdentifyRequest,
    RateSet,
    RegRead,
    RegReadRequest,
    Reply,
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
from firmware_bridge.sampler import Sampler
from firmware_bridge.schema import parse_schema, write_schema
from firmware_bridge.signals import at_rate
from firmware_bridge.sources import Source

HOST_SILENCE_SECONDS = 5.0
MAX_QUEUED_BATCHES = 32
MAX_QUEUED_REPLIES = 16
MAX_BATCH_WIRE_BYTES = 1030
REGISTERS = bytes([0xE5]) + bytes(63)  # an ADXL345 says E5 at address 0
SELF_TEST_LIMITS = Struct("<3h")

RESET_POWER_ON = 1
RESET_SOFTWARE = 2
RESET_BROWN_OUT = 3

_REPLY_BYTES = {int(layout.code): layout.fields.size for layout in LAYOUTS}


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
        self._flashed = document, {source.stream.id: source for source in sources}
        if {s.id for s in parse_schema(document).streams} != set(self._flashed[1]):
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
        return bool(self._sampler.started_us)

    @property
    def finished(self) -> bool:
        """Whether every stream runs, has no more to come, and all of it was read."""
        ended = [self._sources[k].ready_us() is None for k in self._sampler.started_us]
        return len(ended) == len(self._sources) and all(ended) and not self._sampler.waiting

    def clock_us(self, now_s: float) -> int:
        """The board's clock."""
        since_reset = self.machine_us(now_s) - self._reset_us
        return self._clock_offset_us + round(since_reset * (1.0 + self._clock_ppm * 1e-6))

    def machine_us(self, now_s: float) -> int:
        """Time since power-on for the machine: the caller's clock, `speed` times as fast."""
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
            self._sampler.stop(list(self._sampler.started_us))
        out = bytearray()
        while self._replies and len(out) + MAX_BATCH_WIRE_BYTES <= room_bytes:
            out += self._sealed(self._replies.popleft(), now_s)
        if self._reset_pending and not self._replies:
            self._restart(now_s, RESET_SOFTWARE)
        if self._speed != inf:
            self._sampler.sample(self.clock_us(now_s))
        while len(out) + MAX_BATCH_WIRE_BYTES <= room_bytes:
            if self._speed == inf and not self._sampler.waiting:
                self._advance()
            if not self._sampler.waiting:
                break
            out += encode(self._sampler.next_data(self.schema.tag))
        return bytes(out)

    def _advance(self) -> None:
        """At infinite speed the time is what has been read."""
        end_us = self._sampler.sample_next()
        if end_us is not None:
            since_reset_us = end_us - self._clock_offset_us
            self._advanced_us = max(self._advanced_us, self._reset_us + since_reset_us)

    def _restart(self, now_s: float, cause: int) -> None:
        # A rate that was set is gone after a reset, as it is in a real board's RAM.
        self._document, self._sources = self._flashed[0], dict(self._flashed[1])
        self.schema = parse_schema(self._document)
        self._decoder = Decoder()
        self._reset_us = self.machine_us(now_s)
        self._reset_cause = cause
        self._reset_pending = False
        self._host_s = now_s
        self._replies: deque[Reply | bytes] = deque()
        first_flag = 0 if cause == RESET_POWER_ON else DataFlag.CLOCK_RESTARTED
        self._sampler = Sampler(self._sources, self._queue_batches, first_flag)

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

    def _identify(self, request: IdentifyRequest, now_s: float) -> Identify:
        chunk = identify_chunk(self._document, request.offset, request.seq)
        return chunk._replace(stream=request.stream)

    def _start(self, request: StartRequest, now_s: float) -> Started:
        streams = {stream for stream in self._sources if request.mask >> stream & 1}
        clock_us = self.clock_us(now_s)
        self._sampler.stop(streams)
        self._sampler.start(sorted(streams), clock_us, self.machine_us(now_s))
        status = Status.OK if streams else Status.BAD_ARGUMENT
        return Started(request.stream, request.seq, status, clock_us)

    def _stopped(self, request: StopRequest, now_s: float) -> Stopped:
        self._sampler.stop([stream for stream in self._sources if request.mask >> stream & 1])
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
        return Status.BUSY if stream in self._sampler.started_us else Status.OK

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
            oversize=seen.oversize, rx_overrun=0, fifo_overrun=self._sampler.fifo_overrun,
            tx_dropped=self._sampler.tx_dropped, reset_cause=self._reset_cause,
            uptime_ms=uptime_ms & 0xFFFFFFFF,
        )  # fmt: skip

    def _registers(self, request: RegReadRequest, now_s: float) -> RegRead:
        end, status = request.register + request.size, self._refuses(request.stream)
        if status == Status.OK and (not request.size or end > len(REGISTERS)):
            status = Status.BAD_ARGUMENT
        values = REGISTERS[request.register : end] if status == Status.OK else b""
        return RegRead(request.stream, request.seq, status, values)

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


def _refusal(kind: int, stream: int, seq: int) -> bytes:
    """A reply in its full length with zeros for all but the status: an unknown type, or a known
    one whose request has the wrong size."""
    known = kind | REPLY in _REPLY_BYTES
    status = Status.BAD_ARGUMENT if known else Status.UNKNOWN
    rest = bytes(_REPLY_BYTES.get(kind | REPLY, 4) - 1)
    return HEAD.pack(kind | REPLY, stream, seq) + bytes([status]) + rest


_ANSWERS: dict[type, Callable[[SimulatedBoard, Any, float], Reply]] = {
    IdentifyRequest: SimulatedBoard._identify,
    StartRequest: SimulatedBoard._start,
    StopRequest: SimulatedBoard._stopped,
    SetRateRequest: SimulatedBoard._set_rate,
    TimeRequest: SimulatedBoard._time,
    SelfTestRequest: SimulatedBoard._self_test,
    StatsRequest: SimulatedBoard._stats,
    RegReadRequest: SimulatedBoard._registers,
    ResetRequest: SimulatedBoard._reset,
    HeartbeatRequest: SimulatedBoard._heartbeat,
}
