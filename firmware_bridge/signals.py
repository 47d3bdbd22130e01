"""Signals: a machine that can fall ill on schedule, as numbers.

In: a seed, a sample index, a number of samples. Out: float64[n, channel] in the sensor's unit.
Never: keeps a state that changes the values. Sample i is a function of (seed, i) alone, so the
block size is free and two runs agree bit for bit.

Everything is computed in chunks of fixed size on a fixed grid: that is what makes it so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from math import ceil, pi
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.schema import StreamSchema, write_schema

Floats: TypeAlias = NDArray[np.float64]

CHUNK = 1024
RESONANCE_TAPS = 128
# Where a fault shows most if nobody says otherwise.
USUAL_CHANNEL = {"bearing": "y", "unbalance": "x", "looseness": "z", "drift": "x"}
FAULT_FORM = "KIND:START[:END[:SEVERITY[:CHANNEL]]], times in seconds"
MACHINE_FAULTS = {"vibration": ("bearing", "unbalance", "looseness"), "compass": ("drift",)}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong from `start_s` to `end_s` (None: for good). `severity` 1 is a clear case;
    `channel` is where it shows most, None is the kind's usual place."""

    kind: str
    start_s: float
    end_s: float | None = None
    severity: float = 1.0
    channel: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in USUAL_CHANNEL:
            raise ValueError(f"fault {self.kind!r}, expected one of: {', '.join(USUAL_CHANNEL)}")
        if self.start_s < 0 or (self.end_s is not None and self.end_s <= self.start_s):
            raise ValueError(f"fault {self.kind}: {self.start_s} to {self.end_s} s is no interval")

    def active(self, t: Floats) -> Floats:
        """Severity at each time, 0 outside the interval."""
        end_s = np.inf if self.end_s is None else self.end_s
        return np.where((t >= self.start_s) & (t < end_s), self.severity, 0.0)


def parse_fault(text: str) -> Fault:
    """KIND:START[:END[:SEVERITY[:CHANNEL]]] as a fault; `ValueError` says what is wrong."""
    kind, start_s, end_s, severity, channel = (text.split(":") + [""] * 5)[:5]
    try:
        end = float(end_s) if end_s else None
        return Fault(kind, float(start_s), end, float(severity or 1), channel or None)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error}; expected {FAULT_FORM}") from None


class Machine(Protocol):
    """Whatever a sensor can be bolted to."""

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the columns."""
        ...

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What happens when."""
        ...

    def at_rate(self, rate_hz: float) -> Machine:
        """The same machine sampled at another rate."""
        ...

    def values(self, start: int, n: int) -> Floats:
        """Samples start .. start + n, float64[n, channel]."""
        ...


class Chunked:
    """Cuts any block out of chunks on a fixed grid; remembers the last two."""

    def __init__(
        self, channels: tuple[str, ...], faults: tuple[Fault, ...], kinds: tuple[str, ...]
    ) -> None:
        for fault in faults:
            if fault.kind not in kinds:
                raise ValueError(f"fault {fault.kind}: this machine has only {', '.join(kinds)}")
            if fault.channel is not None and fault.channel not in channels:
                raise ValueError(f"fault {fault.kind}: no channel {fault.channel!r} in {channels}")
        self.channels = channels
        self.faults = faults
        self._cached = lru_cache(maxsize=2)(self._chunk)

    def values(self, start: int, n: int) -> Floats:
        """Samples start .. start + n, float64[n, channel]."""
        first, last = start // CHUNK, (start + n - 1) // CHUNK
        chunks = [self._cached(number) for number in range(first, last + 1)]
        rows = chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
        return rows[start - first * CHUNK :][:n]

    def _chunk(self, number: int) -> Floats:
        raise NotImplementedError

    def _direction(self, fault: Fault) -> Floats:
        """How much of a fault each channel sees: all of it, or the crosstalk of a stiff casing."""
        at = self.channels.index(fault.channel or USUAL_CHANNEL[fault.kind])
        return np.where(np.arange(len(self.channels)) == at, 1.0, 0.15)


