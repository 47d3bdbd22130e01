"""What only the site can know: limits that never adapt, quiet windows, drift notices, and what
becomes of a threshold when somebody calls the present normal."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.bundles.manifest import AlarmSpec, Manifest
from edge_agent.judging.drift import MEMORY_WINDOWS, Drift, DriftCheck
from edge_agent.judging.limits import ISO_20816_MM_S, LimitSpec
from edge_agent.judging.pipeline import AlarmEvent, Judgement, Pipeline, Site
from edge_agent.judging.quiet import QuietSpec
from edge_agent.judging.threshold import commission
from firmware_bridge.samples import Samples
from tests.manifests import raw_manifest, spectral_manifest

QUICK = AlarmSpec(on_delay_windows=1, off_delay_windows=1)


def silent_model(scaled: np.ndarray) -> np.ndarray:
    return np.zeros_like(scaled)


def perfect_model(scaled: np.ndarray) -> np.ndarray:
    return scaled


def samples(first: int, values: np.ndarray, rate_hz: float = 100.0, lost: int = 0) -> Samples:
    return Samples(1, first, first / rate_hz, rate_hz, values.astype(np.float32), lost, False, 0)


def begins(facts: list) -> list[AlarmEvent]:
    return [f for f in facts if isinstance(f, AlarmEvent) and f.change.kind == "begin"]


def shaken(velocity_mm_s: float, seconds: float = 3.0) -> Samples:
    """A 100 Hz vibration of that RMS velocity on y, in g, at 3200 Hz."""
    t = np.arange(int(seconds * 3200)) / 3200.0
    peak_g = velocity_mm_s * 1e-3 * np.sqrt(2) * 2 * np.pi * 100.0 / 9.80665
    values = np.zeros((len(t), 3))
    values[:, 1] = peak_g * np.sin(2 * np.pi * 100.0 * t)
    return samples(0, values, 3200.0)


@pytest.mark.parametrize(
    ("velocity_mm_s", "severity", "zone"), [(4.0, 0, ""), (5.0, 3, "C"), (8.0, 4, "D")]
)
def test_the_zones_of_iso_20816_whatever_the_model_says(
    velocity_mm_s: float, severity: int, zone: str
) -> None:
    site = Site(QUICK, limits=(LimitSpec(iso_20816="group1-rigid"),))
    pipeline = Pipeline("pump", spectral_manifest(), perfect_model, site)
    found = begins(pipeline.feed(shaken(velocity_mm_s)))
    if not severity:
        assert found == []
        return
    assert found[0].change.severity == severity
    assert found[0].why.sentence.startswith("y at ")
    assert f"zone {zone}" in found[0].why.sentence
    ratio = velocity_mm_s / ISO_20816_MM_S["group1-rigid"][0]
    assert found[0].change.ratio == pytest.approx(ratio, rel=0.03)


def test_a_plain_limit_of_one_channel() -> None:
    site = Site(QUICK, limits=(LimitSpec("b", above=5.0),))
    pipeline = Pipeline("pump", raw_manifest(), perfect_model, site)
    assert begins(pipeline.feed(samples(0, np.full((20, 2), 4.9)))) == []
    (begin,) = begins(pipeline.feed(samples(20, np.full((10, 2), -6.0))))
    assert "b at 6 g, over its limit of 5" in begin.why.sentence
    assert begin.change.severity == 4


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (LimitSpec("nope", above=1.0), "known: a, b"),
        (LimitSpec("a", iso_20816="group2-rigid"), "needs a spectral bundle"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(limit: LimitSpec, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Pipeline("pump", raw_manifest(), perfect_model, Site(limits=(limit,)))


def test_quiet_after_a_start_and_after_a_gap() -> None:
    site = Site(QUICK, QuietSpec(seconds=0.5))
    pipeline = Pipeline("pump", raw_manifest(), silent_model, site)
    loud = np.full((100, 2), 9.0)
    first = pipeline.feed(samples(0, loud))
    quiet = [f.quiet for f in first if isinstance(f, Judgement)]
    assert quiet[:9] == [True] * 9
    assert not any(quiet[9:])
    (begin,) = begins(first)
    assert begin.change.t == pytest.approx(0.55)
    again = pipeline.feed(samples(110, loud, lost=10))
    assert [f.quiet for f in again if isinstance(f, Judgement)] == quiet


def test_quiet_while_the_speed_changes() -> None:
    site = Site(QUICK, QuietSpec(ramp_channel="b", ramp_per_second=50.0))
    pipeline = Pipeline("pump", raw_manifest(), silent_model, site)
    speed = np.concatenate([np.zeros(50), np.linspace(0, 100, 100), np.full(50, 100.0)])
    facts = pipeline.feed(samples(0, np.stack([np.zeros(200), speed], axis=1)))
    judged = [f for f in facts if isinstance(f, Judgement)]
    quiet = [(f.window_start, f.quiet) for f in judged]
    assert all(flag for start, flag in quiet if 0.5 <= start <= 1.35)
    assert not any(flag for start, flag in quiet if start < 0.4 or start >= 1.5)


def test_a_ramp_channel_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match="known: a, b"):
        Pipeline("pump", raw_manifest(), silent_model, Site(quiet=QuietSpec(0, "rpm", 1.0)))


def drifts(check: DriftCheck, scores: np.ndarray) -> list[Drift]:
    found = [check.take(float(t), float(score)) for t, score in enumerate(scores)]
    return [each for each in found if each]


def test_drift_is_told_once_and_once_when_it_is_over() -> None:
    rng = np.random.default_rng(3)
    normal = rng.lognormal(0.0, 0.3, 20_000)
    check = DriftCheck("pump", commission(normal).sketch)
    assert drifts(check, rng.lognormal(0.0, 0.3, 50_000)) == []
    (moved,) = drifts(check, rng.lognormal(0.2, 0.3, 30_000))
    assert moved.moved
    assert moved.over_median > 0.6
    (back,) = drifts(check, rng.lognormal(0.0, 0.3, 40_000))
    assert not back.moved


def test_drift_says_nothing_before_it_can_know() -> None:
    check = DriftCheck("pump", commission(np.linspace(0.5, 1.5, 2000)).sketch)
    assert drifts(check, np.full(MEMORY_WINDOWS - 1, 100.0)) == []
    assert DriftCheck("pump", ()).take(0.0, 1.0) is None


def adaptive_manifest() -> Manifest:
    scores = np.random.default_rng(5).lognormal(0.0, 0.3, 2000)
    threshold = commission(scores, adaptation="conformal")
    return raw_manifest().model_copy(update={"threshold": threshold})


def test_nothing_is_learnt_while_nobody_has_seen_the_alarm() -> None:
    pipeline = Pipeline("pump", adaptive_manifest(), silent_model)
    rng = np.random.default_rng(7)
    before = pipeline.threshold.value
    pipeline.teachable = False
    pipeline.feed(samples(0, rng.normal(0, 1.35, (5000, 2))))
    assert pipeline.threshold.value == before
    pipeline.teachable = True
    pipeline.feed(samples(5000, rng.normal(0, 1.35, (5000, 2))))
    assert pipeline.threshold.value > before


def test_accepting_the_present_ends_the_episode_and_outlives_the_process() -> None:
    manifest = adaptive_manifest()
    pipeline = Pipeline("pump", manifest, silent_model)
    loud = np.random.default_rng(9).normal(0, 3.0, (2000, 2))
    assert begins(pipeline.feed(samples(0, loud)))
    event = pipeline.accept_new_normal(21.0)
    assert event is not None
    assert event.change.kind == "end"
    assert pipeline.threshold.value > 3 * manifest.threshold.value
    assert begins(pipeline.feed(samples(2000, loud))) == []
    later = Pipeline("pump", manifest, silent_model)
    later.restore(pipeline.state())
    assert later.threshold.value == pipeline.threshold.value
    assert later.threshold.state() == pipeline.threshold.state()


def test_a_few_windows_are_not_a_new_normal() -> None:
    pipeline = Pipeline("pump", adaptive_manifest(), silent_model)
    pipeline.feed(samples(0, np.ones((100, 2))))
    with pytest.raises(ValueError, match="at least 100"):
        pipeline.accept_new_normal(1.0)


def test_another_bundle_forgets_what_its_threshold_was() -> None:
    pipeline = Pipeline("pump", adaptive_manifest(), silent_model)
    pipeline.feed(samples(0, np.random.default_rng(1).normal(0, 3.0, (2000, 2))))
    pipeline.accept_new_normal(21.0)
    other = Pipeline("pump", raw_manifest(threshold=2.0), silent_model)
    other.restore(pipeline.state())
    assert other.threshold.value == 2.0
