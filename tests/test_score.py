"""A score is the same number in the converter and on the gateway, whatever it is made of."""

from __future__ import annotations

import numpy as np
import pytest

from converter.dataset import NORMAL, WindowSet
from converter.evaluate import Scores
from converter.fidelity import rate
from edge_agent.bundles.manifest import NormalError, Scaler, ScoreMethod
from edge_agent.judging.scoring import Scorer
from edge_agent.judging.threshold import commission
from edge_agent.judging.threshold_spec import ThresholdSpec

STEPS, FEATURES = 4, 3
SPREAD = np.array([4.0, 1.5, 1.2])
CENTRE = Scaler(centre=(0.0,) * FEATURES, scale=(1.0,) * FEATURES)
UNKNOWN = NormalError(by_feature=(1.0,) * FEATURES, by_step=(1.0,) * STEPS)


def windows(count: int, seed: int) -> WindowSet:
    """Normal ones; each feature errs on a scale of its own."""
    rng = np.random.default_rng(seed)
    features = (SPREAD * rng.normal(size=(count, STEPS, FEATURES))).astype(np.float32)
    nobody = np.arange(count)
    label = np.full(count, NORMAL)
    return WindowSet(features, nobody, nobody, nobody, label, np.full(count, np.nan))


def threshold(scores: Scores, _speeds: Scores) -> ThresholdSpec:
    """The usual one."""
    return commission(scores)


@pytest.mark.parametrize("method", ["mse", "weighted"])
def test_the_gateway_scores_what_was_commissioned(method: ScoreMethod) -> None:
    scorer = Scorer(CENTRE, UNKNOWN, np.arange(FEATURES), method)
    held_out = windows(400, 1)
    rated = rate(np.zeros_like, 1, scorer, held_out, windows(50, 2), threshold)
    gateway = Scorer(CENTRE, rated.normal_error, np.arange(FEATURES), method)
    silence = np.zeros((STEPS, FEATURES), np.float32)
    scores = [gateway.score(0.0, scaled, silence).value for scaled in held_out.features]
    assert scores == rated.held_out.tolist()
    assert rated.threshold.value == threshold(np.array(scores), held_out.speed).value


def test_levels_are_the_mean_of_the_largest_errors() -> None:
    scorer, held_out = Scorer(CENTRE, UNKNOWN, np.arange(FEATURES)), windows(400, 1)
    rated = rate(np.zeros_like, 1, scorer, held_out, windows(50, 2), threshold)
    squared = np.sort(np.square(held_out.features.astype(float)).mean(axis=1), axis=0)
    np.testing.assert_allclose(rated.normal_error.by_feature, squared[-20:].mean(axis=0))


def test_a_quiet_feature_is_heard_by_the_weighted_score_alone() -> None:
    """Four times what is usual in the quietest of three features."""
    fault = windows(200, 3)
    fault.features[:, :, 2] *= 4.0
    found = {}
    for method in ("mse", "weighted"):
        scorer = Scorer(CENTRE, UNKNOWN, np.arange(FEATURES), method)
        rated = rate(np.zeros_like, 1, scorer, windows(400, 1), fault, threshold)
        found[method] = float(np.mean(rated.evaluate >= rated.threshold.value))
    assert found["mse"] < 0.1
    assert found["weighted"] > 0.8
