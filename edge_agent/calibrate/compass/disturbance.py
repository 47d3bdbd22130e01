"""Disturbance: whether the field about a calibrated compass is still the one it was calibrated in.

In: the calibration in use, corrected batches of the board. Out: a `CompassHealth` whenever it
changes. Never: corrects anything, says "disturbed" for a passing tool: out of the band for 5 s is,
and it takes 30 s within it to be well again. Memory: a few numbers.

Length of the field within 5 % and dip within 3 degrees of what they were, both smoothed over 1 s;
where the dip scattered while the board was turned (an accelerometer that nobody calibrated does
that), twice that scatter more. Without an accelerometer only the length is watched. The dip counts
without its sign, as some sensors read gravity and some its opposite, and not while the board moves.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import numpy as np

from edge_agent.calibrate.shelf.stored import Stored
from edge_agent.calibrate.sphere import Floats
from edge_agent.calibrate.streams import axes, gravity_beside
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema

CompassState: TypeAlias = Literal["ok", "disturbed", "uncalibrated"]

NORM_SHARE, DIP_DEG, DIP_SIGMAS = 0.05, 3.0, 2.0
SMOOTHED_SECONDS = 1.0
ON_SECONDS, OFF_SECONDS = 5.0, 30.0
# Gravity turning faster than this in a second is the board's motion, not its dip.
MOVING_SHARE = 0.1


class CompassHealth(NamedTuple):
    """`norm_ratio` is the field's length over the calibrated one, `dip_deg` its dip if gravity is
    felt; `since_s` is when the word became this one, in the seconds of the samples."""

    state: CompassState
    since_s: float
    norm_ratio: float | None = None
    dip_deg: float | None = None
    calibration: str | None = None


class _Smoothed:
    """An exponential mean over `SMOOTHED_SECONDS`."""

    def __init__(self) -> None:
        self.value: Floats | None = None

    def take(self, rows: Floats, seconds: float) -> Floats:
        """`rows` [n, k] lasted so long."""
        mean = np.asarray(rows.mean(axis=0), np.float64)
        share = 1.0 - np.exp(-seconds / SMOOTHED_SECONDS)
        self.value = mean if self.value is None else self.value + share * (mean - self.value)
        return self.value


class Watch:
    """Watches one board's compass. Raises `ValueError` if `stored` is none, or the board has not
    got its stream."""

    def __init__(self, stored: Stored, schema: Schema) -> None:
        if stored.correction is None or stored.band is None:
            raise ValueError(f"{stored.id} tells no band to watch")
        name = stored.correction.stream
        stream = next((s for s in schema.streams if s.name == name), None)
        if stream is None:
            raise ValueError(f"the board has no stream {name}")
        self._stored, self._band = stored, stored.band
        self._stream, self._axes = stream.id, axes(stream)
        still = gravity_beside(schema, stream) if self._band.dip_deg is not None else None
        self._still = still.id if still else None
        self._still_axes = axes(still) if still else []
        self._length, self._sine, self._down = _Smoothed(), _Smoothed(), _Smoothed()
        self._moving = True
        self._state: CompassState = "ok"
        self._since_s: float | None = None
        self._other_s: float | None = None

    def take(self, samples: Samples) -> CompassHealth | None:
        """What a corrected batch changes: the first health after a second, then every other
        word."""
        seconds = len(samples.values) / samples.rate_hz
        if samples.stream == self._still:
            self._feel(samples.values[:, self._still_axes].astype(np.float64), seconds)
            return None
        if samples.stream != self._stream:
            return None
        field = samples.values[:, self._axes].astype(np.float64)
        self._length.take(np.linalg.norm(field, axis=1)[:, None], seconds)
        self._dip(field, seconds)
        return self._judge(samples.t0 + seconds)

    def health(self) -> CompassHealth:
        """How it is now; `since_s` is 0 before the first sample."""
        length, sine = self._length.value, self._sine.value
        ratio = None if length is None else float(length[0]) / self._band.radius
        dip = None if sine is None else float(np.degrees(np.arcsin(np.clip(sine[0], 0.0, 1.0))))
        return CompassHealth(
            self._state, self._since_s or 0.0,
            None if ratio is None else round(ratio, 4),
            None if dip is None else round(dip, 2), self._stored.id,
        )  # fmt: skip

    def _feel(self, rows: Floats, seconds: float) -> None:
        before = self._down.value
        down = self._down.take(rows, seconds)
        now = rows.mean(axis=0)
        away = float(np.linalg.norm(now - down)) if before is not None else np.inf
        self._moving = away > MOVING_SHARE * float(np.linalg.norm(down))

    def _dip(self, field: Floats, seconds: float) -> None:
        down = self._down.value
        if down is None or self._moving:
            return
        lengths = np.linalg.norm(field, axis=1) * np.linalg.norm(down)
        sines = np.abs(field @ down) / np.maximum(lengths, np.finfo(float).tiny)
        self._sine.take(sines[:, None], seconds)

    def _judge(self, now_s: float) -> CompassHealth | None:
        first = self._since_s is None
        if self._since_s is None:
            self._since_s = now_s
        out = self._out()
        if out == (self._state == "disturbed"):
            self._other_s = None
        elif self._other_s is None:
            self._other_s = now_s
        elif now_s - self._other_s >= (ON_SECONDS if out else OFF_SECONDS):
            self._state, self._since_s = ("disturbed" if out else "ok"), self._other_s
            self._other_s = None
            return self.health()
        return self.health() if first else None

    def _out(self) -> bool:
        """Whether length or dip is beside the band now."""
        health, calibrated = self.health(), self._band.dip_deg
        ratio = 1.0 if health.norm_ratio is None else health.norm_ratio
        if abs(ratio - 1.0) > NORM_SHARE:
            return True
        if calibrated is None or health.dip_deg is None:
            return False
        band_deg = DIP_DEG + DIP_SIGMAS * self._band.dip_sigma_deg
        return abs(health.dip_deg - calibrated) > band_deg