@dataclass(frozen=True, slots=True)
class VibrationSettings:
    """A small motor with a fan, seen by an accelerometer; accelerations in g."""

    shaft_hz: float = 29.5
    # (time s, shaft Hz) points, straight lines between: a declared speed profile.
    profile: tuple[tuple[float, float], ...] = ()
    # Order of the shaft speed -> amplitude: unbalance, misalignment, fan blades, and so on.
    harmonics: tuple[tuple[float, float], ...] = (
        (1.0, 0.045), (2.0, 0.030), (3.0, 0.018), (7.0, 0.050), (12.0, 0.040), (24.0, 0.018),
    )  # fmt: skip
    noise_g: float = 0.018
    resonance_noise_g: float = 0.014
    resonance_hz: float = 1130.0
    resonance_damping: float = 0.035
    axis_gains: tuple[float, float, float] = (1.0, 0.85, 0.6)
    gravity_g: float = 1.0
    # Ball passes of the outer race a turn of the shaft (a 6204 bearing).
    bpfo_order: float = 3.05
    bearing_g: float = 0.17
    wander: float = 0.004
    load_swing: float = 0.06


class VibrationMachine(Chunked):
    """Three axes x, y, z in g. Phases and wander come from the seed, noise from seed and chunk."""

    def __init__(
        self,
        seed: int,
        rate_hz: float,
        faults: tuple[Fault, ...] = (),
        settings: VibrationSettings | None = None,
    ) -> None:
        super().__init__(("x", "y", "z"), faults, MACHINE_FAULTS["vibration"])
        self.seed, self.rate_hz = seed, rate_hz
        self.settings = settings or VibrationSettings()
        random = np.random.default_rng([seed, 0])
        self._phases = random.uniform(0, 2 * pi, (len(self.settings.harmonics), 3))
        self._loose_phases = random.uniform(0, 2 * pi, (24, 3))
        # Three slow waves stand for what load, mains and temperature do to speed and level.
        self._wave_hz = random.uniform(0.01, 0.12, (2, 3))
        self._wave_phase = random.uniform(0, 2 * pi, (2, 3))
        self._resonance = self._impulse_response()

    def at_rate(self, rate_hz: float) -> VibrationMachine:
        """The same machine sampled at another rate."""
        return VibrationMachine(self.seed, rate_hz, self.faults, self.settings)

    def turns(self, t: Floats) -> Floats:
        """Turns of the shaft since t = 0: the integral of the speed, in closed form."""
        settings = self.settings
        wave_hz, phase = self._wave_hz[0], self._wave_phase[0]
        swing = (np.cos(phase) - np.cos(2 * pi * wave_hz * t[:, None] + phase)) / (2 * pi * wave_hz)
        wander = settings.shaft_hz * settings.wander * swing.sum(axis=1) / 3
        if not settings.profile:
            return np.asarray(settings.shaft_hz * t + wander)
        times, speeds = np.array(settings.profile, dtype=np.float64).T
        areas = [(b - a) * (v + w) / 2 for (a, v), (b, w) in pairwise(settings.profile)]
        before = np.concatenate([[0.0], np.cumsum(areas)])
        at = np.clip(np.searchsorted(times, t, side="right") - 1, 0, len(times) - 1)
        speed_now = np.interp(t, times, speeds)
        return np.asarray(wander + before[at] + (t - times[at]) * (speeds[at] + speed_now) / 2)

    def _chunk(self, number: int) -> Floats:
        settings = self.settings
        index = np.arange(number * CHUNK - RESONANCE_TAPS + 1, (number + 1) * CHUNK)
        t = index / self.rate_hz
        turns = self.turns(t)
        noise = np.concatenate([self._noise(number - 1), self._noise(number)])[-len(index) :]
        shock = settings.resonance_noise_g * noise[:, 3:6]
        for fault in self.faults:
            if fault.kind == "bearing":
                shock = shock + self._impacts(fault, t, turns, noise[:, 6])
        t, turns, noise = t[-CHUNK:], turns[-CHUNK:], noise[-CHUNK:]
        gains = np.array(settings.axis_gains)
        rows = self._load(t)[:, None] * self._harmonics(turns) * gains
        rows += settings.noise_g * noise[:, :3]
        for axis in range(3):
            rows[:, axis] += np.convolve(shock[:, axis], self._resonance, "valid")
        rows[:, 2] += settings.gravity_g
        for fault in self.faults:
            if fault.kind != "bearing" and fault.active(t).any():
                rows += self._slow_fault(fault, t, turns)
        return np.asarray(rows)

    def _noise(self, number: int) -> Floats:
        """White noise of a chunk: 3 axes, 3 axes before the resonance, 1 for the impacts."""
        return np.random.default_rng([self.seed, 1, number + 1]).standard_normal((CHUNK, 7))

    def _impulse_response(self) -> Floats:
        """The casing rings at its resonance; unit energy, so that white noise keeps its rms."""
        settings = self.settings
        t = np.arange(RESONANCE_TAPS) / self.rate_hz
        omega = 2 * pi * min(settings.resonance_hz, 0.4 * self.rate_hz)
        ring = np.exp(-settings.resonance_damping * omega * t) * np.sin(omega * t + 0.5)
        return np.asarray(ring / np.sqrt(np.sum(ring**2)))

    def _load(self, t: Floats) -> Floats:
        angle = 2 * pi * self._wave_hz[1] * t[:, None] + self._wave_phase[1]
        return np.asarray(1.0 + self.settings.load_swing * np.sin(angle).mean(axis=1))

    def _harmonics(self, turns: Floats) -> Floats:
        rows = np.zeros((len(turns), 3))
        for (order, amplitude), phase in zip(self.settings.harmonics, self._phases, strict=True):
            rows += amplitude * np.sin(2 * pi * order * turns[:, None] + phase)
        return rows

    def _impacts(self, fault: Fault, t: Floats, turns: Floats, jitter: Floats) -> Floats:
        """One blow a ball and pass, harder where the shaft's load turns towards the spot."""
        passes = np.floor(self.settings.bpfo_order * turns)
        hit = np.diff(passes, prepend=passes[0]) > 0
        blow = hit * (1.0 + 0.5 * np.cos(2 * pi * turns)) * (1.0 + 0.2 * jitter)
        force = self.settings.bearing_g * fault.active(t) * blow
        return np.asarray(force[:, None] * self._direction(fault))

    def _slow_fault(self, fault: Fault, t: Floats, turns: Floats) -> Floats:
        direction = self._direction(fault)
        if fault.kind == "unbalance":
            shape = 0.12 * np.sin(2 * pi * turns[:, None] + self._phases[0])
        else:
            orders = np.arange(1, 25) / 2  # 0.5x, 1x, 1.5x ... 12x
            angle = 2 * pi * orders * turns[:, None] + self._loose_phases[:, 0]
            shape = (np.sin(angle) @ (0.045 / np.sqrt(orders + 0.5)))[:, None]
        return np.asarray(fault.active(t)[:, None] * shape * direction)


