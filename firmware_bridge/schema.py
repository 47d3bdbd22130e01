"""Schema: what a board says about itself (PROTOCOL.md section 4), checked and frozen.

In: the JSON bytes of IDENTIFY. Out: a `Schema`, or one `SchemaError` that says what is wrong.
Never: trusts a number from the wire. Unknown keys are ignored, so newer boards keep working.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any
from zlib import crc32

PROTOCOL = 1
MAX_CHANNELS = 64
MAX_STREAMS = 8
MAX_SCHEMA_BYTES = 8192
MAX_SAMPLE_BYTES_A_BATCH = 1000
FORMATS = {"<i2": 2, "<i4": 4, "<f4": 4}


class SchemaError(ValueError):
    """The board's description of itself can't be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class StreamSchema:
    """One stream of samples; value in `unit` = raw number x `scale`."""

    id: int
    name: str
    sensor: str
    format: str
    channels: tuple[str, ...]
    unit: str
    scale: float
    rate_hz: float
    batch: int
    range: float | None = None
    rates_hz: tuple[float, ...] = ()

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample over all channels."""
        return FORMATS[self.format] * len(self.channels)

    @property
    def max_batch(self) -> int:
        """The largest batch that fits one frame."""
        return MAX_SAMPLE_BYTES_A_BATCH // self.sample_bytes


@dataclass(frozen=True, slots=True)
class Schema:
    """A board: who it is and what it streams. `crc` is the CRC-32 of the JSON as it was sent."""

    board: str
    uid: str
    firmware: str
    streams: tuple[StreamSchema, ...]
    crc: int

    @property
    def tag(self) -> int:
        """The byte that every DATA frame carries, so that a reconfigured board is never misread."""
        return self.crc & 0xFF

    def stream(self, name_or_id: str | int) -> StreamSchema:
        """The stream of that name or id; `KeyError` names what there is."""
        for stream in self.streams:
            if name_or_id in (stream.name, stream.id):
                return stream
        names = ", ".join(stream.name for stream in self.streams)
        raise KeyError(f"board {self.uid} has no stream {name_or_id!r}; it has: {names}")


def parse_schema(document: bytes) -> Schema:
    """Checks and freezes a board's JSON. Raises `SchemaError`."""
    if len(document) > MAX_SCHEMA_BYTES:
        raise SchemaError(f"schema of {len(document)} bytes, at most {MAX_SCHEMA_BYTES} are read")
    try:
        fields = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"schema is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise SchemaError("schema is not a JSON object")
    if fields.get("proto") != PROTOCOL:
        raise SchemaError(
            f"board speaks protocol {fields.get('proto')!r}, this host speaks {PROTOCOL}: "
            "update the older of the two"
        )
    streams = fields.get("streams")
    if not isinstance(streams, list) or not 1 <= len(streams) <= MAX_STREAMS:
        raise SchemaError(f"streams: expected a list of 1 to {MAX_STREAMS}")
    parsed = tuple(_stream(entry, f"streams[{i}]") for i, entry in enumerate(streams))
    if len({s.id for s in parsed}) < len(parsed) or len({s.name for s in parsed}) < len(parsed):
        raise SchemaError("streams: two streams share an id or a name")
    return Schema(
        board=_text(fields, "board", ""),
        uid=_text(fields, "uid", ""),
        firmware=_text(fields, "fw", ""),
        streams=parsed,
        crc=crc32(document),
    )


class SchemaChunks:
    """Joins the chunks of IDENTIFY, for a live board and for a recording of one."""

    def __init__(self) -> None:
        self._document = b""

    @property
    def received(self) -> int:
        """Where the next chunk must begin."""
        return len(self._document)

    def add(self, offset: int, total: int, crc: int, chunk: bytes) -> tuple[Schema, bytes] | None:
        """The schema and its bytes once they are whole, None until then. Raises `SchemaError`."""
        if offset != len(self._document) or total > MAX_SCHEMA_BYTES:
            raise SchemaError("IDENTIFY chunks do not join: one of them is missing or damaged")
        self._document += chunk
        if len(self._document) < total:
            return None
        document, self._document = self._document, b""
        if crc32(document) != crc:
            raise SchemaError("IDENTIFY chunks do not join: the CRC of the whole schema is wrong")
        return parse_schema(document), document


