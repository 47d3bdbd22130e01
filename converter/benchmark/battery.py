"""Battery: point, contextual, collective and coupling anomalies in a machine that we have made.

In: seeds; no data. Out: recall and false episodes for each kind of anomaly, and how far a slow ramp
comes before it is told in spite of a threshold that follows.
Never: an anomaly in what the detectors are fitted on.

The machine is a compressor with a cooling fan, seen each second: load drives current, heat,
pressure and vibration, heat drives the fan, the fan drives the heat away.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.benchmark.case import Case, Kind, Rows, Test, sensor
from converter.benchmark.report import Key, Report, Request, run_families, run_rival
from converter.benchmark.rivals import EWMA_Z, FOREST, LAG_T2Q, THREE_SIGMA
from converter.benchmark.trace import Trace
from converter.models.training import TrainSettings
from edge_agent.bundles.manifest import AlarmSpec, SmoothFrontEnd, WindowSpec

CHANNELS = ["load", "current", "temperature", "fan", "pressure", "vibration"]
TRAIN_SECONDS, DAY_SECONDS = 8 * 3600, 86_400
EVENTS, SPACING_SECONDS = 25, 1200
NORMAL_SEED = 50
# An alarm this long after the end of an anomaly still belongs to it: windows and delays are over.
GRACE_SECONDS = 120
# The ramps are seen once a minute: a threshold has 1,440 windows a day to learn them.
RAMP_TRAIN_DAYS, RAMP_DAYS, RAMP_STEP_SECONDS = 6, 8, 60
DAY_ROWS = DAY_SECONDS // RAMP_STEP_SECONDS
# The usual one for slow channels; nothing in it was chosen on a battery.
KIND = Kind(
    front_end=SmoothFrontEnd(ewma_alpha=0.1, settle_samples=30),
    window=WindowSpec(length=10, hop=1),
    train_hop=1,
    alarm=AlarmSpec(on_delay_windows=10, off_delay_windows=30, clear_ratio=0.8),
    units={"dense": (64, 16, 64)},
    train=TrainSettings(epochs=60),
)
# Percent; the shift alone brings 24.
MORE_LOAD = 15.0
Floats = NDArray[np.float64]


class Event(NamedTuple):
    """An anomaly, rows `first` to `end` (exclusive)."""

    first: int
    end: int


def machine(seed: int, seconds: int, fan_stuck: list[Event] | None = None) -> Floats:
    """float64[seconds, channel] of the healthy machine; in `fan_stuck` more is asked of it, and the
    fan keeps its speed whatever the heat does."""
    random = np.random.default_rng(seed)
    load = _load(random, seconds)
    heat, fan = np.empty(seconds), np.empty(seconds)
    stuck = np.zeros(seconds, np.bool_)
    for event in fan_stuck or []:
        stuck[event.first : event.end] = True
    load = np.clip(load + MORE_LOAD * stuck, 5.0, 100.0)
    temperature, speed = 55.0, 1500.0
    for i in range(seconds):
        if not stuck[i]:
            speed += 0.02 * (600.0 + 45.0 * (temperature - 35.0) - speed)
        temperature += (0.045 * load[i] - 3.4e-5 * speed * (temperature - 20.0)) / 1.5
        heat[i], fan[i] = temperature, speed
    clean = np.stack(
        [load, 4.0 + 0.12 * load, heat, fan, 7.0 - 0.015 * load, 0.5 + 0.01 * load + 2e-4 * fan],
        axis=1,
    )
    noise = np.array([0.6, 0.1, 0.15, 12.0, 0.02, 0.02])
    noisy: Floats = clean + noise * random.normal(size=clean.shape)
    return noisy


def _load(random: np.random.Generator, seconds: int) -> Floats:
    """Percent: it wanders within minutes, and follows the shift within hours."""
    wander, value = np.empty(seconds), 0.0
    kicks = random.normal(size=seconds)
    for i in range(seconds):
        value += -value / 300.0 + 0.9 * kicks[i]
        wander[i] = value
    shift = 12.0 * np.sin(2 * np.pi * (np.arange(seconds) / 14_400 + random.uniform()))
    return np.clip(55.0 + shift + 0.7 * wander, 5.0, 100.0)


def places(seed: int) -> list[int]:
    """Where the anomalies begin: one in each stretch, anywhere in its middle half."""
    random = np.random.default_rng([seed, 1])
    quarter = SPACING_SECONDS // 4
    return [
        SPACING_SECONDS * (k + 1) + int(random.integers(quarter, 2 * quarter))
        for k in range(EVENTS)
    ]


def point(seed: int) -> tuple[Floats, list[Event]]:
    """Two seconds, one channel, twelve standard deviations."""
    rows = machine(seed, SPACING_SECONDS * (EVENTS + 2))
    events = [Event(at, at + 2) for at in places(seed)]
    for k, event in enumerate(events):
        sign = 1 if k % 2 else -1
        rows[event.first : event.end, k % 6] += 12.0 * sign * rows[:, k % 6].std()
    return rows, events


def contextual(seed: int) -> tuple[Floats, list[Event]]:
    """Three minutes of one channel's values from another hour: each is one that it often has."""
    rows = machine(seed, SPACING_SECONDS * (EVENTS + 2))
    events = [Event(at, at + 180) for at in places(seed)]
    for k, event in enumerate(events):
        channel = (1, 2, 3, 5)[k % 4]
        own = rows[event.first : event.end, channel]
        starts = range(600, len(rows) - 600, 180)
        far = max(starts, key=lambda at: abs(rows[at : at + 180, channel].mean() - own.mean()))
        rows[event.first : event.end, channel] = rows[far : far + 180, channel].copy()
    return rows, events


