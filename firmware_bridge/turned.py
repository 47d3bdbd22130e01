"""Turned: a board that somebody turns by hand, so that a live calibration can be tried anywhere.

In: how it is turned, a seed, a sample index. Out: what its magnetometer, its accelerometer and its
thermometer say. Never: keeps a state that changes the values: sample i is a function of (how, seed,
i) alone, as for every machine (signals.py).

    full    through all attitudes, once all round every 6 s    still   lies there
    30      all round, tilted up to so many degrees            arc     a machine's own swing, level
    poses   24 attitudes held for 4 s each
"""

from __future__ import annotations

from math import pi

import numpy as np

from firmware_bridge.rotation import about
from firmware_bridge.schema import StreamSchema, write_schema
from firmware_bridge.signals import CHUNK, MAG, Chunked, Fault, Floats, at_rate
from firmware_bridge.sources import MachineSource, Source

FIELD_UT = np.array([20.0, 0.0, 44.0])  # north, east, down, as in central Europe
UP_G = np.array([0.0, 0.0, -1.0])
TURN_SECONDS, SLOW_SECONDS = 6.0, (19.0, 31.0)
POSES, POSE_SECONDS, MOVE_SECONDS = 24, 4.0, 1.5
ARC_DEG = 120.0
NOISE_UT, NOISE_G, NOISE_C = 0.35, 0.004, 0.02
DRIFT_UT_A_SECOND = 0.5
WAYS = ("full", "still", "arc", "poses")

GRAVITY = StreamSchema(
    id=1, name="accel", sensor="LIS3DH", format="<i2", channels=("x", "y", "z"), unit="g",
    scale=0.001, rate_hz=200.0, batch=10, range=16.0,
)  # fmt: skip
WARMTH = StreamSchema(
    id=3, name="temp", sensor="LIS3DH", format="<i2", channels=("t",), unit="degC", scale=0.01,
    rate_hz=2.0, batch=1,
)  # fmt: skip


class Attitudes:
    """How the board is held at each moment. Raises `ValueError` for a way that nobody turns."""

    def __init__(self, how: str, seed: int, speed: float = 1.0) -> None:
        self._how, self._speed = how, speed
        self._tilt_deg = np.nan
        if how not in WAYS:
            try:
                self._tilt_deg = float(how)
            except ValueError:
                raise ValueError(f"turn {how!r}: expected {', '.join(WAYS)} or degrees") from None
            if not 0.0 <= self._tilt_deg <= 90.0:
                raise ValueError(f"turn {how}: expected 0 to 90 degrees")
        random = np.random.default_rng([seed, 4])
        self._phases = random.uniform(0, 2 * pi, 3)
        self._poses = random.uniform((-180, -90, -180), (180, 90, 180), (POSES, 3))

    def at(self, t: Floats) -> Floats:
        """float64[n, 3, 3] that turn north-east-down into the board's axes."""
        t = t * self._speed
        heading, nose, right = np.radians(self._angles_deg(t)).T
        return about(0, right) @ about(1, -nose) @ about(2, heading)

    def _angles_deg(self, t: Floats) -> Floats:
        """Heading, nose down, right side down, [n, 3]."""
        first, second, third = self._phases
        slow = [np.sin(2 * pi * t / s + p) for s, p in zip(SLOW_SECONDS, (first, second),
                                                           strict=True)]  # fmt: skip
        turn = 360.0 * t / TURN_SECONDS
        if self._how == "still":
            return np.tile(np.degrees([first, 0.0, 0.0]), (len(t), 1))
        if self._how == "arc":
            swing = ARC_DEG * np.sin(2 * pi * t / 12.0 + third)
            return np.column_stack((np.degrees(first) + swing, 0.0 * t, 0.0 * t))
        if self._how == "poses":
            return self._held(t)
        if self._how == "full":
            return np.column_stack((turn, 85.0 * slow[0], 180.0 * slow[1]))
        return np.column_stack((turn, self._tilt_deg * slow[0], self._tilt_deg * slow[1]))

    def _held(self, t: Floats) -> Floats:
        number = np.floor(t / POSE_SECONDS).astype(np.intp)
        moved = np.clip((t / POSE_SECONDS - number) * POSE_SECONDS / MOVE_SECONDS, 0.0, 1.0)
        before, after = self._poses[(number - 1) % POSES], self._poses[number % POSES]
        return np.asarray(before + moved[:, None] * (after - before))


