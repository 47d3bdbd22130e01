"""Wire: a recording of a board to columns.

In: the bytes of a recording, the name of a stream or None. Out: `Columns`. Never: bridges a gap (a
calibration does not mind them), mixes the streams of two boards.
"""

from __future__ import annotations

import numpy as np

from edge_agent.calibrate.reading.readings import Columns, ReadingsError, at_moments
from edge_agent.calibrate.sphere import Floats
from edge_agent.calibrate.streams import NoStream, axes, feels_gravity, magnetometer
from firmware_bridge.codec import DELIMITER
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Samples
from firmware_bridge.schema import StreamSchema

# How UTF-16 begins, as PowerShell writes it.
WIDE = (b"\xff\xfe", b"\xfe\xff")
CHUNK_BYTES = 1 << 20


def is_wire(content: bytes) -> bool:
    """Whether a file may be a recording: every frame ends with a byte that no text holds but one of
    two bytes a letter."""
    return not content.startswith(WIDE) and DELIMITER in content[:4096]


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
    try:
        stream = magnetometer(schema, name)
    except NoStream as error:
        raise ReadingsError(str(error)) from None
    seconds, rows = _joined(batches.get(stream.id, []), stream)
    field = rows[:, axes(stream)]
    others = (s for s in schema.streams if s.id != stream.id and s.id in batches)
    still = next((other for other in others if feels_gravity(other)), None)
    acceleration = None
    if still is not None:
        moments, values = _joined(batches[still.id], still)
        order = np.argsort(moments, kind="stable")
        acceleration = at_moments(seconds, moments[order], values[order][:, axes(still)])
    return Columns(field, acceleration, seconds, stream.unit, schema.uid)


def _joined(batches: list[Samples], stream: StreamSchema) -> tuple[Floats, Floats]:
    if not batches:
        raise ReadingsError(f"stream {stream.name} has no samples")
    seconds = [batch.t0 + np.arange(len(batch.values)) / batch.rate_hz for batch in batches]
    values = np.concatenate([batch.values for batch in batches]).astype(np.float64)
    return np.concatenate(seconds), values
