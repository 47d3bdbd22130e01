"""Link: the session with one board, as a pure state machine.

In: bytes from the port, ticks, and the host's monotonic seconds. Out: events, and bytes to send.
Never: owns a port, reads a clock, blocks. Whoever holds the port calls `opened`, then `feed` and
`tick`, sends what `outgoing` returns, and closes the port when the state becomes STALE.

    CLOSED -> OPENING -> IDENTIFYING -> SYNCING -> STREAMING -> STALE

OPENING: the port is open and the board has not answered yet, for opening it may have reset it. It
is asked until it has started up, and whatever else comes means nothing. A board whose clock falls
back in the middle of a session has begun anew: OPENING again, with the port left open.
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
    StopRequest,
    Time,
    TimeRequest,
    is_from_board,
)
from firmware_bridge.requests import Pending
from firmware_bridge.samples import Assembler, Samples, assemblers_for
from firmware_bridge.schema import Schema, SchemaChunks, SchemaError

RETRY_SECONDS = 0.25
TRIES = 4
# Opening a port resets many boards, and some take two seconds to start. Closing it would reset
# them once more.
BOOT_SECONDS = 4.0
SYNC_PINGS = 8
# Not 1 s, so that pings don't fall in step with anything else (Klipper's clocksync does the same).
PING_SECONDS = 0.9839
STATS_SECONDS = 30.0
STALE_BATCHES = 5
MIN_STALE_SECONDS = 1.0
UPTIME_MODULUS = 1 << 32

RESET = "the board's clock fell back: it was reset"
NO_IDENTIFY = "no answer to IDENTIFY, though frames come"


class State(Enum):
    """Where the session is."""

    CLOSED = "closed"
    OPENING = "opening"
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


class Link:
    """One board's session. `expected_uid` refuses any other board on the same port. `echoes` are
    frames of our own that came back, `refused` is the request and the status that ended the
    session; both since the port was opened."""

    def __init__(self, expected_uid: str | None = None) -> None:
        self.expected_uid = expected_uid
        self.state = State.CLOSED
        self.schema: Schema | None = None
        self.clock = BoardClock()
        self.decoder = Decoder()
        self.assemblers: dict[int, Assembler] = {}
        self.board_stats: Stats | None = None
        self.refused: tuple[str, int] | None = None
        self.unexpected_frames = self.echoes = 0
        self._pending: Pending | None = None
        self._stale_seconds = MIN_STALE_SECONDS
        self._reset_session()

    @property
    def waiting(self) -> bool:
        """Whether an answer is due whose time of arrival matters. A board that is silent when it
        is first asked is starting up, or not there."""
        pending = self._pending
        return pending is not None and (self.state is not State.OPENING or pending.tries == 1)

    @property
    def unanswered(self) -> bool:
        """Whether the board has said nothing that we understand since the port was opened."""
        return not self._answered

    def opened(self, now_s: float) -> list[Event]:
        """The port is open, which may have reset the board: everything starts over."""
        return [self._begin(now_s, "port open")]

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
            if not self._gives_up(self._pending, now_s):
                self._ask(self._pending.request, now_s, self._pending.tries + 1)
            elif self.state is not State.STREAMING:
                return [self._enter(State.STALE, self._silence(self._pending))]
            else:
                # As long as DATA comes, that is enough: a deaf board will end it by itself.
                self._pending = None
        if self.state is State.STREAMING:
            if now_s - self._data_s > self._stale_seconds:
                return [self._enter(State.STALE, f"no data for {self._stale_seconds:.1f} s")]
            self._ask_regularly(now_s)
        return []

    def outgoing(self, now_s: float) -> bytes:
        """Bytes to send since the last call, `now_s` being when they go: what was done between a
        question and its sending is no part of a round trip."""
        if not self._out:
            return b""
        if self._pending:
            self._pending = self._pending._replace(sent_s=now_s)
        out = bytes(self._out)
        self._out.clear()
        return out

    def stop(self, now_s: float) -> None:
        """Asks the board to be silent; for a clean end of the session."""
        if self.state is State.STREAMING:
            self._ask(StopRequest(0, self._seq(), 0xFFFFFFFF), now_s)

    def _begin(self, now_s: float, reason: str) -> StateChanged:
        """Whatever was known of the board's time and answers is void; its counters stay."""
        counters = self.decoder.counters
        self.decoder = Decoder(sync=True)
        self.decoder.counters = counters
        self.clock = BoardClock()
        self._reset_session()
        self._opened_s = self._data_s = now_s
        self._before = counters.bytes, counters.frames
        self.echoes = 0
        self.refused = None
        change = self._enter(State.OPENING, reason)
        self._ask(IdentifyRequest(0, self._seq(), 0), now_s)
        return change

    def _reset_session(self) -> None:
        self._out = bytearray()
        self._answered = self._asked_again = False
        self._pending = None
        self._chunks = SchemaChunks()
        self._next_seq = 1
        self._pings = self._board_us = 0
        self._uptime_ms: int | None = None
        self._opened_s = self._ping_s = self._stats_s = self._data_s = 0.0
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
            # A repeated TIME carries a new token, or its round trip would be a lie.
            request = request._replace(token=int(now_s * 1e6))
        if self.state is State.OPENING:
            # Ends whatever line noise the board has collected, or the request would be part of it.
            self._out += DELIMITER
        self._out += encode(request)
        self._pending = Pending(request, now_s, tries)

    def _ask_regularly(self, now_s: float) -> None:
        if self._pending:
            return
        # A board that has gone quiet may have been reset: its clock tells sooner than silence.
        quiet = now_s - self._data_s > self._stale_seconds / 2
        if now_s - self._ping_s >= (RETRY_SECONDS if quiet else PING_SECONDS):
            self._ping_s, self._asked_again = now_s, False
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
        if assembler.restarted_by_itself(data):
            events.append(self._begin(now_s, RESET))
            return
        samples = assembler.take(data, self.clock.host_s)
        if samples is not None:
            self._data_s = now_s
            events.append(samples)

    def _take_reply(self, reply: Frame, now_s: float, events: list[Event]) -> None:
        pending = self._pending
        if not pending or not pending.is_answered_by(reply):
            self.unexpected_frames += 1
            self.echoes += not is_from_board(reply)
            return
        self._pending = None
        if reply.status != Status.OK:
            if not isinstance(reply, Stats):
                self.refused = pending.name, reply.status
                reason = f"{pending.name}: status {reply.status}"
                events.append(self._enter(State.STALE, reason))
        elif isinstance(reply, Identify):
            self._take_identify(reply, now_s, events)
        elif isinstance(reply, Time):
            self._take_time(reply, pending, now_s, events)
        elif isinstance(reply, Started):
            self._take_started(reply, now_s, events)
        elif isinstance(reply, Stats):
            self._take_stats(reply, now_s, events)

    def _take_identify(self, reply: Identify, now_s: float, events: list[Event]) -> None:
        chunks = self._chunks
        if self.state is State.OPENING:
            self._answered = True
            events.append(self._enter(State.IDENTIFYING, "the board answers"))
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

    def _take_time(self, reply: Time, asked: Pending, now_s: float, events: list[Event]) -> None:
        if self._fell_back(reply.t_rx_us, reply.t_tx_us):
            events.append(self._begin(now_s, RESET))
            return
        self.clock.exchange(asked.sent_s, reply.t_rx_us, reply.t_tx_us, now_s)
        if self.state is State.SYNCING:
            self._pings += 1
            if self._pings < SYNC_PINGS:
                self._ask(TimeRequest(0, self._seq(), 0), now_s)
            else:
                self._ask(StartRequest(0, self._seq(), 0xFFFFFFFF), now_s)
        elif self.clock.last_was_poor and not self._asked_again:
            # It met a queue; another one at once, and only one, so as not to feed the queue.
            self._asked_again = True
            self._ask(TimeRequest(0, self._seq(), 0), now_s)

    def _take_started(self, reply: Started, now_s: float, events: list[Event]) -> None:
        if self._fell_back(reply.t_us, reply.t_us):
            events.append(self._begin(now_s, RESET))
            return
        for assembler in self.assemblers.values():
            assembler.expect_start()
        self._data_s = self._ping_s = now_s
        self._stats_s = now_s - STATS_SECONDS
        events.append(self._enter(State.STREAMING, "started"))

    def _take_stats(self, reply: Stats, now_s: float, events: list[Event]) -> None:
        before, self._uptime_ms = self._uptime_ms, reply.uptime_ms
        self.board_stats = reply
        # 32 bits of milliseconds wrap after 50 days: that is a fall of nearly all of them.
        if before is not None and 0 < before - reply.uptime_ms < UPTIME_MODULUS // 2:
            events.append(self._begin(now_s, RESET))

    def _fell_back(self, first_us: int, last_us: int) -> bool:
        """Whether the board's clock is behind what it was in this session: a new epoch."""
        before, self._board_us = self._board_us, last_us
        return first_us < before

    def _gives_up(self, pending: Pending, now_s: float) -> bool:
        if self.state is State.OPENING:
            return now_s - self._opened_s >= BOOT_SECONDS
        return pending.tries >= TRIES

    def _silence(self, pending: Pending) -> str:
        """What came instead of an answer."""
        if self._answered:
            return f"no reply to {pending.name}"
        counters, (bytes_before, frames_before) = self.decoder.counters, self._before
        if counters.bytes == bytes_before:
            return "no answer, not a byte: is the board powered, are RX and TX swapped?"
        if counters.frames == frames_before:
            return "no answer, bytes but no frame: wrong baud rate, or other firmware?"
        return "no answer but what we sent: are RX and TX joined?" if self.echoes else NO_IDENTIFY