def collective(seed: int) -> tuple[Floats, list[Event]]:
    """Five minutes of a sensor that has frozen while the machine moves on."""
    rows = machine(seed, SPACING_SECONDS * (EVENTS + 2))
    events = []
    for k, at in enumerate(places(seed)):
        channel = (0, 1, 5, 3)[k % 4]
        first = _liveliest(np.abs(rows[300:, channel] - rows[:-300, channel]), at)
        events.append(Event(first, first + 300))
        rows[first : first + 300, channel] = rows[first, channel]
    return rows, events


def coupling(seed: int) -> tuple[Floats, list[Event]]:
    """Ten minutes in which it gets hotter while the fan does not answer."""
    events = [Event(at, at + 600) for at in places(seed)]
    return machine(seed, SPACING_SECONDS * (EVENTS + 2), events), events


def _liveliest(move: Floats, at: int) -> int:
    """Near `at`, where most happens: what is frozen while nothing happens is not anomalous."""
    return at + int(np.argmax(move[at : at + SPACING_SECONDS // 4]))


BATTERIES = {
    "point": point, "contextual": contextual, "collective": collective, "coupling": coupling,
}  # fmt: skip


def run(request: Request) -> Report:
    """All batteries, a normal day, and the ramps."""
    case, events = case_and_events()
    ramps = _ramps()
    pairs = run_families(request, [case, ramps])
    rows: list[dict[str, Any]] = []
    for family in request.families:
        for form in ("int8", "float32"):
            found = [
                _measures(
                    getattr(pairs[Key(case.name, family, seed)], form).traces
                    | getattr(pairs[Key(ramps.name, family, seed)], form).traces,
                    events,
                )
                for seed in range(1, request.seeds + 1)
            ]
            mean = {name: float(np.mean([one[name] for one in found])) for name in found[0]}
            about = {"detector": f"{family} {form}", "shipped": form == "int8"}
            rows.append({**about, "int8": form == "int8", "seeds": request.seeds, **mean})
    for rival in (LAG_T2Q, FOREST, EWMA_Z, THREE_SIGMA):
        measures = _measures(run_rival(rival, case) | run_rival(rival, ramps), events)
        about = {"detector": rival.name, "shipped": False, "int8": False, "seeds": 1}
        rows.append({**about, **measures})
    notes = [
        "recall: anomalies with an alarm in them or within two minutes after",
        f"ramp_sigma_worst: one standard deviation a day, {RAMP_DAYS} days; {RAMP_DAYS} is never",
    ]
    return Report("battery", [], rows, [], notes)


def case_and_events() -> tuple[Case, dict[str, list[Event]]]:
    """A normal day and all anomalies, and where they are."""
    tests = [Test("normal", _rows(machine(NORMAL_SEED, DAY_SECONDS)))]
    events: dict[str, list[Event]] = {}
    for number, (name, make) in enumerate(BATTERIES.items()):
        values, events[name] = make(60 + number)
        tests.append(Test(name, _rows(values)))
    kind = replace(KIND, train_hop=10)
    normal = (_rows(machine(40, TRAIN_SECONDS)),)
    return Case("battery", sensor(CHANNELS, "mixed", 1.0), kind, normal, tuple(tests)), events


def _ramps() -> Case:
    """A day of health, then one channel that drifts by a standard deviation a day."""
    known = machine(41, RAMP_TRAIN_DAYS * DAY_SECONDS)[::RAMP_STEP_SECONDS]
    tests = []
    for channel, name in enumerate(CHANNELS):
        rows = machine(70 + channel, (RAMP_DAYS + 1) * DAY_SECONDS)[::RAMP_STEP_SECONDS]
        days = np.maximum(np.arange(len(rows)) / DAY_ROWS - 1.0, 0.0)
        rows[:, channel] += days * known[:, channel].std()
        tests.append(Test(f"ramp {name}", _rows(rows)))
    seen = sensor(CHANNELS, "mixed", 1.0 / RAMP_STEP_SECONDS)
    return Case("ramps", seen, KIND, (_rows(known),), tuple(tests))


def _rows(values: Floats) -> Rows:
    return values.astype(np.float32)


def _measures(traces: dict[str, Trace], events: dict[str, list[Event]]) -> dict[str, float]:
    found: dict[str, float] = {}
    false, seconds = _begins(traces["normal"]), float(DAY_SECONDS)
    for name, mine in events.items():
        alarms = traces[name].row_alarms()
        hits = [alarms[event.first : event.end + GRACE_SECONDS].any() for event in mine]
        found[f"recall_{name}"] = float(np.mean(hits))
        for event in mine:
            alarms[event.first : event.end + 5 * GRACE_SECONDS] = False
        false += int(np.sum(np.diff(alarms.astype(int)) > 0))
        seconds += len(alarms)
    found["false_episodes_per_day"] = false / seconds * DAY_SECONDS
    sigmas = [_ramp_sigma(traces[f"ramp {name}"]) for name in CHANNELS]
    found["ramp_sigma_worst"] = max(sigmas)
    return found


def _begins(trace: Trace) -> int:
    return int(np.sum(np.diff(np.concatenate([[0], trace.row_alarms().astype(int)])) > 0))


def _ramp_sigma(trace: Trace) -> float:
    """How many standard deviations the ramp had come to at the first alarm that it raised."""
    rows = np.flatnonzero(trace.row_alarms()[DAY_ROWS:])
    return float(rows[0] / DAY_ROWS if len(rows) else RAMP_DAYS)
