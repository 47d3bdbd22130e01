"""A machine that is louder when it runs faster: a threshold for each bin of its speed."""

from __future__ import annotations

from math import nan
from typing import Any

import numpy as np
import pytest

from converter.benchmark.case import as_recording, sensor
from converter.build import Built, build
from converter.build_settings import BuildSettings, Roles
from converter.dataset import cut, draft_manifest
from converter.errors import UsageError
from converter.fidelity import Limits
from converter.models.training import TrainSettings
from edge_agent.bundles.manifest import (
    AlarmSpec,
    Manifest,
    RawFrontEnd,
    SmoothFrontEnd,
    SpectralFrontEnd,
    WindowSpec,
)
from edge_agent.judging.pipeline import AlarmEvent, Judgement, Model, Pipeline
from edge_agent.judging.threshold import (
    LEAST_BIN_WINDOWS,
    SpeedEdges,
    Speeds,
    Threshold,
    commission,
    speed_edges,
)
from edge_agent.judging.threshold_spec import SpeedBin, ThresholdSpec
from firmware_bridge.samples import Samples
from tests.manifests import raw_manifest

RATE_HZ = 10.0
STRETCH_ROWS = 100
SLOW, FAST = 10.0, 50.0


def louder_with_speed(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and speeds: at twice the speed four times the score."""
    random = np.random.default_rng(seed)
    speeds = random.uniform(10.0, 50.0, count)
    return (speeds / 10.0) ** 2 * random.chisquare(40, count) / 40, speeds


def by_speed(adaptation: Any = None, **changes: Any) -> ThresholdSpec:
    scores, speeds = louder_with_speed(1, 5000)
    spec = commission(scores, adaptation=adaptation, speeds=Speeds(speeds, speed_edges(speeds, 5)))
    return spec.model_copy(update=changes)


def test_bins_hold_as_many_windows_each_and_a_kept_speed_fills_one() -> None:
    speeds = np.random.default_rng(1).uniform(10, 50, 1000)
    edges = speed_edges(speeds, 5)
    counts, _ = np.histogram(speeds, (edges.lowest, *edges.highs))
    assert counts.tolist() == pytest.approx([200] * 5, abs=2)
    assert edges.highs[-1] == speeds.max()
    steps = np.repeat([20.0, 30.0, 40.0], [100, 50, 50])
    assert speed_edges(steps, 4) == (20.0, (20.0, 30.0, 40.0))
    assert speed_edges(np.full(7, 3.0), 5) == (3.0, (3.0,))


def test_each_bin_has_the_threshold_of_its_own_windows() -> None:
    scores, speeds = louder_with_speed(1, 5000)
    spec = by_speed()
    assert sum(one.windows for one in spec.bins) == 5000
    for one in spec.bins[1:]:
        mine = scores[(speeds > one.low) & (speeds <= one.high)]
        assert one.value == pytest.approx(1.2 * np.quantile(mine, 0.995))
        assert one.windows == len(mine)
    assert spec.value == pytest.approx(1.2 * np.quantile(scores, 0.995))
    threshold = Threshold(spec)
    assert threshold.ratio(spec.bins[0].value, 12.0) == pytest.approx(1.0)
    assert threshold.limit(48.0) > 5 * threshold.limit(12.0)


def test_a_bin_with_too_few_windows_takes_the_threshold_of_all() -> None:
    scores, speeds = louder_with_speed(1, 300)
    spec = commission(scores, speeds=Speeds(speeds, SpeedEdges(10.0, (20.0, 50.0))))
    slow, fast = spec.bins
    assert slow.windows < LEAST_BIN_WINDOWS < fast.windows
    assert slow.value == spec.value < fast.value


def test_a_speed_never_seen_has_the_nearest_bin_and_is_known_as_such() -> None:
    spec = by_speed()
    threshold, low, high = Threshold(spec), spec.bins[0].low, spec.bins[-1].high
    assert threshold.limit(1.0) == threshold.limit(low) == spec.bins[0].value
    assert threshold.limit(900.0) == threshold.limit(high) == spec.bins[-1].value
    assert [threshold.unseen(v) for v in (low, 30.0, high)] == [None] * 3
    assert [threshold.unseen(v) for v in (low - 1, high + 1, nan)] == [(low, high)] * 3
    assert Threshold(commission(np.ones(10))).unseen(nan) is None


@pytest.mark.parametrize("method", ["conformal", "spot"])
def test_what_wears_in_at_one_speed_is_learnt_for_all(method: str) -> None:
    """Everything is 50 % louder for good, but for a day the machine is only seen at low speed."""
    spec = by_speed(method)
    threshold, fixed = Threshold(spec), Threshold(by_speed())
    scores, speeds = louder_with_speed(2, 100_000)
    slow = speeds < 20.0
    for score, speed in zip((1.5 * scores[slow]).tolist(), speeds[slow].tolist(), strict=True):
        threshold.learn(score, speed)
    fast = list(zip((1.5 * scores[~slow]).tolist(), speeds[~slow].tolist(), strict=True))
    assert np.mean([fixed.ratio(*one) >= 1.0 for one in fast]) > 0.04
    assert np.mean([threshold.ratio(*one) >= 1.0 for one in fast]) < 0.01
    assert threshold.value <= 2 * spec.value


def test_the_absolute_limit_knows_no_speed() -> None:
    spec = by_speed()
    threshold = Threshold(spec.model_copy(update={"absolute": spec.bins[1].value}))
    assert threshold.limit(spec.bins[0].high) == spec.bins[0].value
    assert threshold.limit(48.0) == spec.bins[1].value


def rows_of(seed: int, speeds: np.ndarray) -> np.ndarray:
    """float32[n, (speed, left, right)]: both sides shake in proportion to the speed."""
    random = np.random.default_rng(seed)
    wave = np.sin(np.arange(len(speeds)) / 7.0)[:, None]
    shaken = wave + 0.1 * (speeds / SLOW)[:, None] * random.normal(size=(len(speeds), 2))
    return np.column_stack([speeds, shaken]).astype(np.float32)


def shift(seed: int, stretches: int, fast: float) -> np.ndarray:
    """The speed of each row: slow and a little uneven, now and then fast for a while."""
    random = np.random.default_rng(seed)
    base = np.where(random.uniform(size=stretches) < fast, FAST, SLOW)
    return np.repeat(base, STRETCH_ROWS) + random.uniform(0, 2, stretches * STRETCH_ROWS)


SENSOR = sensor(["speed", "left", "right"], "mixed", RATE_HZ)
SETTINGS = BuildSettings(
    name="fan", family="dense", front_end=RawFrontEnd(), window=WindowSpec(length=4, hop=1),
    train_hop=4, units=(16, 6, 16), train=TrainSettings(epochs=6),
    # Small networks keep their fixed bytes; this one is about thresholds.
    limits=Limits(1.0, -1.0, 0.0, 10.0), alarm=AlarmSpec(on_delay_windows=4, off_delay_windows=8),
    speed_channel="speed", speed_bins=20,
)  # fmt: skip


@pytest.fixture(scope="module")
def built() -> Built:
    """A machine that is fast for 4 % of its time, 27 minutes of it."""
    rows = rows_of(1, shift(1, 160, 0.04))
    held_out = rows_of(2, shift(2, 60, 0.04))
    roles = Roles(
        [as_recording("well", SENSOR, rows)], [as_recording("later", SENSOR, held_out)], []
    )
    return build(SETTINGS, roles)


@pytest.mark.parametrize(
    "front_end", [RawFrontEnd(), SpectralFrontEnd(segment_length=16, segment_hop=8, segments=4,
                                                  bands=3, low_hz=1.0, high_hz=5.0)],
)  # fmt: skip
def test_training_sees_the_speed_of_each_window_whatever_becomes_of_it(
    front_end: RawFrontEnd | SpectralFrontEnd,
) -> None:
    rows = rows_of(1, shift(1, 3, 0.5))
    told = SENSOR.model_copy(update={"speed_channel": "speed"})
    draft = draft_manifest("fan", told, front_end, WindowSpec(length=40, hop=7), "dense")
    windows = cut(as_recording("well", SENSOR, rows), draft, 7)
    expected = [rows[first : first + 40, 0].mean(dtype=float) for first in windows.first_row]
    assert len(expected) == 1 + (300 - 40) // 7
    np.testing.assert_allclose(windows.speed, expected)
    untold = draft.model_copy(update={"sensor": SENSOR})
    assert np.isnan(cut(as_recording("well", SENSOR, rows), untold, 7).speed).all()


def judged(manifest: Manifest, model: Model, rows: np.ndarray) -> list[Any]:
    pipeline = Pipeline("fan", manifest, model)
    return pipeline.feed(Samples(1, 0, 0.0, RATE_HZ, rows, 0, False, 0))


def over(facts: list[Any]) -> float:
    """The share of windows over the limit."""
    return float(np.mean([fact.ratio >= 1.0 for fact in facts if isinstance(fact, Judgement)]))


def begins(facts: list[Any]) -> int:
    return sum(isinstance(fact, AlarmEvent) and fact.change.kind == "begin" for fact in facts)


def test_one_limit_for_all_speeds_is_blind_when_slow_and_cries_wolf_when_fast(
    built: Built,
) -> None:
    """The same int8 model, once with its bins and once with the limit of all windows together."""
    manifest, model = built.manifest, built.runners.int8
    assert manifest is not None
    assert model is not None
    assert manifest.sensor.speed_channel == "speed"
    assert len(manifest.threshold.bins) > 5
    pooled = manifest.model_copy(
        update={"threshold": manifest.threshold.model_copy(update={"bins": ()})}
    )
    fast = rows_of(3, np.full(3000, FAST + 1.0))
    assert over(judged(pooled, model, fast)) > 0.04
    assert over(judged(manifest, model, fast)) < 0.01
    slow = rows_of(4, np.full(3000, SLOW + 1.0))
    assert begins(judged(manifest, model, slow)) == 0
    fault = slow.copy()
    fault[1500:, 1] += 0.5
    assert begins(judged(pooled, model, fault)) == 0
    begin = next(f for f in judged(manifest, model, fault) if isinstance(f, AlarmEvent))
    assert begin.change.t > 150.0
    assert begin.why.channels[0].name != "speed"
    assert "never seen" not in begin.why.sentence


def test_an_alarm_at_a_speed_never_seen_says_so(built: Built) -> None:
    manifest, model = built.manifest, built.runners.int8
    assert manifest is not None
    assert model is not None
    pipeline = Pipeline("fan", manifest, model)
    rows = rows_of(5, np.full(200, 90.0))
    facts = pipeline.feed(Samples(1, 0, 0.0, RATE_HZ, rows, 0, False, 0))
    events = [fact for fact in facts if isinstance(fact, AlarmEvent)]
    assert "speed 90 was never seen in training (10." in events[0].why.sentence
    assert pipeline.counters.speeds_unseen == pipeline.counters.windows == 197


def test_the_threshold_of_a_fact_is_what_its_score_was_compared_with(built: Built) -> None:
    manifest, model = built.manifest, built.runners.int8
    assert manifest is not None
    assert model is not None
    facts = judged(manifest, model, rows_of(6, shift(6, 20, 0.5)))
    limits = {fact.threshold for fact in facts}
    assert len(limits) > 2
    for fact in facts:
        assert fact.ratio == pytest.approx(fact.score.value / fact.threshold)
    assert built.comparison.int8 is not None
    assert built.comparison.int8.false_share < 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed_channel": "rpm"}, "no speed channel 'rpm'; the channels are: speed, left, right"),
        (
            {"speed_channel": "left", "front_end": SmoothFrontEnd(drifting=("left",))},
            "left is the speed, which counts by its value",
        ),
    ],
)
def test_a_speed_that_can_not_be_one_is_refused(changes: dict[str, Any], message: str) -> None:
    settings = BuildSettings(**{**{k: getattr(SETTINGS, k) for k in SETTINGS.__slots__}, **changes})
    recording = as_recording("well", SENSOR, rows_of(1, shift(1, 10, 0.5)))
    with pytest.raises(UsageError, match=message):
        build(settings, Roles([recording], [], []))


@pytest.mark.parametrize(
    "bins",
    [
        [(10, 20), (15, 30)],
        [(20, 30), (10, 20)],
        [(10, 10), (10, 10)],
        [(20, 10)],
    ],
)
def test_bins_follow_each_other(bins: list[tuple[float, float]]) -> None:
    spec = commission(np.ones(10)).model_dump()
    made = [SpeedBin(low=low, high=high, value=1.0, windows=1) for low, high in bins]
    with pytest.raises(ValueError, match="slowest first"):
        ThresholdSpec.model_validate({**spec, "bins": made})


def test_bins_need_a_channel_that_tells_the_speed() -> None:
    manifest = raw_manifest()
    threshold = manifest.threshold.model_copy(
        update={"bins": (SpeedBin(low=0, high=1, value=1.0, windows=1),)}
    )
    document = manifest.model_copy(update={"threshold": threshold}).model_dump()
    with pytest.raises(ValueError, match=r"sensor\.speed_channel"):
        Manifest.model_validate(document)