class CompassMachine(Chunked):
    """A magnetometer on a machine that slews about the vertical; x, y, z in uT.

    The iron of the machine bends the field as it always does (hard and soft), which is what the
    calibration takes out. Drift is hard iron that grows: a magnet that comes loose, a current.
    """

    DRIFT_UT_A_SECOND = 0.5

    def __init__(self, seed: int, rate_hz: float, faults: tuple[Fault, ...] = ()) -> None:
        super().__init__(("x", "y", "z"), faults, MACHINE_FAULTS["compass"])
        self.seed, self.rate_hz = seed, rate_hz
        random = np.random.default_rng([seed, 2])
        self.hard_iron_ut = random.uniform(-15, 15, 3)
        self.soft_iron = np.eye(3) + random.uniform(-0.08, 0.08, (3, 3))
        self._phase = random.uniform(0, 2 * pi)
        self.noise_ut, self.slew_hz, self.slew_rad = 0.35, 0.05, 2.6
        self.field_ut = np.array([20.0, 0.0, -44.0])  # north and down, as in central Europe

    def at_rate(self, rate_hz: float) -> CompassMachine:
        """The same machine sampled at another rate."""
        return CompassMachine(self.seed, rate_hz, self.faults)

    def heading_rad(self, t: Floats) -> Floats:
        """Where the machine really points."""
        return np.asarray(self.slew_rad * np.sin(2 * pi * self.slew_hz * t + self._phase))

    def _chunk(self, number: int) -> Floats:
        t = np.arange(number * CHUNK, (number + 1) * CHUNK) / self.rate_hz
        heading = self.heading_rad(t)
        north, _, down = self.field_ut
        field = np.stack(
            [north * np.cos(heading), -north * np.sin(heading), np.full(CHUNK, down)], axis=1
        )
        random = np.random.default_rng([self.seed, 3, number])
        noise = self.noise_ut * random.standard_normal((CHUNK, 3))
        rows = field @ self.soft_iron.T + self.hard_iron_ut + noise
        for fault in self.faults:
            grown = fault.active(t) * (t - fault.start_s) * self.DRIFT_UT_A_SECOND
            rows += grown[:, None] * self._direction(fault)
        return np.asarray(rows)


