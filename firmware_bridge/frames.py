"""Frames: every message of the wire as an immutable tuple, and its body as bytes.

In: the body of one frame whose CRC has been checked. Out: one typed frame, or a `ValueError`
that the decoder counts. Never: COBS, CRC, time, or what a frame means for the session.

Every frame begins with `stream` and `seq` (PROTOCOL.md section 2). `LAYOUTS` is the whole truth
about the rest: the same table packs, unpacks and prints.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple, TypeAlias, cast

HEAD = Struct("<BBH")
REPLY = 0x80
MAX_BODY_BYTES = 1020
MAX_JSON_CHUNK_BYTES = 960


class FrameType(IntEnum):
    """First byte of a body. A reply carries its request's type with bit 7 set."""

    IDENTIFY = 0x01
    START = 0x02
    STOP = 0x03
    SET_RATE = 0x04
    TIME = 0x05
    SELF_TEST = 0x06
    STATS = 0x07
    REG_READ = 0x08
    RESET = 0x09
    HEARTBEAT = 0x0A
    DATA = 0x10


class Status(IntEnum):
    """First byte of every reply's payload."""

    OK = 0
    BAD_ARGUMENT = 1
    BUSY = 2
    SENSOR = 3
    UNKNOWN = 0xFF


class DataFlag(IntFlag):
    """What the board knows about a batch beyond its numbers."""

    GAP = 1
    CLIPPED = 2
    SELF_TEST = 4
    BUS_ERROR = 8
    EMULATED = 16
    CLOCK_RESTARTED = 32


class Data(NamedTuple):
    """A batch of samples; `payload` is n x channels numbers in the format of the schema."""

    stream: int
    seq: int
    first_index: int
    t_us: int
    n: int
    schema: int
    flags: int
    payload: bytes


class IdentifyRequest(NamedTuple):
    """Asks for the schema's bytes from `offset` on."""

    stream: int
    seq: int
    offset: int


class StartRequest(NamedTuple):
    """Starts the streams of `mask` (bit k is stream k) at sample index 0."""

    stream: int
    seq: int
    mask: int


class StopRequest(NamedTuple):
    """Stops the streams of `mask`."""

    stream: int
    seq: int
    mask: int


class SetRateRequest(NamedTuple):
    """Changes the rate of one stopped stream; `batch` 0 lets the board choose."""

    stream: int
    seq: int
    rate_millihertz: int
    batch: int


class TimeRequest(NamedTuple):
    """Asks for the board's clock; `token` comes back unchanged."""

    stream: int
    seq: int
    token: int


class SelfTestRequest(NamedTuple):
    """Runs the sensor's own electrical test on one stopped stream."""

    stream: int
    seq: int


class StatsRequest(NamedTuple):
    """Asks for the board's counters."""

    stream: int
    seq: int


class RegReadRequest(NamedTuple):
    """Reads `size` registers of a stream's sensor."""

    stream: int
    seq: int
    register: int
    size: int


class ResetRequest(NamedTuple):
    """Restarts the application (mode 0) or enters the bootloader (mode 1)."""

    stream: int
    seq: int
    mode: int


class HeartbeatRequest(NamedTuple):
    """Keeps the streams alive; the board stops 5 s after the last valid frame from the host."""

    stream: int
    seq: int


class Identify(NamedTuple):
    """A chunk of the schema's JSON."""

    stream: int
    seq: int
    status: int
    offset: int
    total: int
    schema_crc: int
    json: bytes


class Started(NamedTuple):
    """The streams run since `t_us`."""

    stream: int
    seq: int
    status: int
    t_us: int


class Stopped(NamedTuple):
    """The streams stand still since `t_us`."""

    stream: int
    seq: int
    status: int
    t_us: int


class RateSet(NamedTuple):
    """The rate that the sensor really took; the schema has a new CRC."""

    stream: int
    seq: int
    status: int
    rate_millihertz: int
    batch: int
    schema_crc: int


class Time(NamedTuple):
    """Board clock at the end of the request (`t_rx_us`) and when this reply left (`t_tx_us`)."""

    stream: int
    seq: int
    status: int
    token: int
    t_rx_us: int
    t_tx_us: int


class SelfTest(NamedTuple):
    """`pass_mask` has bit k for channel k; `limits` is (delta, low, high) int16 a channel."""

    stream: int
    seq: int
    status: int
    channels: int
    pass_mask: int
    limits: bytes


class Stats(NamedTuple):
    """Counters since the last reset."""

    stream: int
    seq: int
    status: int
    rx_ok: int
    bad_crc: int
    bad_cobs: int
    oversize: int
    rx_overrun: int
    fifo_overrun: int
    tx_dropped: int
    reset_cause: int
    uptime_ms: int


