"""Listening: a live check that needs no poses: taps beside the sensor, or a calibrator under it.

In: batches of the accelerometer. Out: `Progress`, and rows without a gap. Never: stores anything,
keeps more than half a minute.
"""

from __future__ import annotations

from collections import deque
from typing import Literal, TypeAlias

import numpy as np

from edge_agent.calibrate.accel.seconds import LEAST_RATE_HZ
from edge_agent.calibrate.accel.tap import LEAST_ROWS, LEAST_TAPS, tapped
from edge_agent.calibrate.accel.units import in_g
from edge_agent.calibrate.shelf.stored import Draft, Kind
from edge_agent.calibrate.sitting.task import CannotCalibrate, Progress, Refused
from edge_agent.calibrate.sphere import Floats
from edge_agent.calibrate.streams import NoStream, accelerometer, axes
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema, StreamSchema

What: TypeAlias = Literal["tap", "shaker"]
KEPT_SECONDS, LIMIT_SECONDS, SHAKEN_SECONDS = 30.0, 60.0, 5.0
WANTED_TAPS = 5
WORDS = {
    "tap": ("Tap the machine beside the sensor with a screwdriver, five times, a second apart.",
            "tap again, sharply, and wait a second"),
    "shaker": ("Put the sensor on the calibrator, switch that on, and hold still.",
               "hold on for five seconds"),
}  # fmt: skip


class Listening:
    """A `Task` that ends by itself when it has heard enough."""

    kind: Kind = "accel"
    limit_seconds = LIMIT_SECONDS

    def __init__(self, what: What, stream: str | None = None) -> None:
        self.what, self._name = what, stream
        self.stream: StreamSchema | None = None
        self.rate_hz = 0.0
        self._kept: deque[Floats] = deque()
        self._count = 0

    @property
    def streams(self) -> tuple[int, ...]:
        """The accelerometer."""
        return () if self.stream is None else (self.stream.id,)

    def begin(self, schema: Schema) -> None:
        """Finds the accelerometer. Raises `CannotCalibrate`."""
        try:
            self.stream = accelerometer(schema, self._name)
        except NoStream as error:
            raise CannotCalibrate(str(error)) from None
        if in_g(self.stream.unit) is None or self.stream.rate_hz < LEAST_RATE_HZ:
            raise CannotCalibrate(f"stream {self.stream.name} is no accelerometer")
        self.rate_hz = self.stream.rate_hz
        tapped(np.zeros((LEAST_ROWS, 3)), self.rate_hz)  # loads what takes half a second

    def take(self, samples: Samples) -> None:
        """Keeps the last half minute since the last gap."""
        if self.stream is None or samples.stream != self.stream.id:
            return
        if not samples.contiguous:
            self._kept.clear()
            self._count = 0
        self.rate_hz = samples.rate_hz
        unit_g = in_g(self.stream.unit) or 1.0
        rows = samples.values[:, axes(self.stream)].astype(np.float64) * unit_g
        self._kept.append(rows)
        self._count += len(rows)
        while self._count > KEPT_SECONDS * self.rate_hz:
            self._count -= len(self._kept.popleft())

    @property
    def rows(self) -> Floats:
        """What was heard, [n, 3] in g."""
        return np.concatenate(self._kept) if self._kept else np.empty((0, 3))

    def progress(self) -> Progress:
        """How many taps, or how long it has been shaken."""
        title, move = WORDS[self.what]
        if self.what == "tap":
            count = tapped(self.rows, self.rate_hz).taps if self._count else 0
            done, wanted, said = count, WANTED_TAPS, f"{count} of {WANTED_TAPS} taps"
        else:
            seconds = self._count / self.rate_hz
            done, wanted = int(min(seconds, SHAKEN_SECONDS)), int(SHAKEN_SECONDS)
            said = f"{seconds:.0f} of {wanted} s heard"
        over = done >= wanted
        return Progress(
            title, said, "done" if over else move, picture=("", " ".join(
                ("#" if i < done else ".") * 6 for i in range(wanted))), over=over,
            acceptable=self.what == "shaker" or done >= LEAST_TAPS, fields={self.what: done},
        )  # fmt: skip

    def finish(self, board: str, temperature_c: float | None) -> Draft | Refused:
        """Nothing is stored of a check."""
        return Refused("a check is not stored", "")

    def partial(self) -> bytes | None:
        """Nothing worth keeping."""
        return None

    def resume(self, content: bytes) -> bool:
        """Nothing to go on from."""
        return False
