"""Live compass: the compass calibrated while the board is being turned.

In: batches of the magnetometer, and of an accelerometer if the board has one. Out: progress twice a
second, and a draft for the shelf or a refusal. Never: judges otherwise than `compass.py` does from
a file, lets a rest outweigh the turn, calls a board good whose turn has left out half of the world.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_agent.calibrate.compass.accuracy import USUAL_DIP_DEG
from edge_agent.calibrate.compass.calibration import Calibration
from edge_agent.calibrate.compass.compass import AGAIN, NOWHERE, calibrate, calibrate_fixed
from edge_agent.calibrate.compass.gravity import still
from edge_agent.calibrate.compass.guide import Guide
from edge_agent.calibrate.compass.kept import QUOTA, QUOTA_OF_AN_ARC, Kept
from edge_agent.calibrate.compass.pairing import Pairing
from edge_agent.calibrate.compass.screening import LEAST_READINGS as LEAST_TO_FIT
from edge_agent.calibrate.compass.screening import unusable
from edge_agent.calibrate.compass.site import Site
from edge_agent.calibrate.compass.sphere_map import sphere_map
from edge_agent.calibrate.heading import unit
from edge_agent.calibrate.reading.readings import Readings
from edge_agent.calibrate.shelf.applying import Applied
from edge_agent.calibrate.shelf.stored import Band, Correction, Draft, Kind, Stored
from edge_agent.calibrate.sitting.task import CannotCalibrate, Progress, Refused
from edge_agent.calibrate.sphere import (
    MAD_TO_SIGMA,
    SECTIONS,
    Floats,
    coverage,
    sections,
    trimmed_sphere,
)
from edge_agent.calibrate.streams import NoStream, axes, gravity_beside, magnetometer
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema, StreamSchema

LIMIT_SECONDS = 600.0
NEEDED_READINGS, LEAST_READINGS = 300, 100
# As many sections as a board shows that was tipped by 45 degrees to all sides.
NEEDED_SECTIONS = 45
RESTS = "the board rests: turn it, or nothing can be told"
# A fit of more takes longer than 50 ms on a small gateway, and shows the same.
FITTED_LIVE = 1000
# A dip that scatters more says that the two sensors do not belong together.
STEADY_DIP_DEG = 6.0


class LiveCompass:
    """A `Task`. `fixed`: the board cannot be turned, so only the hard iron is asked for; `beneath`
    is the accelerometer's calibration, if there is one: gravity is felt through it."""

    kind: Kind = "compass"

    def __init__(
        self, stream: str | None = None, fixed: bool = False, site: Site = NOWHERE,
        limit_seconds: float = LIMIT_SECONDS, beneath: Sequence[Stored] = (),
    ) -> None:  # fmt: skip
        self.limit_seconds = limit_seconds
        self._beneath = beneath
        self.fixed, self.site = fixed, site
        self.found: Calibration | None = None
        self.kept: Kept | None = None
        self._name = stream
        self._guide = Guide()
        self._now: Floats | None = None

    @property
    def streams(self) -> tuple[int, ...]:
        """The magnetometer's, and the accelerometer's if there is one."""
        return (self._stream.id, *((self._still.id,) if self._still else ()))

    def begin(self, schema: Schema) -> None:
        """Finds the magnetometer. Raises `CannotCalibrate`."""
        try:
            self._stream: StreamSchema = magnetometer(schema, self._name)
        except NoStream as error:
            raise CannotCalibrate(str(error)) from None
        self._still = gravity_beside(schema, self._stream)
        self._pairing = Pairing(self._still is not None)
        self._applied = Applied([s for s in self._beneath if s.kind == "accel"], schema)
        quota = QUOTA_OF_AN_ARC if self.fixed else QUOTA
        self.kept = Kept(schema, self._stream, quota)
        calibrate(_nothing())  # loads what takes half a second

    def take(self, samples: Samples) -> None:
        """Both streams are put together later."""
        if samples.stream == self._stream.id:
            rows = samples.values[:, axes(self._stream)].astype(np.float64)
            self._now = rows[-1]
            self._pairing.field(samples.t0, samples.rate_hz, rows)
        elif self._still is not None and samples.stream == self._still.id:
            felt = self._applied.apply(samples).values
            rows = felt[:, axes(self._still)].astype(np.float64)
            self._pairing.feel(samples.t0, samples.rate_hz, rows)

    def progress(self) -> Progress:
        """The fit of what is kept now, in at most 50 ms."""
        assert self.kept is not None
        self.kept.add(self._pairing.paired())
        readings = self.kept.readings()
        self.found = found = self._fit(_some(readings))
        count = len(readings.field)
        good = found.verdict == "pass" and found.coverage >= NEEDED_SECTIONS
        enough = good and count >= NEEDED_READINGS and not self.fixed
        acceptable = found.verdict != "fail" and (count >= LEAST_READINGS or self.fixed)
        return Progress(
            title=self._title(), headline=_headline(found, len(self.kept.recent)),
            next_move=self._next(found, readings, enough), verdict=found.verdict,
            picture=self._picture(found, readings), rows=self._rows(found, readings),
            enough=enough, acceptable=acceptable, fields=_fields(found, readings),
        )  # fmt: skip

    def finish(self, board: str, temperature_c: float | None) -> Draft | Refused:
        """The fit of everything that was kept."""
        assert self.kept is not None
        readings = self.kept.readings()
        self.found = found = self._fit(readings)
        if found.verdict == "fail" or found.bias is None or found.matrix is None:
            return Refused(found.reason, found.next_move)
        assert found.error is not None
        assert found.radius is not None
        assert readings.uid is not None
        stream = self._stream
        rows = [tuple(row) for row in found.matrix.tolist()]
        return Draft.model_validate({
            "kind": "compass", "board": board, "uid": readings.uid, "verdict": found.verdict,
            "reason": found.reason, "error": found.error.sigma_deg, "error_unit": "deg",
            "correction": Correction(
                stream=stream.name, unit=stream.unit, bias=tuple(found.bias.tolist()),
                matrix=(rows[0], rows[1], rows[2]), offset_only=self.fixed,
            ),
            "band": band(found, readings),
            "temperature_c": temperature_c, "details": _details(found, readings, self.site),
        })  # fmt: skip

    def partial(self) -> bytes | None:
        """The kept rows, some 150 kB."""
        return self.kept.save() if self.kept is not None and len(self.kept.rows) else None

    def resume(self, content: bytes) -> bool:
        """Goes on with them."""
        return self.kept is not None and self.kept.restore(content)

    def _fit(self, readings: Readings) -> Calibration:
        assert self.kept is not None
        few = self.kept.cloud or len(readings.field) < LEAST_TO_FIT
        if few and len(self.kept.recent) >= LEAST_TO_FIT:
            # Too little is different: what is wrong with all that came?
            problem = unusable(self.kept.recent) or RESTS
            return Calibration("fail", problem, AGAIN)
        found = calibrate_fixed(readings, self.site) if self.fixed else None
        return found or calibrate(readings, self.site)

    def _title(self) -> str:
        if self.fixed:
            return "Hard iron only: let the machine turn the board as far as it goes, both ways"
        return "Turn the board slowly, 10 s a turn, away from tools, phones and steel"

    def _rows(self, found: Calibration, readings: Readings) -> tuple[tuple[str, str], ...]:
        count, needed = len(readings.field), LEAST_READINGS if self.fixed else NEEDED_READINGS
        told = f"{count} readings, {needed} are enough; {found.coverage} of {SECTIONS} sections"
        rows = [("kept", told if self.fixed else f"{told}, {NEEDED_SECTIONS} are enough")]
        if found.error is not None:
            worst = f"{found.error.worst_deg:.2f}° at the worst heading"
            rows.append(("error", f"{found.error.sigma_deg:.2f}° of heading predicted, {worst}"))
        if found.radius is not None and found.radius_cv is not None:
            scale = f"{found.radius:.4g} {readings.unit}"
            rows.append(("field", f"{scale}, constant to {found.radius_cv:.2%}"))
        beside = "with gravity" if readings.acceleration is not None else "without accelerometer"
        rows.append(("method", f"{found.method}, {beside}"))
        return tuple(rows)

    def _next(self, found: Calibration, readings: Readings, enough: bool) -> str:
        if enough:
            return "hold on: it is good, and ends by itself in three seconds"
        if self.fixed:
            return found.next_move or "Enter takes it as it is"
        if found.coverage >= NEEDED_SECTIONS and found.verdict != "pass" and found.next_move:
            return found.next_move
        seen = found.seen if found.seen is not None else _roughly(readings.field)
        dip = USUAL_DIP_DEG if found.dip_deg is None else found.dip_deg
        return self._guide.advice(seen, dip, found.z_up)

    def _picture(self, found: Calibration, readings: Readings) -> tuple[str, ...]:
        seen = found.seen if found.seen is not None else _roughly(readings.field)
        now = None
        if self._now is not None and found.seen is not None:
            now = int(sections(found.correct(self._now[None, :]))[0])
        return sphere_map(seen, now, found.z_up)


