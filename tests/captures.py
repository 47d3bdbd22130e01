"""Captures of simulated machines, healthy and not, and what `calibrate baseline` makes of them.

    python -m tests.captures refusals [--seeds 10] [--minutes 10]
    python -m tests.captures alarms [--machines 6] [--hours 4] [--first 9001]

In: seeds. Out: a JSON line a group or machine, the counts that README quotes; lines of several runs
of `alarms` from other seeds add up. Never: a machine of a seed that the default bundles were built
of (1000 to 3999), or that a limit was chosen on (5000 to 6099).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.assets import build_pipeline
from edge_agent.bundles.bundle import Bundle, read_bundle
from edge_agent.calibrate.baseline.capture import Capture
from edge_agent.calibrate.baseline.estimate import poisson_interval
from edge_agent.calibrate.baseline.verdict import Concluded, conclude
from edge_agent.judging.pipeline import AlarmEvent, Judgement, Pipeline
from firmware_bridge.samples import Samples
from firmware_bridge.schema import StreamSchema
from firmware_bridge.signals import (
    ACCEL,
    MAG,
    CompassMachine,
    Fault,
    Floats,
    Machine,
    VibrationMachine,
    VibrationSettings,
    digitise,
)
from tests.programs import COMPASS, VIBRATION

USUAL = VibrationSettings()
# As the recipe of the default bundles tests them.
FAULTS = (
    Fault("bearing", 0.0, None, 1.0, "x"), Fault("bearing", 0.0, None, 1.0, "y"),
    Fault("bearing", 0.0, None, 1.0, "z"), Fault("unbalance", 0.0), Fault("looseness", 0.0),
    Fault("drift", 0.0, None, 1.0, "x"), Fault("drift", 0.0, None, 1.0, "y"),
)  # fmt: skip
ILLNESSES = ("bearing", "unbalance", "looseness")
ROWS_AT_ONCE = 10_240


class Kind(NamedTuple):
    """One default bundle and the stream that it judges."""

    bundle: Bundle
    stream: StreamSchema


def vibration() -> Kind:
    return Kind(read_bundle(VIBRATION), ACCEL)


def compass() -> Kind:
    return Kind(read_bundle(COMPASS), MAG)


def transferred(seed: int, by: float = 1.0) -> VibrationSettings:
    """Another motor of the same type: every part of it differs by chance, `by` times so much as
    1 % of speed, 15 % of its tones, 20 % of its noise, 4 % of its casing's resonance."""
    draw = np.random.default_rng([seed, 77]).uniform

    def about(value: float, share: float) -> float:
        return float(value * (1.0 + by * draw(-share, share)))

    return replace(
        USUAL, shaft_hz=about(USUAL.shaft_hz, 0.01),
        harmonics=tuple((order, about(size, 0.15)) for order, size in USUAL.harmonics),
        noise_g=about(USUAL.noise_g, 0.2), resonance_noise_g=about(USUAL.resonance_noise_g, 0.2),
        resonance_hz=about(USUAL.resonance_hz, 0.04), load_swing=about(USUAL.load_swing, 0.5),
        wander=about(USUAL.wander, 0.5),
    )  # fmt: skip


