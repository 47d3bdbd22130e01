"""Thresholds that follow: what they learn, what they never do."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from edge_agent.judging.threshold import Threshold, commission, peak
from edge_agent.judging.threshold_spec import ThresholdSpec

METHODS = ("conformal", "spot")


def normal_scores(count: int, seed: int, level: float = 1.0) -> np.ndarray:
    """What scores look like: a chi-squared of many parts, always above 0."""
    return level * np.random.default_rng(seed).chisquare(40, count) / 40


def run(threshold: Threshold, scores: np.ndarray) -> np.ndarray:
    """The limit after each score."""
    limits = []
    for score in scores.tolist():
        threshold.learn(score)
        limits.append(threshold.value)
    return np.array(limits)


def test_peaks_over_threshold_exceed_as_rarely_as_asked() -> None:
    """The 1 in 10,000 score of an exponential tail, of which everything is known."""
    scores = np.random.default_rng(1).exponential(1.0, 50_000)
    spec = commission(scores, "pot")
    assert spec.value == pytest.approx(stats.expon.isf(1e-4), rel=0.1)
    assert peak(spec.tail, 1e-3) == pytest.approx(stats.expon.isf(1e-3), rel=0.05)


def test_the_moments_are_those_of_the_distribution() -> None:
    shape, scale = 0.2, 0.7
    excess = stats.genpareto.rvs(shape, scale=scale, size=200_000, random_state=3)
    spec = commission(np.concatenate([np.full(1_800_000, 1e-9), excess]), "pot")
    expected = stats.genpareto.isf(1e-4 * 10, shape, scale=scale)
    assert spec.value == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
def test_it_follows_a_machine_that_wears_in(method: str) -> None:
    """Everything is 50 % louder for good: a fixed limit alarms often, this one seldom."""
    spec = commission(normal_scores(2000, 1), "quantile", 0.995, 1.2, method)
    threshold, louder = Threshold(spec), normal_scores(20_000, 2, 1.5)
    limits = run(threshold, louder)
    assert np.mean(louder[-5000:] > spec.value) > 0.05
    assert np.mean(louder[-5000:] > limits[-5000:]) < 0.01
    assert spec.value < threshold.value <= 2 * spec.value


@pytest.mark.parametrize("method", METHODS)
def test_it_never_leaves_its_bounds(method: str) -> None:
    spec = commission(normal_scores(1000, 1), "quantile", 0.995, 1.2, method)
    threshold = Threshold(spec)
    assert run(threshold, np.full(50_000, 1e-6)).min() == pytest.approx(spec.value)
    assert run(threshold, np.full(5000, 1e6)).max() <= 2 * spec.value * (1 + 1e-12)
    assert run(threshold, normal_scores(100_000, 4))[-1] == pytest.approx(spec.value, rel=0.2)


def test_what_is_not_adaptive_stands_still() -> None:
    threshold = Threshold(commission(normal_scores(1000, 1)))
    before = threshold.value
    assert set(run(threshold, normal_scores(1000, 2, 5.0)).tolist()) == {before}


def test_the_absolute_limit_counts_where_it_is_nearer() -> None:
    spec = commission(normal_scores(1000, 1), adaptation="conformal")
    threshold = Threshold(spec.model_copy(update={"absolute": 1.1 * spec.value}))
    run(threshold, np.full(5000, 1.09 * spec.value))
    assert threshold.value > 1.2 * spec.value
    assert threshold.ratio(1.1 * spec.value) == pytest.approx(1.0)
    assert Threshold(spec).ratio(spec.value) == pytest.approx(1.0)


def test_a_slow_ramp_is_not_swallowed() -> None:
    """The score of a fault that grows by a standard deviation a day (1,440 windows), which is a
    square: the limit stands at twice its commissioning value long before six."""
    spec = commission(normal_scores(2000, 1), adaptation="conformal")
    threshold, random = Threshold(spec), np.random.default_rng(5)
    for window in range(1440 * 6):
        sigma = window / 1440
        score = random.chisquare(40) / 40 + sigma**2
        if threshold.ratio(score) >= 1.0:
            break
        threshold.learn(score)
    assert sigma < 3.0


def test_a_bundle_that_wants_peaks_must_bring_its_tail() -> None:
    spec = commission(normal_scores(100, 1), adaptation="spot")
    assert ThresholdSpec.model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(ValueError, match="tail"):
        ThresholdSpec.model_validate({**spec.model_dump(), "tail": None})


@pytest.mark.parametrize("scores", [np.zeros(10), np.full(10, 3.0), np.array([1.0])])
def test_scores_that_are_all_alike_still_make_a_threshold(scores: np.ndarray) -> None:
    for method in ("quantile", "mean_3sigma", "pot"):
        for adaptation in (None, *METHODS):
            threshold = Threshold(commission(scores, method, adaptation=adaptation))
            limits = run(threshold, np.concatenate([scores, [0.0, 1e30]]))
            assert np.isfinite(limits).all()
            assert limits.min() > 0
