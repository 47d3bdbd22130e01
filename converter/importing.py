"""Importing: a table of numbers to the bytes of a recording, as a board would have sent them.

In: a `Table` and what the file does not say itself. Out: the recording, its labels, a summary.
Never: fills a gap, loses a digit by default (`f4`, scale 1), touches a file.

Rows with a missing value and long steps of the time column become gaps of the right size. Short
irregular steps don't: the recording runs at the rate of the median step.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from converter.errors import ConverterError, UsageError
from converter.labels import Flags
from converter.tables import Floats, Table
from firmware_bridge.recording import identify_frames, record
from firmware_bridge.schema import (
    MAX_CHANNELS,
    SchemaError,
    StreamSchema,
    parse_schema,
    write_schema,
)
from firmware_bridge.signals import batch_for, digitise, raw_limit

GAP_PERIODS = 10.0
NEVER_CHANNELS = ("anomaly", "changepoint", "label", "is_anomaly")
UID_CHARACTERS = 16
MAX_TEXT = 64


@dataclass(frozen=True, slots=True)
class ImportSettings:
    """What the file does not say itself. `gap_seconds` None: 10 periods."""

    rate_hz: float | None = None
    columns: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    unit: str = "mixed"
    format: str = "f4"
    scale: float = 1.0
    label_column: str = "anomaly"
    gap_seconds: float | None = None
    faulty: bool = False
    noise_rms: tuple[float, ...] = ()
    noise_seed: int = 0
    stream: str = "samples"


class Imported(NamedTuple):
    """`recording` is the file's bytes, `anomalous` None where nothing was said about labels."""

    recording: bytes
    anomalous: Flags | None
    summary: dict[str, Any]


def import_table(table: Table, name: str, sha256: str, settings: ImportSettings) -> Imported:
    """One file. Raises `UsageError` and `ConverterError`."""
    columns = _channels(table, name, settings)
    values = np.stack(list(columns.values()), axis=1)
    anomalous = _labels(table, len(values), settings)
    rate_hz = _rate(table, name, settings)
    keep, gaps = _gaps(values, table.time_s, rate_hz, settings.gap_seconds)
    if not keep.any():
        raise ConverterError(f"{name} has no row in which every channel has a value")
    values = values[keep]
    if settings.noise_rms:
        values = values + _noise(values.shape, sha256, settings)
    names = settings.channels or tuple(columns)
    stream = _stream(names, name, rate_hz, settings)
    document = write_schema("import", sha256[:UID_CHARACTERS], "0", (stream,))
    try:
        stream = parse_schema(document).streams[0]
    except SchemaError as error:
        raise UsageError(f"{name}: {error}") from None
    raw = digitise(values, stream)
    body = b"".join(record(document, stream, raw, gaps=gaps))
    summary = {
        "rows": len(values),
        "rows_left_out": int(len(keep) - keep.sum()),
        "gaps": len(gaps),
        "rate_hz": rate_hz,
        "channels": list(names),
        "rms": [round(float(rms), 6) for rms in np.sqrt(np.mean(values**2, axis=0))],
        "anomalous_rows": None if anomalous is None else int(anomalous[keep].sum()),
        "clipped": int((np.abs(np.rint(values / stream.scale)) > raw_limit(stream)).sum()),
    }
    labels = None if anomalous is None else anomalous[keep]
    return Imported(identify_frames(document) + body, labels, summary)


def content_sha256(content: bytes) -> str:
    """What the board's uid is made of."""
    return hashlib.sha256(content).hexdigest()


def _channels(table: Table, name: str, settings: ImportSettings) -> dict[str, Floats]:
    never = {*NEVER_CHANNELS, settings.label_column}
    wanted = settings.columns or tuple(c for c in table.columns if c.lower() not in never)
    missing = [column for column in wanted if column not in table.columns]
    if missing or not wanted:
        have = ", ".join(table.columns) or "none"
        raise UsageError(f"{name} has no column {', '.join(missing)!r}; it has: {have}")
    if len(wanted) > MAX_CHANNELS:
        raise UsageError(
            f"{name} has {len(wanted)} columns, a stream has at most {MAX_CHANNELS} channels: "
            "choose some with --columns"
        )
    if settings.channels and len(settings.channels) != len(wanted):
        raise UsageError(f"--channels gives {len(settings.channels)} names to {len(wanted)}")
    if settings.noise_rms and len(settings.noise_rms) != len(wanted):
        raise UsageError(f"--noise-rms gives {len(settings.noise_rms)} numbers to {len(wanted)}")
    return {column: table.columns[column] for column in wanted}


def _labels(table: Table, rows: int, settings: ImportSettings) -> Flags | None:
    if settings.faulty:
        return np.ones(rows, np.bool_)
    column = table.columns.get(settings.label_column)
    return None if column is None else np.asarray(np.nan_to_num(column) != 0)


def _rate(table: Table, name: str, settings: ImportSettings) -> float:
    if settings.rate_hz is not None:
        return settings.rate_hz
    if table.time_s is not None:
        if not np.isfinite(table.time_s).all():
            raise ConverterError(f"{name}: the time column has a hole: repair it or give --rate-hz")
        steps = np.diff(table.time_s)
        if (steps < 0).any():
            row = int(np.argmax(steps < 0)) + 1
            raise ConverterError(f"{name}: time runs backwards at row {row}: sort the file first")
        step = float(np.median(steps)) if len(steps) else 0.0
        if step > 0:
            return 1.0 / step
    if table.rate_hz is not None:
        return table.rate_hz
    raise UsageError(f"{name} does not say how fast it was sampled: give --rate-hz")


def _gaps(
    values: Floats, time_s: Floats | None, rate_hz: float, gap_seconds: float | None
) -> tuple[Flags, list[tuple[int, int]]]:
    """Rows to keep, and (kept row, lost before it): long steps, and rows without a value."""
    keep = np.asarray(np.isfinite(values).all(axis=1))
    lost = np.zeros(len(values), np.int64)
    if time_s is not None and len(time_s) > 1 and np.isfinite(time_s).all():
        steps = np.diff(time_s)
        longest = GAP_PERIODS / rate_hz if gap_seconds is None else gap_seconds
        long = steps > longest
        lost[1:][long] = np.maximum(np.rint(steps[long] * rate_hz).astype(np.int64) - 1, 1)
    # A row that is left out is one lost sample in front of the next row that is kept.
    total = np.cumsum(lost + ~keep)[keep]
    before = np.diff(total, prepend=0)
    before[:1] = 0  # nothing can be missing before the first row
    return keep, [(int(row), int(before[row])) for row in np.flatnonzero(before)]


def _noise(shape: tuple[int, ...], sha256: str, settings: ImportSettings) -> Floats:
    # Every file gets noise of its own from one seed.
    random = np.random.default_rng([settings.noise_seed, int(sha256[:8], 16)])
    return np.asarray(random.standard_normal(shape) * np.asarray(settings.noise_rms))


def _stream(
    names: tuple[str, ...], name: str, rate_hz: float, settings: ImportSettings
) -> StreamSchema:
    stream = StreamSchema(
        id=1, name=settings.stream, sensor=name[:MAX_TEXT], format=f"<{settings.format}",
        channels=names, unit=settings.unit, scale=settings.scale, rate_hz=rate_hz, batch=1,
    )  # fmt: skip
    return replace(stream, batch=batch_for(stream, rate_hz))
