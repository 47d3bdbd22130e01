"""Alert text as an operator reads it: twenty injected faults, and what is said at their worst.

What counts as right: the channel that was meddled with comes first, higher or lower is as it was
made, and of a spectrum the band holds the frequency that was put in, or one of its harmonics.
`pytest -s` shows the sentences.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

import edge_agent
from converter.benchmark import battery
from converter.benchmark.case import as_recording, sensor
from converter.dataset import cut, draft_manifest
from edge_agent.assets import build_pipeline
from edge_agent.bundles.bundle import Bundle, read_bundle
from edge_agent.bundles.manifest import Manifest, NormalError, Scaler, SmoothFrontEnd, WindowSpec
from edge_agent.judging.pipeline import Pipeline
from edge_agent.judging.threshold import commission
from firmware_bridge.samples import Samples
from firmware_bridge.signals import (
    USUAL_CHANNEL,
    Fault,
    VibrationSettings,
    digitise,
    make_machine,
)  # fmt: skip

BUNDLES = Path(edge_agent.__file__).parent / "default_bundle"
MACHINE = VibrationSettings()
HALF_TURN_HZ = MACHINE.shaft_hz / 2
# What each fault adds to the spectrum of the simulated machine (firmware_bridge/signals.py).
TONES_HZ = {
    "bearing": (MACHINE.resonance_hz,),
    "unbalance": (MACHINE.shaft_hz,),
    "looseness": tuple(HALF_TURN_HZ * order for order in range(1, 25)),
}


class Injected(NamedTuple):
    """One fault. `size` is its severity, or what is added to a slow channel, in its own unit."""

    kind: str
    seed: int
    channel: str | None
    size: float


VIBRATION = [
    Injected("bearing", 1, "x", 0.6),
    Injected("bearing", 2, None, 1.5),
    Injected("bearing", 3, "z", 0.8),
    Injected("unbalance", 4, None, 0.3),
    Injected("unbalance", 5, "y", 1.5),
    Injected("unbalance", 6, "z", 0.6),
    Injected("looseness", 7, "x", 0.4),
    Injected("looseness", 8, "y", 1.5),
    Injected("looseness", 9, None, 0.8),
    Injected("looseness", 10, "y", 0.6),
]
COMPASS = [
    Injected("drift", seed, channel, 1.5 * sign)
    for seed, sign in ((1, 1.0), (4, -1.0))
    for channel in ("x", "y", "z")
]
SLOW = [
    Injected("sensor", 1, "temperature", 4.0),
    Injected("sensor", 2, "current", -1.5),
    Injected("sensor", 3, "pressure", -0.3),
    Injected("sensor", 4, "vibration", 0.3),
]
CASES = VIBRATION + COMPASS + SLOW


class Told(NamedTuple):
    """What was said, and what of it is right."""

    case: Injected
    sentence: str
    channel: bool
    direction: bool
    band: bool

    @property
    def right(self) -> bool:
        return self.channel and self.direction and self.band


@cache
def bundle(name: str, shaft_hz: float | None = None) -> Bundle:
    """A default bundle; of a machine whose shaft keeps a known speed, if it is given."""
    found = read_bundle(BUNDLES / f"{name}.otolith")
    if shaft_hz is None:
        return found
    front_end = found.manifest.front_end.model_copy(update={"shaft_hz": shaft_hz})
    return found._replace(manifest=found.manifest.model_copy(update={"front_end": front_end}))


def last_word(pipeline: Pipeline, rows: np.ndarray, rate_hz: float) -> str:
    """What is said of the worst window of an episode that still lasts."""
    for at in range(0, len(rows), 1000):
        batch = rows[at : at + 1000].astype(np.float32)
        pipeline.feed(Samples(1, at, at / rate_hz, rate_hz, batch, 0, False, 0))
    return pipeline.state().why.sentence if pipeline.alarm.active else "no alarm"


def simulated(case: Injected, machine: str) -> str:
    """The simulated board's machine: healthy, then not."""
    first_s, seconds = (1.0, 4.0) if machine == "vibration" else (10.0, 110.0)
    fault = Fault(case.kind, first_s, None, case.size, case.channel)
    stream, made = make_machine(machine, case.seed, None, (fault,))
    rows = digitise(made.values(0, round(seconds * stream.rate_hz)), stream) * stream.scale
    # Every other machine is one whose shaft is known.
    known = machine == "vibration" and case.seed % 2
    pipeline = build_pipeline("m", bundle(machine, MACHINE.shaft_hz if known else None))
    return last_word(pipeline, rows, stream.rate_hz)


