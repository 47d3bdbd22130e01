"""Explanation: the map of an alarm as a message, picture included.

In: the score of an alarm's worst window, and what things are called. Out: an `Explanation`, nested
JSON of at most 32 kB for topic `<b>/<asset>/explain`. Never: sends it, holds a number that JSON
doesn't know, grows with the window (more columns are pooled until it fits).
"""

from __future__ import annotations

import base64
from typing import Literal

from pydantic import BaseModel

from edge_agent.broker.payloads import known, short
from edge_agent.bundles.manifest import Sensor
from edge_agent.judging.scoring import Score
from edge_agent.picture.heat_map import Caption, heat_map
from edge_agent.picture.surprise import MAX_COLUMNS, Axis, Surprise, surprise

MAX_PAYLOAD_BYTES = 32 << 10
MAX_PICTURE_CHARACTERS = 12 << 10
MAX_NAME_BYTES = 64
# Of columns; the last always fits: 64 names, 64 x 12 numbers and the picture are under 28 kB.
POOLINGS = (MAX_COLUMNS, MAX_COLUMNS // 2, MAX_COLUMNS // 4)


class TopChannel(BaseModel):
    """A channel that carries much of the anomaly: its worst feature (empty where the channel
    itself is the feature), in which column, what was there and what the model expected, in the
    feature's own unit (null where it isn't finite)."""

    channel: str
    share: float
    feature: str
    column: str
    observed: float | None = None
    expected: float | None = None


class Explanation(BaseModel):
    """Where the model was surprised. `matrix` has a row for each of `rows` (channels in the
    sensor's order) and a number for each of `columns`: when a column begins, counted from the end
    of the window, or its band. `png` is base64, empty if the picture is too large for a message.
    """

    event_id: str
    asset: str
    ts: str
    ratio: float
    axis: Axis
    unit: str = "× normal level"
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    matrix: tuple[tuple[float, ...], ...]
    top_channels: tuple[TopChannel, ...]
    png: str
    clock_synced: Literal[False] | None = None


def explanation(
    caption: Caption, score: Score, sensor: Sensor, labels: tuple[str, ...], step_seconds: float
) -> Explanation:
    """The message on one score; `labels` and `step_seconds` as for `surprise`."""
    finest = surprise(score, sensor, labels, step_seconds)
    picture = base64.b64encode(heat_map(finest, caption)).decode()
    if len(picture) > MAX_PICTURE_CHARACTERS:
        picture = ""
    message = _message(caption, finest, picture)
    for columns in POOLINGS[1:]:
        if len(message.model_dump_json().encode()) <= MAX_PAYLOAD_BYTES:
            break
        coarser = surprise(score, sensor, labels, step_seconds, columns)
        message = _message(caption, coarser, picture)
    return message


def _message(caption: Caption, found: Surprise, picture: str) -> Explanation:
    tops = [
        TopChannel(
            channel=_name(cause.channel), share=round(cause.share, 4), feature=cause.label,
            column=found.columns[cause.column], observed=known(cause.observed),
            expected=known(cause.expected),
        )
        for cause in found.causes
    ]  # fmt: skip
    return Explanation(
        event_id=caption.event_id, asset=caption.asset, ts=caption.ts,
        ratio=short(caption.ratio), axis=found.axis,
        rows=tuple(map(_name, found.channels)), columns=found.columns,
        matrix=tuple(tuple(map(_cell, row)) for row in found.cells.tolist()),
        top_channels=tuple(tops), png=picture,
    )  # fmt: skip


def _name(name: str) -> str:
    """A name of bounded length, without what JSON would have to spell out."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in name[:MAX_NAME_BYTES])
    return printable.encode(errors="replace")[:MAX_NAME_BYTES].decode(errors="ignore")


def _cell(value: float) -> float:
    """Three digits."""
    return round(value, 3) if value < 1.0 else float(f"{value:.3g}")
