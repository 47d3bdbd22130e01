"""Link: the session with one board, as a pure state machine.

In: bytes from the port, ticks, and the host's monotonic seconds. Out: events, and bytes to send.
Never: owns a port, reads a clock, blocks. Whoever holds the port calls `opened`, then `feed` and
`tick`, sends what `outgoing` returns, and closes the port when the state becomes STALE.

    CLOSED -> IDENTIFYING -> SYNCING -> STREAMING -> STALE
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple, TypeAlias

from firmware_bridge.clock import BoardClock
from firmware_bridge.codec import DELIMITER, Decoder, encode
from firmware_bridge.frames import (
    Data,
    Frame,
    Identify,
    IdentifyRequest,
    Request,
    Started,
    StartRequest,
    Stats,
    StatsRequest,
    Status,
    Stopped,
    StopRequest,
    Time,
    TimeRequest,
)
from firmware_bridge.samples import Assembler, Samples, assemblers_for
from firmware_bridge.schema import Schema, SchemaChunks, SchemaError

RETRY_SECONDS = 0.25
TRIES = 4
SYNC_PINGS = 8
# Not 1 s, so that pings don't fall in step with anything else (Klipper's clocksync does the same).
PING_SECONDS = 0.9839
STATS_SECONDS = 30.0
STALE_BATCHES = 5
MIN_STALE_SECONDS = 1.0


class State(Enum):
    """Where the session is."""

    CLOSED = "closed"
    IDENTIFYING = "identifying"
    SYNCING = "syncing"
    STREAMING = "streaming"
    STALE = "stale"


class StateChanged(NamedTuple):
    """The session moved; `reason` is for people."""

    state: State
    reason: str


class Identified(NamedTuple):
    """The board said who it is; `document` is its JSON as it was sent."""

    schema: Schema
    document: bytes


Event: TypeAlias = StateChanged | Identified | Samples
Answer: TypeAlias = Identify | Time | Started | Stopped | Stats


class _Pending(NamedTuple):
    request: Request
    sent_s: float
    tries: int


class Link:
    """One board's session. `expected_uid` refuses any other board on the same port."""

    def __init__(self, expected_uid: str | None = None) -> None:
        self.expected_uid = expected_uid
        self.state = State.CLOSED
        self.schema: Schema | None = None
        self.clock = BoardClock()
        self.decoder = Decoder()
        self.assemblers: dict[int, Assembler] = {}
        self.board_stats: Stats | None = None
        self.unexpected_frames = 0
        self._reset_session()

    @property
    def waiting(self) -> bool:
        """Whether an answer is due whose time of arrival matters."""
        return self._pending is not None

    def opened(self, now_s: float) -> list[Event]:
        """The port is open, which may have reset the board: everything starts over."""
        counters = self.decoder.counters
        self.decoder = Decoder(sync=True)
        self.decoder.counters = counters
        self.clock = BoardClock()
        self._reset_session()
        # The first delimiter ends whatever line noise the board has collected.
        self._out += DELIMITER
        self._data_s = now_s
        self._ask(IdentifyRequest(0, self._seq(), 0), now_s)
        return [self._enter(State.IDENTIFYING, "port open")]

    def closed(self, reason: str) -> list[Event]:
        """The port is gone."""
        if self.state is State.CLOSED:
            return []
        self._reset_session()
        return [self._enter(State.CLOSED, reason)]

    def feed(self, chunk: bytes, now_s: float) -> list[Event]:
        """Takes bytes in; gives what they meant."""
        events: list[Event] = []
        for frame in self.decoder.feed(chunk):
            if type(frame) is Data:
                self._take_data(frame, now_s, events)
            else:
                self._take_reply(frame, now_s, events)
        return events

    def tick(self, now_s: float) -> list[Event]:
        """Retries, pings and the watchdog; call it ten times a second or so."""
        if self.state in (State.CLOSED, State.STALE):
            return []
        if self._pending and now_s - self._pending.sent_s >= RETRY_SECONDS:
            if self._pending.tries >= TRIES:
                return [self._enter(State.STALE, f"no reply to {_name(self._pending.request)}")]
            self._ask(self._pending.request, now_s, self._pending.tries + 1)
        if self.state is State.STREAMING:
            if now_s - self._data_s > self._stale_seconds:
                return [self._enter(State.STALE, f"no data for {self._stale_seconds:.1f} s")]
            self._ask_regularly(now_s)
        return []

    def outgoing(self) -> bytes:
        """Bytes to send since the last call."""
        out = bytes(self._out)
        self._out.clear()
        return out

    def stop(self, now_s: float) -> None:
        """Asks the board to be silent; for a clean end of the session."""
        if self.state is State.STREAMING:
            self._ask(StopRequest(0, self._seq(), 0xFFFFFFFF), now_s)

    def _reset_session(self) -> None:
        self._out = bytearray()
        self._pending: _Pending | None = None
        self._chunks = SchemaChunks()
        self._next_seq = 1
        self._pings = 0
        self._ping_s = self._stats_s = self._data_s = 0.0
        self._stale_seconds = MIN_STALE_SECONDS

    def _enter(self, state: State, reason: str) -> StateChanged:
        self.state = state
        if state is State.STALE:
            self._pending = None
        return StateChanged(state, reason)

    def _seq(self) -> int:
        seq, self._next_seq = self._next_seq, (self._next_seq + 1) & 0xFFFF
        return seq

    def _ask(self, request: Request, now_s: float, tries: int = 1) -> None:
        if isinstance(request, TimeRequest):
            # A repeated TIME carries a new stamp, or its round trip would be a lie.
            request = request._replace(token=int(now_s * 1e6))
        self._out += encode(request)
        self._pending = _Pending(request, now_s, tries)

    def _ask_regularly(self, now_s: float) -> None:
        if self._pending:
            return
        if now_s - self._ping_s >= PING_SECONDS:
            self._ping_s = now_s
            self._ask(TimeRequest(0, self._seq(), 0), now_s)
        elif now_s - self._stats_s >= STATS_SECONDS:
            self._stats_s = now_s
            self._ask(StatsRequest(0, self._seq()), now_s)

    def _take_data(self, data: Data, now_s: float, events: list[Event]) -> None:
        if self.state is not State.STREAMING:
            return  # the end of an earlier session
        assembler = self.assemblers.get(data.stream)
        if assembler is None:
            self.unexpected_frames += 1
            return
        samples = assembler.take(data, self.clock.host_s)
        if samples is not None:
            self._data_s = now_s
            events.append(samples)

    def _take_reply(self, reply: Frame, now_s: float, events: list[Event]) -> None:
        pending = self._pending
        if not pending or not isinstance(reply, Answer) or not _answers(reply, pending.request):
            self.unexpected_frames += 1
            return
        self._pending = None
        if reply.status != Status.OK:
            reason = f"{_name(pending.request)}: status {reply.status}"
            events.append(self._enter(State.STALE, reason))
        elif isinstance(reply, Identify):
            self._take_identify(reply, now_s, events)
        elif isinstance(reply, Time):
            self._take_time(reply, pending.sent_s, now_s)
        elif isinstance(reply, Started):
            self._take_started(now_s, events)
        elif isinstance(reply, Stats):
            self.board_stats = reply

    def _take_identify(self, reply: Identify, now_s: float, events: list[Event]) -> None:
        chunks = self._chunks
        try:
            if not reply.json:
                raise SchemaError("IDENTIFY chunks do not join: one of them is empty")
            whole = chunks.add(reply.offset, reply.total, reply.schema_crc, reply.json)
        except SchemaError as error:
            events.append(self._enter(State.STALE, str(error)))
            return
        if whole is None:
            self._ask(IdentifyRequest(0, self._seq(), chunks.received), now_s)
        else:
            self._accept(Identified(*whole), now_s, events)

    def _accept(self, identified: Identified, now_s: float, events: list[Event]) -> None:
        schema = identified.schema
        if self.expected_uid and schema.uid != self.expected_uid:
            reason = f"board {schema.uid} answers, {self.expected_uid} is configured for this port"
            events.append(self._enter(State.STALE, reason))
            return
        self.assemblers = assemblers_for(schema, self.schema, self.assemblers)
        self.schema = schema
        batch_seconds = max(s.batch / s.rate_hz for s in schema.streams)
        self._stale_seconds = max(MIN_STALE_SECONDS, STALE_BATCHES * batch_seconds)
        events.append(identified)
        events.append(self._enter(State.SYNCING, f"{schema.board} {schema.uid}"))
        self._ask(TimeRequest(0, self._seq(), 0), now_s)

    def _take_time(self, reply: Time, sent_s: float, now_s: float) -> None:
        self.clock.exchange(sent_s, reply.t_rx_us, reply.t_tx_us, now_s)
        if self.state is not State.SYNCING:
            return
        self._pings += 1
        if self._pings < SYNC_PINGS:
            self._ask(TimeRequest(0, self._seq(), 0), now_s)
        else:
            self._ask(StartRequest(0, self._seq(), 0xFFFFFFFF), now_s)

    def _take_started(self, now_s: float, events: list[Event]) -> None:
        for assembler in self.assemblers.values():
            assembler.expect_start()
        self._data_s = self._ping_s = self._stats_s = now_s
        events.append(self._enter(State.STREAMING, "started"))


def _name(request: Request) -> str:
    return type(request).__name__.removesuffix("Request").upper()


def _answers(reply: Answer, request: Request) -> bool:
    if type(reply) is not _ANSWER[type(request)] or reply.seq != request.seq:
        return False
    if isinstance(reply, Time) and isinstance(request, TimeRequest):
        # The late reply to an earlier try would make the round trip a lie.
        return reply.token == request.token
    return True


_ANSWER: dict[type, type] = {
    IdentifyRequest: Identify,
    TimeRequest: Time,
    StartRequest: Started,
    StopRequest: Stopped,
    StatsRequest: Stats,
}