class QuickMachine(VibrationMachine):
    """The same motor but for the last bit of a float, which the sensor's converter doesn't see, in
    half the time: hours of it are judged."""

    def __init__(
        self, seed: int, rate_hz: float, faults: tuple[Fault, ...], settings: VibrationSettings
    ) -> None:
        super().__init__(seed, rate_hz, faults, settings)
        amplitudes = np.array([[amplitude] for _, amplitude in settings.harmonics])
        self._tones = amplitudes * np.exp(1j * self._phases)
        self._noise = lru_cache(maxsize=2)(self._noise)  # type: ignore[method-assign]

    def _harmonics(self, turns: Floats) -> Floats:
        power: dict[int, NDArray[np.complex128]] = {1: np.exp(2j * np.pi * turns)}

        def to_the(order: int) -> NDArray[np.complex128]:
            if order not in power:
                power[order] = to_the(order // 2) * to_the(order - order // 2)
            return power[order]

        turning = np.stack([to_the(int(order)) for order, _ in self.settings.harmonics], axis=1)
        return np.asarray(turning.real @ self._tones.imag + turning.imag @ self._tones.real)


def machine(
    kind: Kind, seed: int, faults: tuple[Fault, ...] = (), settings: VibrationSettings = USUAL
) -> Machine:
    rate_hz = kind.stream.rate_hz
    if kind.stream is MAG:
        return CompassMachine(seed, rate_hz, faults)
    return QuickMachine(seed, rate_hz, faults, settings)


def batches(
    stream: StreamSchema, machine: Machine, seconds: float, start_s: float = 0.0
) -> Iterator[Samples]:
    """What the board would have sent, in large batches."""
    first, end = (round(at * stream.rate_hz) for at in (start_s, start_s + seconds))
    for at in range(first, end, ROWS_AT_ONCE):
        raw = digitise(machine.values(at, min(ROWS_AT_ONCE, end - at)), stream)
        values = raw.astype(np.float32) * np.float32(stream.scale)
        yield Samples(stream.id, at, at / stream.rate_hz, stream.rate_hz, values, 0, False, 0)


def captured(kind: Kind, samples: Iterator[Samples]) -> Capture:
    """All of them, in one state."""
    capture = Capture(kind.bundle, kind.stream)
    capture.begin(0)
    for batch in samples:
        capture.take(batch)
    return capture


def concluded(
    kind: Kind, seed: int, minutes: float, faults: tuple[Fault, ...] = (),
    settings: VibrationSettings = USUAL,
) -> Concluded:  # fmt: skip
    """A capture of so many minutes, and what is said of it."""
    seconds = 60.0 * minutes + 10.0
    made = machine(kind, seed, faults, settings)
    return conclude(captured(kind, batches(kind.stream, made, seconds)), ("running",), minutes)


def judged(pipeline: Pipeline, samples: Iterator[Samples]) -> tuple[int, int, int]:
    """Windows, windows in alarm, episodes."""
    windows = active = episodes = 0
    for batch in samples:
        for fact in pipeline.feed(batch):
            if isinstance(fact, Judgement):
                windows, active = windows + 1, active + fact.active
            elif isinstance(fact, AlarmEvent):
                episodes += fact.change.kind == "begin"
    return windows, active, episodes


def refusals(names: Sequence[str], seeds: int, minutes: float, say: Callable[..., None]) -> None:
    """Faults from the start and faults that begin within the capture; healthy machines. A capture
    counts as refused if a check refused it, not for being too short."""
    kinds = {"vibration": vibration, "compass": compass}
    for name in names:
        kind = kinds[name]()
        for fault in [one for one in FAULTS if (one.kind == "drift") == (name == "compass")]:
            for how in ("from the start", "within"):
                found = [
                    _ill(kind, fault, how, seed, minutes) for seed in range(7100, 7100 + seeds)
                ]
                by = Counter(check.name for one in found for check in one.checks if not check.ok)
                refused = sum(any(not check.ok for check in one.checks) for one in found)
                say(fault=fault.kind, channel=fault.channel, begins=how, minutes=minutes,
                    captures=seeds, refused=refused, by=dict(by))  # fmt: skip
        for by_much in (0.0, 0.5, 1.0, 1.5) if name == "vibration" else (0.0,):
            found = [
                concluded(kind, seed, minutes, (), transferred(seed, by_much))
                for seed in range(8100, 8100 + 2 * seeds)
            ]
            accepted = sum(one.verdict == "pass" for one in found)
            why = sorted({one.reason[:80] for one in found if one.verdict != "pass"})
            say(healthy=name, differs_by=by_much, minutes=minutes, captures=len(found),
                accepted=accepted, refused_for=why)  # fmt: skip


def _ill(kind: Kind, fault: Fault, how: str, seed: int, minutes: float) -> Concluded:
    """Every other machine differs from those of the bundle, too."""
    draw = np.random.default_rng([seed, 5]).uniform(0.05, 0.95)
    start_s = 0.0 if how == "from the start" else 60.0 * minutes * draw
    settings = transferred(seed) if seed % 2 else USUAL
    return concluded(kind, seed, minutes, (replace(fault, start_s=start_s),), settings)


class Tally(NamedTuple):
    """Of one threshold: `hop_seconds` x windows is the time that was judged."""

    windows: int = 0
    active: int = 0
    episodes: int = 0

    def plus(self, more: tuple[int, int, int]) -> Tally:
        """Both."""
        return Tally(*(a + b for a, b in zip(self, more, strict=True)))

    def told(self, hop_seconds: float) -> dict[str, float]:
        """With the interval of `poisson_interval`."""
        days = self.windows * hop_seconds / 86_400.0
        low, high = poisson_interval(self.episodes)
        return {
            "machine_days": round(days, 4), "episodes": self.episodes,
            "a_day": round(self.episodes / days, 3), "low": round(low / days, 3),
            "high": round(high / days, 3), "alarm_share": round(self.active / self.windows, 5),
        }  # fmt: skip


# An alarm of the shipped threshold is often on all the time: so much of it tells enough.
SHIPPED_HOURS = 0.25


def alarms(first: int, machines: int, hours: float, say: Callable[..., None]) -> None:
    """Machines of other seeds on which the shipped threshold calls for nothing: how often, before
    and after; and whether faults are found after. Every other one differs by twice as much."""
    kind = vibration()
    hop_seconds = kind.bundle.manifest.hop_seconds
    total = {"shipped": Tally(), "now": Tally()}
    faults: dict[str, Counter[bool]] = {}
    passed_over: Counter[str] = Counter()
    seed = first - 1
    while sum(passed_over.values()) < 4 * machines and machines:
        seed += 1
        settings = transferred(seed, 1.0 if seed % 2 else 0.5)
        found = concluded(kind, seed, 10.0, (), settings)
        if found.result is None or found.result.estimate.shipped.share == 0.0:
            passed_over[found.verdict] += 1
            say(machine=seed, taken=False, verdict=found.verdict, reason=found.reason[:90])
            continue
        machines -= 1
        update = {"threshold": found.result.threshold, "normal_error": found.result.normal_error}
        now = kind.bundle._replace(manifest=kind.bundle.manifest.model_copy(update=update))
        told = {}
        for name, bundle, lasts in (
            ("shipped", kind.bundle, min(hours, SHIPPED_HOURS)), ("now", now, hours),
        ):  # fmt: skip
            made = machine(kind, seed, (), settings)
            samples = batches(kind.stream, made, 3600.0 * lasts, 700.0)
            tally = Tally(*judged(build_pipeline(name, bundle), samples))
            total[name] = total[name].plus(tally)
            told[name] = tally.told(hop_seconds)
        finds = {fault: _finds(kind, now, fault, seed, settings) for fault in ILLNESSES}
        for fault, it_does in finds.items():
            faults.setdefault(fault, Counter())[it_does] += 1
        times = found.result.threshold.value / kind.bundle.manifest.threshold.value
        say(machine=seed, taken=True, differs_by=1.0 if seed % 2 else 0.5,
            times_shipped=round(times, 2), finds=finds, **told,
            median_ratio=round(float(np.median(found.result.before)), 2))  # fmt: skip
    for name, tally in total.items():
        say(threshold=name, **tally.told(hop_seconds))
    say(passed_over=passed_over, faults_found={
        fault: f"{counts[True]} of {counts.total()}" for fault, counts in faults.items()
    })  # fmt: skip


def _finds(kind: Kind, bundle: Bundle, fault: str, seed: int, settings: VibrationSettings) -> bool:
    """Whether 40 seconds of it begin an episode, after 20 healthy ones that begin none."""
    made = machine(kind, seed, (Fault(fault, 720.0),), settings)
    pipeline = build_pipeline(fault, bundle)
    _, _, before = judged(pipeline, batches(kind.stream, made, 20.0, 700.0))
    _, _, after = judged(pipeline, batches(kind.stream, made, 40.0, 720.0))
    return not before and after > 0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("refusals", "alarms"))
    parser.add_argument("--first", type=int)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--machine", action="append", choices=("vibration", "compass"))
    parser.add_argument("--machines", type=int, default=6)
    parser.add_argument("--hours", type=float, default=4.0)
    options = parser.parse_args()

    def say(**fields: object) -> None:
        line = json.dumps(fields)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    if options.what == "refusals":
        refusals(options.machine or ("vibration", "compass"), options.seeds, options.minutes, say)
    else:
        alarms(options.first or 9001, options.machines, options.hours, say)
    return 0


if __name__ == "__main__":
    sys.exit(main())
