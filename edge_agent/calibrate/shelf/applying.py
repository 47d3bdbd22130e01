"""Applying: readings become what they mean, for everything that the service and replay judge.

In: the calibrations in use and the schema of the board that answers; batches of its streams. Out:
the same batches, corrected. Never: loads SciPy, touches a channel that is none of x, y and z,
corrects a stream whose unit is another than it was calibrated in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.shelf.stored import Correction, Stored
from edge_agent.calibrate.sphere import Floats
from edge_agent.calibrate.streams import axes
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema, StreamSchema


class _Change(NamedTuple):
    """Of one stream: columns of x, y and z, and `turned` @ reading - `shift`."""

    id: str
    columns: list[int]
    turned: Floats
    shift: Floats


class Applied:
    """The calibrations of one board in use. `refusals` says in one line each what is not."""

    def __init__(self, calibrations: Sequence[Stored], schema: Schema) -> None:
        self.calibrations = tuple(calibrations)
        self.refusals: list[str] = []
        self._changes: dict[int, _Change] = {}
        for stored in self.calibrations:
            refusal = stored.refusal(schema.uid) or self._take(stored, schema)
            if refusal:
                self.refusals.append(refusal)

    @property
    def ids(self) -> tuple[str, ...]:
        """What is applied."""
        return tuple(change.id for change in self._changes.values())

    def id_of(self, stream: int) -> str | None:
        """What the batches of this stream are corrected by."""
        change = self._changes.get(stream)
        return change.id if change else None

    def apply(self, samples: Samples) -> Samples:
        """The batch, corrected if its stream was calibrated; `values` stays float32[n, channel]."""
        change = self._changes.get(samples.stream)
        if change is None:
            return samples
        values: NDArray[np.float32] = samples.values.copy()
        rows = values[:, change.columns].astype(np.float64)
        values[:, change.columns] = rows @ change.turned.T - change.shift
        return samples._replace(values=values)

    def _take(self, stored: Stored, schema: Schema) -> str | None:
        correction = stored.correction
        if correction is None:
            return None
        stream = next((s for s in schema.streams if s.name == correction.stream), None)
        if stream is None or len(stream.channels) < 3:
            names = ", ".join(s.name for s in schema.streams)
            return f"calibration {stored.id} is of stream {correction.stream}; there are {names}"
        if stream.unit != correction.unit:
            return (
                f"calibration {stored.id} is in {correction.unit}, and stream {stream.name} is now "
                f"in {stream.unit}: it is not applied; calibrate again"
            )
        self._changes[stream.id] = _change(stored.id, correction, stream)
        return None


def _change(name: str, correction: Correction, stream: StreamSchema) -> _Change:
    matrix = np.array(correction.matrix)
    return _Change(name, axes(stream), matrix, matrix @ np.array(correction.bias))