def digitise(values: Floats, stream: StreamSchema) -> NDArray[Any]:
    """What the sensor's converter makes of physical values: raw numbers, clipped at its range."""
    raw = values / stream.scale
    if stream.format == "<f4":
        return raw.astype(stream.format)
    limit = raw_limit(stream)
    return np.clip(np.rint(raw), -limit, limit).astype(stream.format)


def raw_limit(stream: StreamSchema) -> float:
    """The largest raw number of an integer stream; a float stream has none."""
    if stream.format == "<f4":
        return float("inf")
    limit = float(np.iinfo(stream.format).max)
    return limit if stream.range is None else min(limit, round(stream.range / stream.scale))


ACCEL = StreamSchema(
    id=1, name="accel", sensor="ADXL345", format="<i2", channels=("x", "y", "z"), unit="g",
    scale=0.0039, rate_hz=3200.0, batch=80, range=16.0,
    rates_hz=(100.0, 200.0, 400.0, 800.0, 1600.0, 3200.0),
)  # fmt: skip
MAG = StreamSchema(
    id=2, name="mag", sensor="QMC5883L", format="<i2", channels=("x", "y", "z"), unit="uT",
    scale=0.1, rate_hz=100.0, batch=10, range=800.0, rates_hz=(10.0, 50.0, 100.0, 200.0),
)  # fmt: skip
MACHINES = {"vibration": ACCEL, "compass": MAG}


def batch_for(stream: StreamSchema, rate_hz: float) -> int:
    """The usual batch: 25 ms, 10 to 160 samples, even, and what fits a frame."""
    batch = min(max(ceil(rate_hz * 0.025), 10), 160, stream.max_batch)
    return max(batch - batch % 2, 1)


def at_rate(stream: StreamSchema, rate_hz: float, batch: int = 0) -> StreamSchema:
    """The stream at another rate, with the usual batch unless one is asked for."""
    return replace(stream, rate_hz=rate_hz, batch=batch or batch_for(stream, rate_hz))


def make_machine(
    name: str, seed: int = 1, rate_hz: float | None = None, faults: tuple[Fault, ...] = ()
) -> tuple[StreamSchema, Machine]:
    """A default machine and the stream that its sensor makes. `KeyError` for an unknown name."""
    stream = MACHINES[name]
    if rate_hz is not None:
        stream = at_rate(stream, rate_hz)
    if name == "compass":
        return stream, CompassMachine(seed, stream.rate_hz, faults)
    return stream, VibrationMachine(seed, stream.rate_hz, faults)


def board_document(uid: str, streams: tuple[StreamSchema, ...]) -> bytes:
    """The schema of a simulated board with these streams."""
    return write_schema("simulated", uid, "0.1.0", streams)