class TurnedMagnetometer(Chunked):
    """x, y, z in uT through hard and soft iron; drift is hard iron that grows."""

    def __init__(
        self, attitudes: Attitudes, seed: int, rate_hz: float, faults: tuple[Fault, ...] = ()
    ) -> None:
        super().__init__(("x", "y", "z"), faults, ("drift",))
        self._attitudes, self.seed, self.rate_hz = attitudes, seed, rate_hz
        random = np.random.default_rng([seed, 5])
        self.hard_iron_ut = random.uniform(-15, 15, 3)
        soft = random.uniform(-0.06, 0.06, (3, 3))
        self.soft_iron = np.eye(3) + (soft + soft.T) / 2

    def at_rate(self, rate_hz: float) -> TurnedMagnetometer:
        """The same sampled at another rate."""
        return TurnedMagnetometer(self._attitudes, self.seed, rate_hz, self.faults)

    def _chunk(self, number: int) -> Floats:
        t = np.arange(number * CHUNK, (number + 1) * CHUNK) / self.rate_hz
        noise = NOISE_UT * np.random.default_rng([self.seed, 6, number]).normal(size=(CHUNK, 3))
        rows = self._attitudes.at(t) @ FIELD_UT @ self.soft_iron.T + self.hard_iron_ut + noise
        for fault in self.faults:
            grown = fault.active(t) * (t - fault.start_s) * DRIFT_UT_A_SECOND
            rows += grown[:, None] * self._direction(fault)
        return np.asarray(rows)


class TurnedAccelerometer(Chunked):
    """x, y, z in g: +1 on the axis that points up, less what the sensor gets wrong."""

    def __init__(self, attitudes: Attitudes, seed: int, rate_hz: float) -> None:
        super().__init__(("x", "y", "z"), (), ())
        self._attitudes, self.seed, self.rate_hz = attitudes, seed, rate_hz
        random = np.random.default_rng([seed, 7])
        self.bias_g = random.uniform(-0.03, 0.03, 3)
        self.gains = np.eye(3) + np.diag(random.uniform(-0.02, 0.02, 3))

    def at_rate(self, rate_hz: float) -> TurnedAccelerometer:
        """The same sampled at another rate."""
        return TurnedAccelerometer(self._attitudes, self.seed, rate_hz)

    def _chunk(self, number: int) -> Floats:
        t = np.arange(number * CHUNK, (number + 1) * CHUNK) / self.rate_hz
        noise = NOISE_G * np.random.default_rng([self.seed, 8, number]).normal(size=(CHUNK, 3))
        return np.asarray(self._attitudes.at(t) @ UP_G @ self.gains.T + self.bias_g + noise)


class Thermometer(Chunked):
    """Degrees Celsius of a board that warms up a little."""

    def __init__(self, seed: int, rate_hz: float) -> None:
        super().__init__(("t",), (), ())
        self.seed, self.rate_hz = seed, rate_hz

    def at_rate(self, rate_hz: float) -> Thermometer:
        """The same sampled at another rate."""
        return Thermometer(self.seed, rate_hz)

    def _chunk(self, number: int) -> Floats:
        t = np.arange(number * CHUNK, (number + 1) * CHUNK) / self.rate_hz
        noise = NOISE_C * np.random.default_rng([self.seed, 9, number]).normal(size=CHUNK)
        return np.asarray((23.0 + 2.0 * (1.0 - np.exp(-t / 600.0)) + noise)[:, None])


def turned_sources(
    how: str,
    seed: int,
    speed: float,
    uid: str | None,
    rate_hz: float | None,
    faults: tuple[Fault, ...] = (),
) -> tuple[bytes, list[Source]]:
    """The schema and the sources of a board that is turned. Raises `ValueError`."""
    attitudes = Attitudes(how, seed, speed)
    mag = MAG if rate_hz is None else at_rate(MAG, rate_hz)
    sources: list[Source] = [
        MachineSource(GRAVITY, TurnedAccelerometer(attitudes, seed, GRAVITY.rate_hz)),
        MachineSource(mag, TurnedMagnetometer(attitudes, seed, mag.rate_hz, faults)),
        MachineSource(WARMTH, Thermometer(seed, WARMTH.rate_hz)),
    ]
    streams = tuple(source.stream for source in sources)
    name = uid or (b"turned".hex() + f"{seed:08x}").rjust(24, "0")[-24:]
    return write_schema("simulated", name, "0.1.0", streams), sources