@cache
def known_compressor() -> tuple[Manifest, np.ndarray]:
    """The battery's machine, four hours of it, behind a linear autoencoder, which takes no time to
    train: a manifest, and what projects a window to what is normal."""
    seen, window = sensor(battery.CHANNELS, "mixed", 1.0), WindowSpec(length=10, hop=10)
    front_end = SmoothFrontEnd(ewma_alpha=0.1, settle_samples=30)
    draft = draft_manifest("compressor", seen, front_end, window, "dense")
    healthy = battery.machine(40, 4 * 3600).astype(np.float32)
    features = cut(as_recording("healthy", seen, healthy), draft, 10).features
    centre, scale = features.mean(axis=(0, 1)), features.std(axis=(0, 1))
    scaled = ((features - centre) / scale).reshape(len(features), -1)
    axes = np.linalg.svd(scaled, full_matrices=False)[2][:4]
    errors = np.square(scaled - scaled @ axes.T @ axes).reshape(features.shape)
    changes = {
        "scaler": Scaler(centre=tuple(centre.tolist()), scale=tuple(scale.tolist())),
        "normal_error": NormalError(
            by_feature=tuple(np.quantile(errors.mean(axis=1), 0.99, axis=0).tolist()),
            by_step=tuple(np.quantile(errors.mean(axis=2), 0.99, axis=0).tolist()),
        ),
        "threshold": commission(errors.mean(axis=(1, 2)).astype(float)),
    }
    return draft.model_copy(update=changes), (axes.T @ axes).astype(np.float32)


def slow(case: Injected) -> str:
    """A sensor that lies for twenty minutes."""
    rows = battery.machine(100 + case.seed, 3600)
    rows[2400:, battery.CHANNELS.index(case.channel or "")] += case.size
    manifest, normal = known_compressor()
    model = lambda scaled: (scaled.reshape(-1) @ normal).reshape(scaled.shape)  # noqa: E731
    return last_word(Pipeline("m", manifest, model), rows, 1.0)


@cache
def told(case: Injected) -> Told:
    """The sentence, and what is right about it."""
    sentence = (
        slow(case) if case in SLOW else
        simulated(case, "vibration" if case in VIBRATION else "compass")
    )  # fmt: skip
    channel = case.channel or USUAL_CHANNEL[case.kind]
    band = re.search(r"(\d+)-(\d+) Hz", sentence)
    return Told(
        case,
        sentence,
        sentence.startswith(f"{channel} carries"),
        ("higher" if case.size > 0 else "lower") + " than normal" in sentence,
        case not in VIBRATION or (
            band is not None
            and any(float(band[1]) <= tone <= float(band[2]) for tone in TONES_HZ[case.kind])
        ),
    )  # fmt: skip


def test_twenty_sentences_name_the_channel_the_direction_and_the_band() -> None:
    assert len(CASES) == 20
    said = [told(case) for case in CASES]
    table = "\n".join(
        f"{'    ' if one.right else 'MISS'} {one.case.kind:9} {one.case.channel or 'usual':11} "
        f"{one.case.size:+.1f}  {one.sentence}"
        for one in said
    )
    sys.stdout.write(f"\n{table}\n")
    # One is known to miss: where the temperature's sensor reads too high, the fan is blamed, which
    # goes with the heat and is the less noisy of the two.
    assert sum(one.right for one in said) >= 18, table


def test_what_is_said_agrees_with_itself() -> None:
    sentences = {case: told(case).sentence for case in (*COMPASS[:3], *SLOW)}
    for case, sentence in sentences.items():
        numbers = re.search(r"(higher|lower) than normal \((\S+)( uT)?, expected (\S+)\b", sentence)
        assert numbers, sentence
        assert (float(numbers[2]) > float(numbers[4])) == (numbers[1] == "higher"), sentence
        # A table whose columns have units of their own has no unit.
        assert (numbers[3] is None) == (case in SLOW)


def test_a_known_shaft_is_named_with_every_band() -> None:
    """The simulated shaft's own order for an unbalance, half of it for what is loose."""
    (unbalance,) = (case for case in VIBRATION if (case.kind, case.seed) == ("unbalance", 5))
    assert "28-34 Hz (1.0-1.2 x shaft)" in told(unbalance).sentence
    (loose,) = (case for case in VIBRATION if (case.kind, case.seed) == ("looseness", 9))
    assert "9-16 Hz (0.3-0.5 x shaft)" in told(loose).sentence