def band(found: Calibration, readings: Readings) -> Band:
    """Length and dip as the disturbance watch will measure them; no dip if no accelerometer
    tells, or if it does not belong to this field."""
    assert found.radius is not None
    length = Band(radius=found.radius)
    if readings.acceleration is None:
        return length
    use = still(readings.acceleration)
    corrected = found.correct(readings.field[use])
    sines = np.einsum("ij,ij->i", unit(corrected), unit(readings.acceleration[use]))
    dips = np.degrees(np.arcsin(np.clip(np.abs(sines), 0.0, 1.0)))
    middle = float(np.median(dips))
    scatter = MAD_TO_SIGMA * float(np.median(np.abs(dips - middle)))
    if scatter > STEADY_DIP_DEG:
        return length
    told = {"dip_deg": round(middle, 3), "dip_sigma_deg": round(scatter, 3)}
    return length.model_copy(update=told)


def _some(readings: Readings) -> Readings:
    """Evenly fewer of them, for a quick fit."""
    every = -(-len(readings.field) // FITTED_LIVE) if len(readings.field) else 1
    gravity, seconds = readings.acceleration, readings.seconds
    return readings._replace(
        field=readings.field[::every],
        acceleration=None if gravity is None else gravity[::every],
        seconds=None if seconds is None else seconds[::every],
    )


def _roughly(field: Floats) -> Any:
    """Sections by a rough sphere, while there is no fit."""
    if len(field) < LEAST_TO_FIT:
        return np.zeros(SECTIONS, np.bool_)
    away = field - trimmed_sphere(field).centre
    return coverage(away[np.linalg.norm(away, axis=1) > 0.0])


def _headline(found: Calibration, came: int) -> str:
    if found.error is None and came < LEAST_TO_FIT:
        return f"{came} readings so far"
    return found.reason


def _fields(found: Calibration, readings: Readings) -> dict[str, Any]:
    error = found.error
    return {
        "kept": len(readings.field), "needed": NEEDED_READINGS, "coverage": found.coverage,
        "heading_sigma_deg": None if error is None else round(error.sigma_deg, 4),
    }  # fmt: skip


def _details(found: Calibration, readings: Readings, site: Site) -> dict[str, Any]:
    """What a person may want to know of it later."""
    field = site.field
    return {
        "method": found.method, "readings": len(readings.field), "rejected": found.rejected,
        "coverage": found.coverage, "noise_share": found.noise, "radius_cv": found.radius_cv,
        "worst_heading_sigma_deg": found.error.worst_deg if found.error else None,
        "rotation_deg": found.rotation_deg, "next_move": found.next_move,
        "latitude": site.latitude, "longitude": site.longitude,
        "declination_deg": field.declination_deg if field else None,
    }  # fmt: skip


def _nothing() -> Readings:
    """A ball of readings, for the first fit, which loads SciPy."""
    spread = np.random.default_rng(0).normal(size=(LEAST_READINGS, 3))
    return Readings("", unit(spread), None, None, None, None, 0, ())
