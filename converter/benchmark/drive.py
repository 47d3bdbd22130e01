"""Drive: a pump behind a variable-speed drive, healthy for as long as it is asked to be.

In: a seed, a length. Out: float64[reading, channel]. Never: a fault; all that happens to it is what
happens to every such pump: its speed is changed, its load wanders, the weather turns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CHANNELS = ["speed", "current", "flow", "pressure", "temperature", "vibration"]
STEP_SECONDS = 5
RATED_RPM = 1800.0
SPEEDS, LOWEST_RPM = 5, 900.0
# A speed is kept for so long, in seconds, and reached with this time constant.
KEPT_SECONDS, RAMP_SECONDS = (600, 3600), 10.0
WANDER_SECONDS, HEAT_SECONDS = 600.0, 1200.0
DAY_SECONDS, WEATHER_SECONDS = 86_400.0, 12 * 3600.0
NOISE = np.array([3.0, 0.08, 0.25, 0.04, 0.1, 0.03])


def drive(seed: int, seconds: int) -> Floats:
    """A reading each five seconds; another seed is another pump with speeds of its own."""
    random = np.random.default_rng(seed)
    # What fills it with warmth is not kept.
    warm = round(6 * HEAT_SECONDS / STEP_SECONDS)
    n = seconds // STEP_SECONDS + warm
    speed = _lag(_asked(random, n), RAMP_SECONDS)
    share = speed / RATED_RPM
    load = 1.0 + 0.02 * _wander(random, n, WANDER_SECONDS)
    current = 2.0 + 8.0 * share**2 * load
    day = np.sin(2 * np.pi * (np.arange(n) * STEP_SECONDS / DAY_SECONDS + random.uniform()))
    outside = 22.0 + 4.0 * day + _wander(random, n, WEATHER_SECONDS)
    temperature = outside + _lag(0.35 * current**2, HEAT_SECONDS)
    resonance = 0.5 * np.exp(-(((speed - random.uniform(1000.0, 1600.0)) / 60.0) ** 2))
    vibration = 0.6 + 0.8 * share**2 + resonance
    clean = [speed, current, 40.0 * share / load, 6.0 * share**2 / load, temperature, vibration]
    noisy: Floats = np.stack(clean, axis=1) + NOISE * random.normal(size=(n, len(CHANNELS)))
    return noisy[warm:]


def _asked(random: np.random.Generator, n: int) -> Floats:
    """What it is told to do: one of its speeds, then another."""
    speeds = np.sort(random.uniform(LOWEST_RPM, RATED_RPM, SPEEDS))
    asked = np.empty(n)
    at, now = 0, 0
    while at < n:
        kept = int(random.integers(*KEPT_SECONDS)) // STEP_SECONDS
        asked[at : at + kept] = speeds[now]
        at, now = at + kept, (now + int(random.integers(1, SPEEDS))) % SPEEDS
    return asked


def _lag(values: Floats, seconds: float) -> Floats:
    """What follows with a time constant."""
    follows, now = np.empty_like(values), float(values[0])
    share = 1.0 - float(np.exp(-STEP_SECONDS / seconds))
    for i, value in enumerate(values.tolist()):
        now += share * (value - now)
        follows[i] = now
    return follows


def _wander(random: np.random.Generator, n: int, seconds: float) -> Floats:
    """What has standard deviation 1 and forgets itself with a time constant."""
    kept = float(np.exp(-STEP_SECONDS / seconds))
    kicks = random.normal(size=n) * np.sqrt(1.0 - kept**2)
    values, now = np.empty(n), float(random.normal())
    for i, kick in enumerate(kicks.tolist()):
        now = kept * now + kick
        values[i] = now
    return values
