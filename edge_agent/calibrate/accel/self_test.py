"""Self test: the sensor pushes its own mass, and says how far it moved.

In: what came from the port. Out: bytes to send, in the end a `Finding`. Never: asks a board
that streams (PROTOCOL.md section 3: the stream must be stopped, so it is).

IDENTIFY until the board has started up, STOP, SELF_TEST; a board that does not know the request, or
whose sensor has no such test, says so, and that is no fault.
"""

from __future__ import annotations

import time
from struct import Struct

from edge_agent.calibrate.accel.units import in_g
from edge_agent.calibrate.streams import accelerometer
from edge_agent.checkup.findings import Finding
from edge_agent.config import BoardSettings
from firmware_bridge.codec import DELIMITER, Decoder, encode
from firmware_bridge.frames import (
    REPLY,
    Frame,
    FrameType,
    Identify,
    IdentifyRequest,
    Request,
    SelfTest,
    SelfTestRequest,
    Status,
    Stopped,
    StopRequest,
    from_body,
)
from firmware_bridge.port import Port, PortError
from firmware_bridge.schema import Schema, SchemaChunks, SchemaError, StreamSchema

RETRY_SECONDS, LIMIT_SECONDS = 0.25, 6.0
# The test itself takes a tenth of a second on most sensors; meanwhile the board answers nothing.
TEST_SECONDS = 1.5
POLL_SECONDS = 0.1
HEAD_BYTES = 4
LIMITS = Struct("<3h")
ABOUT = "self test"
NOT_OFFERED = Finding("note", ABOUT, "this board does not offer one")


class SelfTestTalk:
    """One exchange; `finding` is None until it is over."""

    def __init__(self, stream: str | None, expected_uid: str | None = None) -> None:
        self.finding: Finding | None = None
        self._name, self._uid = stream, expected_uid
        self._decoder = Decoder()
        self._chunks = SchemaChunks()
        self._stream: StreamSchema | None = None
        self._seq = 0
        self._began_s: float | None = None
        self._due_s = 0.0
        self._request: Request = IdentifyRequest(0, 0, 0)

    def outgoing(self, now_s: float) -> bytes:
        """What is due to be sent."""
        if self._began_s is None:
            self._began_s = now_s
        if now_s - self._began_s > LIMIT_SECONDS and self.finding is None:
            self.finding = Finding("note", ABOUT, "the board did not answer in time", "an answer",
                                   "`edge-agent doctor` tells more")  # fmt: skip
        if self.finding is not None or now_s < self._due_s:
            return b""
        waits = TEST_SECONDS if isinstance(self._request, SelfTestRequest) else RETRY_SECONDS
        self._due_s = now_s + waits
        return DELIMITER + encode(self._request)

    def feed(self, chunk: bytes) -> None:
        """What came."""
        for body in self._decoder.bodies(chunk):
            if self.finding is not None or len(body) <= HEAD_BYTES:
                continue
            unknown = body[0] == REPLY | FrameType.SELF_TEST and body[HEAD_BYTES] == Status.UNKNOWN
            if unknown:
                self.finding = NOT_OFFERED
                continue
            try:
                self._take(from_body(body))
            except ValueError:
                continue

    def _take(self, frame: Frame) -> None:
        if isinstance(frame, Identify) and isinstance(self._request, IdentifyRequest):
            self._identified(frame)
        elif isinstance(frame, Stopped) and isinstance(self._request, StopRequest):
            assert self._stream is not None
            self._ask(SelfTestRequest(self._stream.id, self._next()))
        elif isinstance(frame, SelfTest) and frame.seq == self._seq:
            self._tested(frame)

    def _identified(self, frame: Identify) -> None:
        if frame.status != Status.OK or frame.offset != self._chunks.received or not frame.json:
            return
        try:
            whole = self._chunks.add(frame.offset, frame.total, frame.schema_crc, frame.json)
            if whole is None:
                self._ask(IdentifyRequest(0, self._next(), self._chunks.received))
                return
            self._stream = self._accelerometer(whole[0])
        except (SchemaError, ValueError) as error:
            self.finding = Finding("note", ABOUT, f"not asked: {error}")
            return
        self._ask(StopRequest(0, self._next(), 0xFFFFFFFF))

    def _accelerometer(self, schema: Schema) -> StreamSchema:
        if self._uid is not None and schema.uid != self._uid:
            raise ValueError(f"board {schema.uid} answers, {self._uid} is configured")
        return accelerometer(schema, self._name)

    def _tested(self, reply: SelfTest) -> None:
        if reply.status == Status.BUSY:
            return  # asked again
        offered = reply.channels or reply.status not in (Status.OK, Status.BAD_ARGUMENT)
        if not offered or reply.status == Status.UNKNOWN:
            self.finding = NOT_OFFERED
            return
        assert self._stream is not None
        self.finding = self_test_finding(reply, self._stream)

    def _next(self) -> int:
        self._seq += 1
        return self._seq

    def _ask(self, request: Request) -> None:
        self._request, self._due_s = request, 0.0


def self_test_finding(reply: SelfTest, stream: StreamSchema) -> Finding:
    """What the numbers of a reply mean."""
    if reply.status != Status.OK or len(reply.limits) < LIMITS.size * reply.channels:
        return Finding("wrong", ABOUT, f"status {reply.status}: the sensor does not answer",
                       "three channels within limits", "check wiring and supply")  # fmt: skip
    unit_g = (in_g(stream.unit) or 1.0) * stream.scale
    seen, failed = [], []
    limits = ""
    for number, name in zip(range(reply.channels), stream.channels, strict=False):
        delta, low, high = LIMITS.unpack_from(reply.limits, LIMITS.size * number)
        seen.append(f"{name} {delta * unit_g:+.2f}")
        limits = limits or f"{low * unit_g:.2f} to {high * unit_g:.2f} g"
        if not reply.pass_mask & 1 << number:
            failed.append(name)
    told = f"it moved by {', '.join(seen)} g"
    if failed:
        return Finding("wrong", ABOUT, f"{told}: {' and '.join(failed)} failed", limits,
                       "the sensor is damaged (a drop?): replace it")  # fmt: skip
    return Finding("well", ABOUT, told, limits)


def ask_self_test(settings: BoardSettings, stream: str | None) -> Finding:
    """Asks the board on its port; a port that somebody has, or that is not there, is no answer."""
    try:
        port = Port(str(settings.port), settings.baud)
    except PortError as error:
        why = "the running service has the port" if error.is_busy else str(error)
        return Finding("note", ABOUT, f"not asked: {why}", "",
                       "stop the service for this check" if error.is_busy else "")  # fmt: skip
    talk = SelfTestTalk(stream, settings.uid)
    try:
        while talk.finding is None:
            out = talk.outgoing(time.monotonic())
            if out:
                port.write(out)
            if talk.finding is None:
                talk.feed(port.read(POLL_SECONDS))
    except OSError as error:
        return Finding("note", ABOUT, f"not asked: {error}")
    finally:
        port.close()
    return talk.finding