class RegRead(NamedTuple):
    """Register contents."""

    stream: int
    seq: int
    status: int
    values: bytes


class ResetReply(NamedTuple):
    """The board restarts after this frame."""

    stream: int
    seq: int
    status: int


class Heartbeat(NamedTuple):
    """The board is alive at `t_us`."""

    stream: int
    seq: int
    status: int
    t_us: int


Request: TypeAlias = (
    IdentifyRequest | StartRequest | StopRequest | SetRateRequest | TimeRequest | SelfTestRequest
    | StatsRequest | RegReadRequest | ResetRequest | HeartbeatRequest
)  # fmt: skip
Reply: TypeAlias = (
    Identify | Started | Stopped | RateSet | Time | SelfTest | Stats | RegRead | ResetReply
    | Heartbeat
)  # fmt: skip
Frame: TypeAlias = Data | Request | Reply


class Layout(NamedTuple):
    """How one frame type lies in its body after the four bytes of `HEAD`."""

    code: int
    frame: type[Any]
    fields: Struct
    has_tail: bool


LAYOUTS = tuple(
    Layout(kind, frame, Struct(fields), has_tail)
    for kind, frame, fields, has_tail in (
        (FrameType.DATA, Data, "<IQHBB", True),
        (FrameType.IDENTIFY, IdentifyRequest, "<H", False),
        (FrameType.START, StartRequest, "<I", False),
        (FrameType.STOP, StopRequest, "<I", False),
        (FrameType.SET_RATE, SetRateRequest, "<IH", False),
        (FrameType.TIME, TimeRequest, "<Q", False),
        (FrameType.SELF_TEST, SelfTestRequest, "<", False),
        (FrameType.STATS, StatsRequest, "<", False),
        (FrameType.REG_READ, RegReadRequest, "<BB", False),
        (FrameType.RESET, ResetRequest, "<B", False),
        (FrameType.HEARTBEAT, HeartbeatRequest, "<", False),
        (REPLY | FrameType.IDENTIFY, Identify, "<BxHHI", True),
        (REPLY | FrameType.START, Started, "<B3xQ", False),
        (REPLY | FrameType.STOP, Stopped, "<B3xQ", False),
        (REPLY | FrameType.SET_RATE, RateSet, "<B3xIH2xI", False),
        (REPLY | FrameType.TIME, Time, "<B3xQQQ", False),
        (REPLY | FrameType.SELF_TEST, SelfTest, "<B3xHH", True),
        (REPLY | FrameType.STATS, Stats, "<B3x9I", False),
        (REPLY | FrameType.REG_READ, RegRead, "<B3x", True),
        (REPLY | FrameType.RESET, ResetReply, "<B3x", False),
        (REPLY | FrameType.HEARTBEAT, Heartbeat, "<B3xQ", False),
    )
)
# Head and fields in one go, thousands of times a second: (type, unpack, size, has a tail).
_READERS = {
    int(layout.code): (layout.frame, whole.unpack_from, whole.size, layout.has_tail)
    for layout in LAYOUTS
    for whole in (Struct(HEAD.format + layout.fields.format[1:]),)
}
_BY_FRAME = {layout.frame: layout for layout in LAYOUTS}


def to_body(frame: Frame) -> bytes:
    """The bytes that COBS and CRC protect. Fields out of range raise `struct.error`."""
    layout = _BY_FRAME[type(frame)]
    head = HEAD.pack(layout.code, frame[0], frame[1])
    if layout.has_tail:
        return head + layout.fields.pack(*frame[2:-1]) + cast(bytes, frame[-1])
    return head + layout.fields.pack(*frame[2:])


def from_body(body: bytes) -> Frame:
    """The frame in a body of at least four bytes; `ValueError` if its type or size is not ours."""
    reader = _READERS.get(body[0])
    if reader is None:
        raise ValueError(f"frame type 0x{body[0]:02x} is not known")
    kind, unpack, end, has_tail = reader
    try:
        fields = unpack(body)
    except StructError as short:
        raise ValueError(f"{kind.__name__} of {len(body)} bytes: {short}") from None
    if has_tail:
        fields += (body[end:],)
    elif len(body) != end:
        raise ValueError(f"{kind.__name__} has {len(body)} bytes, expected {end}")
    frame: Frame = kind._make(fields[1:])
    return frame


def is_from_board(frame: Frame) -> bool:
    """True for DATA and replies. A tty may echo our own requests: the host drops those."""
    kind = _BY_FRAME[type(frame)].code
    return bool(kind & REPLY) or kind == FrameType.DATA
