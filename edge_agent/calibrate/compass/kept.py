"""Kept: the readings of a live calibration, spread over the sphere, and what of them is saved.

In: rows of seconds, field and gravity as they come. Out: some thousand of them, as `Readings`.
Never: grows while the board rests, trusts the file of an interrupted sitting.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_agent.calibrate.compass.thinning import HEIGHTS, TURNS, spread
from edge_agent.calibrate.reading.readings import MOST, Readings
from edge_agent.calibrate.shelf.stored import Number, Text
from edge_agent.calibrate.sphere import MAD_TO_SIGMA, Floats, Sphere, trimmed_sphere
from firmware_bridge.schema import Schema, StreamSchema

# Two of each 3.6 degrees: noise is a tenth of that, so a third would tell little more. An arc has
# few of these cells, so a board that cannot be turned keeps more of each.
QUOTA, QUOTA_OF_AN_ARC = 2, 8
LIMIT_ROWS = QUOTA_OF_AN_ARC * HEIGHTS * TURNS
COLUMNS = 7
RECENT_ROWS = 600
# Before there is a sphere nothing can be spread over it.
LEAST_TO_SPREAD = 30
# Readings that scatter so far about their sphere, as a share of its radius, are none.
CLOUD_SHARE, CLOUD_ROWS = 0.3, 10
# With so many spread over a sphere there is one, and a magnet that passes takes nothing away.
SURELY_A_SHAPE = 60

Row = Annotated[tuple[Number | None, ...], Field(min_length=COLUMNS, max_length=COLUMNS)]


class Partial(BaseModel):
    """What an interrupted sitting leaves: of which board and stream, and the rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    uid: Text
    stream: Text
    unit: Text
    rows: Annotated[tuple[Row, ...], Field(max_length=LIMIT_ROWS)]


class Kept:
    """Rows [n, 7]: seconds, x, y, z of the field, x, y, z of gravity (NaN where not known);
    `recent` are the last fields [n, 3] as they came, however much alike; `cloud` says that they
    have no shape, as of a board that rests."""

    def __init__(self, schema: Schema, stream: StreamSchema, quota: int = QUOTA) -> None:
        self._uid, self._stream, self._quota = schema.uid, stream, quota
        self.recent: Floats = np.empty((0, 3))
        self.rows: Floats = np.empty((0, COLUMNS))
        self.cloud, self._shapeless = False, True
        self.seen = self.dropped = 0

    def add(self, rows: Floats) -> None:
        """Takes rows in, and lets go of what is more than is needed of a direction."""
        good = np.all(np.abs(rows[:, 1:4]) < MOST, axis=1)
        self.seen += len(rows)
        self.dropped += int(len(good) - good.sum())
        self.rows = np.vstack((self.rows, rows[good]))
        self.recent = np.vstack((self.recent, rows[good, 1:4]))[-RECENT_ROWS:]
        if len(self.rows) > LEAST_TO_SPREAD:
            field = self.rows[:, 1:4]
            sphere = trimmed_sphere(field)
            self.cloud = self._shapeless and _is_cloud(field, sphere)
            self._shapeless = self._shapeless and (self.cloud or len(field) < SURELY_A_SHAPE)
            if self.cloud:
                # It rests: noise has all directions about its own middle.
                self.rows = np.vstack((self.rows[:CLOUD_ROWS], self.rows[-CLOUD_ROWS:]))
            else:
                self.rows = self.rows[spread(field, sphere, self._quota)]

    def readings(self) -> Readings:
        """What the method works with; gravity only if nearly every row has it."""
        gravity = self.rows[:, 4:]
        known = np.isfinite(gravity).all(axis=1)
        rows = self.rows
        acceleration = None
        if len(rows) and known.mean() > 0.5:
            rows = rows[known]
            acceleration = rows[:, 4:]
        stream = self._stream
        return Readings(
            f"board {self._uid}", rows[:, 1:4], acceleration, rows[:, 0], stream.unit, self._uid,
            self.dropped, (),
        )  # fmt: skip

    def save(self) -> bytes:
        """For `restore`."""
        rows = tuple(
            tuple(float(f"{value:.7g}") if np.isfinite(value) else None for value in row)
            for row in self.rows.tolist()
        )
        stream = self._stream
        told = Partial(uid=self._uid, stream=stream.name, unit=stream.unit, rows=rows)
        return told.model_dump_json().encode()

    def restore(self, content: bytes) -> bool:
        """Goes on with these rows, if they are of this very board and stream."""
        try:
            told = Partial.model_validate_json(content)
        except (ValidationError, RecursionError):
            return False
        stream = self._stream
        if (told.uid, told.stream, told.unit) != (self._uid, stream.name, stream.unit):
            return False
        if not told.rows or any(None in row[:4] for row in told.rows):
            return False
        rows = np.array([[np.nan if v is None else v for v in row] for row in told.rows])
        self.rows = np.vstack((rows, self.rows))
        return True


def _is_cloud(field: Floats, sphere: Sphere) -> bool:
    distances = np.linalg.norm(field - sphere.centre, axis=1)
    scatter = MAD_TO_SIGMA * float(np.median(np.abs(distances - np.median(distances))))
    return scatter >= CLOUD_SHARE * sphere.radius