def write_schema(board: str, uid: str, firmware: str, streams: tuple[StreamSchema, ...]) -> bytes:
    """The JSON a board sends; `parse_schema` reads it back."""
    return json.dumps(
        {
            "proto": PROTOCOL,
            "fw": firmware,
            "board": board,
            "uid": uid,
            "clk_ppm": 50,
            "max": 1024,
            "streams": [
                {
                    "id": s.id, "name": s.name, "sensor": s.sensor, "fmt": s.format,
                    "ch": s.channels, "unit": s.unit, "scale": s.scale, "range": s.range,
                    "rate": s.rate_hz, "rates": s.rates_hz, "batch": s.batch,
                }
                for s in streams
            ],
        },
        separators=(",", ":"),
    ).encode()  # fmt: skip


def _stream(fields: Any, where: str) -> StreamSchema:
    if not isinstance(fields, dict):
        raise SchemaError(f"{where}: expected an object")
    channels = fields.get("ch")
    if not isinstance(channels, list) or not 1 <= len(channels) <= MAX_CHANNELS:
        raise SchemaError(f"{where}.ch: expected 1 to {MAX_CHANNELS} channel names")
    if not all(_is_name(name) for name in channels) or len(set(channels)) < len(channels):
        raise SchemaError(f"{where}.ch: channel names must be different, non-empty, printable")
    if fields.get("fmt") not in FORMATS:
        raise SchemaError(f"{where}.fmt: {fields.get('fmt')!r}, expected one of {list(FORMATS)}")
    rates = fields.get("rates") or []
    if not isinstance(rates, list) or len(rates) > 64:
        raise SchemaError(f"{where}.rates: expected a list of at most 64 rates")
    stream = StreamSchema(
        id=_whole(fields, "id", where, 0, 31),
        name=_text(fields, "name", where),
        sensor=_text(fields, "sensor", where),
        format=fields["fmt"],
        channels=tuple(channels),
        unit=_text(fields, "unit", where),
        scale=_positive(fields, "scale", where),
        rate_hz=_positive(fields, "rate", where),
        batch=_whole(fields, "batch", where, 1, MAX_SAMPLE_BYTES_A_BATCH),
        range=None if fields.get("range") is None else _positive(fields, "range", where),
        rates_hz=tuple(_number(rate, f"{where}.rates") for rate in rates),
    )
    if stream.batch > stream.max_batch:
        raise SchemaError(f"{where}.batch: {stream.batch}, at most {stream.max_batch} fit a frame")
    return stream


def _text(fields: dict[str, Any], key: str, where: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str) or not _is_name(value) or len(value) > 64:
        told = f"{where}.{key}: {value!r}, expected 1 to 64 printable characters"
        raise SchemaError(told.lstrip("."))
    return value


def _is_name(value: object) -> bool:
    """Whoever is on the wire writes it, and it gets to terminals, journals and subscribers: nothing
    that moves a cursor or forges a line, and no half of a surrogate pair, which is no UTF-8."""
    return isinstance(value, str) and value != "" and value.isprintable()


def _whole(fields: dict[str, Any], key: str, where: str, low: int, high: int) -> int:
    value = fields.get(key)
    if type(value) is not int or not low <= value <= high:
        raise SchemaError(f"{where}.{key}: {value!r}, expected a whole number {low} to {high}")
    return value


def _positive(fields: dict[str, Any], key: str, where: str) -> float:
    return _number(fields.get(key), f"{where}.{key}")


def _number(value: Any, where: str) -> float:
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value < 1e12:
        raise SchemaError(f"{where}: {value!r}, expected a finite number above 0")
    return float(value)
