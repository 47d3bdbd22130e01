"""Recordings: files of the wire to samples, schema, labels and hash.

In: a path. Out: a `Recording`, through the decoder that the gateway uses.
Never: bridges a gap, hides a loss (it is in `samples_lost`).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from converter.errors import ConverterError, UsageError
from converter.files import read_file
from converter.labels import Flags, labels_path, read_labels
from edge_agent.bundles.manifest import Sensor
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Samples
from firmware_bridge.schema import StreamSchema

CHUNK_BYTES = 1 << 20


class Recording(NamedTuple):
    """One stream of a recording; `anomalous` is bool[rows], None where nothing is known."""

    name: str
    sha256: str
    stream: StreamSchema
    batches: tuple[Samples, ...]
    rows: int
    samples_lost: int
    anomalous: Flags | None

    @property
    def sensor(self) -> Sensor:
        """What a bundle for this stream says about its sensor."""
        stream = self.stream
        return Sensor(channels=stream.channels, unit=stream.unit, rate_hz=stream.rate_hz)


def read_recording(path: Path, stream: str | None = None) -> Recording:
    """Reads one stream (its name; may be None if there is one) and the labels beside the file."""
    recording = parse_recording(path.name, read_file(path), stream)
    beside = labels_path(path)
    if beside.exists():
        return recording._replace(anomalous=read_labels(beside, recording.rows))
    return recording


def parse_recording(name: str, content: bytes, stream: str | None = None) -> Recording:
    """The same from the bytes of the file; nothing is known about anomalies."""
    playback = Playback()
    batches: list[Samples] = []
    for start in range(0, len(content), CHUNK_BYTES):
        for event in playback.feed(content[start : start + CHUNK_BYTES]):
            if isinstance(event, Samples):
                batches.append(event)
    if playback.schema is None:
        raise ConverterError(f"{name}: {playback.problem}")
    chosen = _choose(name, playback.schema.streams, stream)
    mine = tuple(batch for batch in batches if batch.stream == chosen.id)
    rows = sum(len(batch.values) for batch in mine)
    if not rows:
        raise ConverterError(f"{name}: stream {chosen.name} has no samples")
    lost = sum(batch.lost_before for batch in mine)
    sha256 = hashlib.sha256(content).hexdigest()
    return Recording(name, sha256, chosen, mine, rows, lost, None)


def _choose(name: str, streams: tuple[StreamSchema, ...], wanted: str | None) -> StreamSchema:
    names = ", ".join(stream.name for stream in streams)
    if wanted is None and len(streams) > 1:
        raise UsageError(f"{name} has the streams {names}: choose one with --stream")
    for stream in streams:
        if wanted in (None, stream.name):
            return stream
    raise UsageError(f"{name} has no stream {wanted!r}; it has: {names}")
