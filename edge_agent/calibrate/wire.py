"""Wire: a recording of a board to columns.

In: the bytes of a recording, the name of a stream or None. Out: `Columns`. Never: bridges a gap (a
calibration does not mind them), mixes the streams of two boards.
"""

from __future__ import annotations

import numpy as np

from edge_agent.calibrate.earth_field import in_microtesla
from edge_agent.calibrate.readings import Columns, ReadingsError, at_moments
from edge_agent.calibrate.sphere import Floats
from firmware_bridge.codec import DELIMITER
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema, StreamSchema

CHUNK_BYTES = 1 << 20
GRAVITY_UNITS = ("g", "mg", "m/s2", "m/s^2", "m/s²")
# `mg` is a milli-g or a milligauss: the sensor's name must tell.
MAGNETIC_WORDS = ("mag", "compass", "hmc", "qmc", "lis3mdl", "ak8963", "mmc")


def is_wire(content: bytes) -> bool:
    """Whether a file may be a recording: every frame ends with a byte that no text holds."""
    return DELIMITER in content[:4096]


def read_wire(content: bytes, name: str | None) -> Columns:
    """The magnetometer's stream, the accelerometer's beside it. Raises `ReadingsError`."""
    playback = Playback()
    batches: dict[int, list[Samples]] = {}
    for start in range(0, len(content), CHUNK_BYTES):
        for event in playback.feed(content[start : start + CHUNK_BYTES]):
            if isinstance(event, Samples):
                batches.setdefault(event.stream, []).append(event)
    if playback.schema is None:
        raise ReadingsError(f"neither text nor NPZ, and {playback.problem}")
    schema = playback.schema
    stream = _magnetometer(schema, name)
    seconds, rows = _joined(batches.get(stream.id, []), stream)
    field = rows[:, _axes(stream)]
    still = next((other for other in schema.streams if _is_gravity(other, stream, batches)), None)
    acceleration = None
    if still is not None:
        moments, values = _joined(batches[still.id], still)
        order = np.argsort(moments, kind="stable")
        acceleration = at_moments(seconds, moments[order], values[order][:, _axes(still)])
    return Columns(field, acceleration, seconds, stream.unit, schema.uid)


def _is_gravity(
    other: StreamSchema, stream: StreamSchema, batches: dict[int, list[Samples]]
) -> bool:
    said = other.id != stream.id and other.id in batches and len(other.channels) >= 3
    return said and other.unit.lower() in GRAVITY_UNITS


def _magnetometer(schema: Schema, name: str | None) -> StreamSchema:
    if name is not None:
        try:
            found = [schema.stream(name)]
        except KeyError as error:
            raise ReadingsError(str(error.args[0])) from None
    else:
        found = [stream for stream in schema.streams if _is_magnetic(stream)]
    if len(found) != 1 or len(found[0].channels) < 3:
        seen = ", ".join(
            f"{s.name} ({len(s.channels)} channels in {s.unit})" for s in schema.streams
        )
        raise ReadingsError(
            f"streams {seen}; expected one of three channels in uT: name it with --stream"
        )
    return found[0]


def _is_magnetic(stream: StreamSchema) -> bool:
    named = any(word in f"{stream.name} {stream.sensor}".lower() for word in MAGNETIC_WORDS)
    clear = stream.unit.lower() not in GRAVITY_UNITS and in_microtesla(stream.unit) is not None
    return len(stream.channels) >= 3 and (named or clear)


def _axes(stream: StreamSchema) -> list[int]:
    """Columns of x, y and z by the last letter of their names, else the first three."""
    ends = [channel.lower()[-1:] for channel in stream.channels]
    return [ends.index(axis) for axis in "xyz"] if set("xyz") <= set(ends) else [0, 1, 2]


def _joined(batches: list[Samples], stream: StreamSchema) -> tuple[Floats, Floats]:
    if not batches:
        raise ReadingsError(f"stream {stream.name} has no samples")
    seconds = [batch.t0 + np.arange(len(batch.values)) / batch.rate_hz for batch in batches]
    values = np.concatenate([batch.values for batch in batches]).astype(np.float64)
    return np.concatenate(seconds), values
