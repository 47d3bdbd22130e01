"""Recording: a file to the batches of an accelerometer, as if they came live.

In: a path. Out: a `Recorded`: the board's schema and its batches. Never: runs code from a file,
goes by its name, makes up a rate: text without times needs to be told.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.accel.seconds import LEAST_RATE_HZ
from edge_agent.calibrate.accel.units import in_g
from edge_agent.calibrate.reading.arrays import is_arrays, read_arrays
from edge_agent.calibrate.reading.files import content_of
from edge_agent.calibrate.reading.headers import UNIT
from edge_agent.calibrate.reading.readings import MOST, Columns, ReadingsError, second_of
from edge_agent.calibrate.reading.text_columns import read_text
from edge_agent.calibrate.reading.wire import CHUNK_BYTES, is_wire
from edge_agent.calibrate.sphere import Floats
from edge_agent.calibrate.streams import NoStream, accelerometer, axes
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema, StreamSchema

GAP_PERIODS, PAUSE_SECONDS = 5.0, 0.5
BATCH_SECONDS = 0.1
SECONDS = {1e3: "milliseconds", 1e6: "microseconds", 1e9: "nanoseconds"}
MOST_RATE_HZ = 1e6
HEADER_BYTES = 2048


class Recorded(NamedTuple):
    """Batches of the stream `stream` of `schema`; `notes` say what was taken for what."""

    name: str
    schema: Schema
    stream: StreamSchema
    batches: tuple[Samples, ...]
    notes: tuple[str, ...]
    from_board: bool

    @property
    def rows(self) -> int:
        """How many samples there are."""
        return sum(len(batch.values) for batch in self.batches)


def read_recording(
    path: Path, stream: str | None = None, rate_hz: float | None = None, unit: str | None = None
) -> Recorded:
    """Everything in a file; rate and unit are for text and arrays that do not tell. Raises
    `ReadingsError`, `OSError`."""
    content = content_of(path)
    try:
        if not content:
            raise ReadingsError("the file is empty")
        if not is_arrays(content) and is_wire(content):
            return _of_wire(path.name, content, stream)
        if is_arrays(content):
            return _of_columns(path.name, read_arrays(content), rate_hz, unit)
        told = unit or _unit_in(content)
        return _of_columns(path.name, read_text(content), rate_hz, told)
    except ReadingsError as error:
        raise ReadingsError(f"{path.name}: {error}") from None


def longest_run(recorded: Recorded) -> tuple[Floats, float]:
    """The longest part without a gap: rows [n, 3] in g and its rate."""
    unit_g = in_g(recorded.stream.unit)
    if unit_g is None:
        raise ReadingsError(f"{recorded.name}: {recorded.stream.unit} is no acceleration")
    columns, runs = axes(recorded.stream), [[]]  # type: list[int], list[list[Samples]]
    for batch in recorded.batches:
        if not batch.contiguous or not np.isfinite(batch.values[:, columns]).all():
            runs.append([])
        if np.isfinite(batch.values[:, columns]).all():
            runs[-1].append(batch)
    best = max(runs, key=lambda run: sum(len(batch.values) for batch in run))
    if not best:
        return np.empty((0, 3)), recorded.stream.rate_hz
    rows = np.concatenate([batch.values[:, columns] for batch in best]).astype(np.float64)
    return rows * unit_g, best[-1].rate_hz


def _of_wire(name: str, content: bytes, wanted: str | None) -> Recorded:
    playback, batches = Playback(), []
    for start in range(0, len(content), CHUNK_BYTES):
        uid = playback.schema.uid if playback.schema else None
        for event in playback.feed(content[start : start + CHUNK_BYTES]):
            if isinstance(event, Samples):
                batches.append(event)
            elif uid is not None and event.schema.uid != uid:
                raise ReadingsError(f"two boards, {uid} and {event.schema.uid}; expected one")
            else:
                uid = event.schema.uid
    schema = playback.schema
    if schema is None:
        raise ReadingsError(f"neither text nor NPZ, and {playback.problem}")
    try:
        stream = accelerometer(schema, wanted)
    except NoStream as error:
        raise ReadingsError(str(error)) from None
    mine = tuple(batch for batch in batches if batch.stream == stream.id)
    if not mine:
        raise ReadingsError(f"stream {stream.name} has no samples")
    return Recorded(name, schema, stream, mine, (), True)


def _of_columns(name: str, columns: Columns, rate_hz: float | None, unit: str | None) -> Recorded:
    rows, times = _felt(columns)
    notes = list(columns.notes)
    told = unit or columns.unit
    if told is None or in_g(told) is None:
        told, seen = "g", f" ({told} is no acceleration)" if told else ""
        notes.append(f"nothing says the unit{seen}: it is taken for g, --unit says otherwise")
    seconds, note = _seconds(times, len(rows), rate_hz, columns.second)
    notes += [note] if note else []
    period = _period(seconds)
    if not 1.0 / MOST_RATE_HZ <= period <= 1.0 / LEAST_RATE_HZ:
        raise ReadingsError(
            f"{1.0 / max(period, 1e-12):.3g} samples a second by its times; {LEAST_RATE_HZ:g} or "
            "more are needed: --rate tells otherwise"
        )
    stream = StreamSchema(
        id=0, name="accel", sensor="file", format="<f4", channels=("x", "y", "z"), unit=told,
        scale=1.0, rate_hz=1.0 / period, batch=max(1, min(round(BATCH_SECONDS / period), 80)),
    )  # fmt: skip
    schema = Schema("file", "file", "", (stream,), 0)
    return Recorded(name, schema, stream, tuple(_batches(rows, seconds, period)), tuple(notes),
                    False)  # fmt: skip


def _felt(columns: Columns) -> tuple[Floats, Floats | None]:
    """Rows of the accelerometer and their times: those that a logger wrote for the other sensor
    alone are not its."""
    if columns.acceleration is None:
        return columns.field, columns.seconds
    other = np.isnan(columns.acceleration).all(axis=1) & np.isfinite(columns.field).all(axis=1)
    times = None if columns.seconds is None else columns.seconds[~other]
    return columns.acceleration[~other], times


def _unit_in(content: bytes) -> str | None:
    """The unit of an acceleration that the first lines name in brackets, if they name one."""
    head = content[:HEADER_BYTES].decode("utf-8-sig", errors="replace")
    found = {unit for unit in UNIT.findall(head) if in_g(unit) is not None}
    return found.pop() if len(found) == 1 else None


def _seconds(
    times: Floats | None, count: int, rate_hz: float | None, told: float | None
) -> tuple[Floats, str | None]:
    """A time for each row, in seconds."""
    if rate_hz is not None:
        return np.arange(count) / rate_hz, None
    if times is None or not np.isfinite(times).all() or len(times) < 2:
        raise ReadingsError("nothing says how fast it was sampled: tell it with --rate HZ")
    second = told or second_of(times)
    if second is None:
        raise ReadingsError("its times do not rise: tell the rate with --rate HZ")
    if told is not None or second == 1.0:
        return times / second, None
    return times / second, f"its times are taken for {SECONDS[second]}, --rate says otherwise"


def _pauses(seconds: Floats) -> NDArray[np.bool_]:
    """Which steps between rows are none of a stream: a logger's jitter is not a gap."""
    steps = np.diff(seconds)
    longest = max(PAUSE_SECONDS, GAP_PERIODS * float(np.median(steps))) if len(steps) else 0.0
    return np.asarray((steps > longest) | (steps < 0.0))


def _period(seconds: Floats) -> float:
    """The mean of the steps: times that were rounded, or are those of arrival, have no other."""
    steps = np.diff(seconds)[~_pauses(seconds)]
    return float(steps.mean()) if len(steps) else 1.0


def _batches(rows: Floats, seconds: Floats, period: float) -> Iterator[Samples]:
    """Batches of a tenth of a second; what is no number, and a pause, is a gap."""
    length = max(1, round(BATCH_SECONDS / period))
    good: NDArray[np.bool_] = np.all(np.isfinite(rows) & (np.abs(rows) < MOST), axis=1)
    breaks = np.flatnonzero(_pauses(seconds)) + 1
    begins_anew = {0, *breaks.tolist()}
    edges = sorted(begins_anew | {*range(0, len(rows), length), len(rows)})
    for first, last in zip(edges, edges[1:], strict=False):
        values = rows[first:last].astype(np.float32)
        values[~good[first:last]] = np.nan
        restarted = first in begins_anew
        yield Samples(0, first, float(seconds[first]), 1.0 / period, values, 0, restarted, 0)
