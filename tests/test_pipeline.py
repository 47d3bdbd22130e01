"""The pure core: gaps, scores, alarms and explanations, with a model of the test's own."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.bundles.manifest import AlarmSpec, NormalError, Scaler, SmoothFrontEnd
from edge_agent.judging.alarm import Alarm, severity_of
from edge_agent.judging.pipeline import AlarmEvent, Gap, Judgement, Pipeline
from edge_agent.judging.scoring import Scorer
from edge_agent.judging.threshold import commission
from firmware_bridge.samples import Samples
from tests.manifests import raw_manifest, spectral_manifest

SPEC = AlarmSpec(on_delay_windows=3, off_delay_windows=2, clear_ratio=0.8)


def samples(first: int, values: np.ndarray, lost: int = 0, restarted: bool = False) -> Samples:
    """A batch at 100 Hz."""
    return Samples(1, first, first / 100, 100.0, values.astype(np.float32), lost, restarted, 0)


def silent_model(scaled: np.ndarray) -> np.ndarray:
    """Expects nothing but zeros, so the score is the mean square."""
    return np.zeros_like(scaled)


def of_kind(facts: list, kind: type) -> list:
    """The facts of one type."""
    return [fact for fact in facts if type(fact) is kind]


def test_a_gap_empties_the_window_and_is_told() -> None:
    pipeline = Pipeline("pump", raw_manifest(), silent_model)
    assert pipeline.feed(samples(0, np.zeros((9, 2)))) == []
    (gap,) = pipeline.feed(samples(12, np.zeros((9, 2)), lost=3))
    assert gap == Gap("pump", 0.12, 3, "samples lost")
    (judgement,) = pipeline.feed(samples(21, np.zeros((1, 2))))
    assert judgement.window_start == pytest.approx(0.12)
    assert asdict(pipeline.counters) == {
        "samples": 19, "windows": 1, "gaps": 1, "samples_lost": 3, "episodes": 0,
        "speeds_unseen": 0,
    }  # fmt: skip


def test_a_restart_is_a_gap_of_unknown_size() -> None:
    pipeline = Pipeline("pump", raw_manifest(), silent_model)
    pipeline.feed(samples(0, np.zeros((9, 2))))
    (gap,) = pipeline.feed(samples(0, np.zeros((9, 2)), restarted=True))
    assert gap.reason == "board restarted"


def test_one_fault_one_begin_one_end_with_the_guilty_channel() -> None:
    pipeline = Pipeline("pump", raw_manifest(), silent_model)
    facts = pipeline.feed(samples(0, np.full((50, 2), 0.1)))
    fault = np.full((50, 2), 0.1)
    fault[:, 1] = -3.0
    facts += pipeline.feed(samples(50, fault))
    facts += pipeline.feed(samples(100, np.full((50, 2), 0.1)))
    events = of_kind(facts, AlarmEvent)
    assert [event.change.kind for event in events] == ["begin", "end"]
    begin = events[0]
    assert begin.why.channels[0].name == "b"
    assert begin.why.direction == "lower"
    assert begin.why.sentence.startswith("b carries 100%")
    assert events[1].why.sentence == f"over; at its worst {begin.why.sentence}"
    assert 0.5 < begin.change.first_over_t < begin.change.t < 0.7
    assert pipeline.counters.episodes == 1


@given(seed=st.integers(0, 10_000), scale=st.floats(0, 1e6))
def test_shares_sum_to_one_and_score_is_the_mean_square(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    scorer = Scorer(
        Scaler(centre=(1.0, 2.0, 3.0, 4.0), scale=(1.0, 2.0, 0.5, 1.0)),
        NormalError(by_feature=(1.0, 0.1, 5.0, 2.0), by_step=(1.0,) * 7),
        np.array([0, 0, 1, 1]),
    )
    features = (scale * rng.normal(size=(7, 4))).astype(np.float32)
    scaled, guess = scorer.scale(features), rng.normal(size=(7, 4)).astype(np.float32)
    score = scorer.score(1.5, scaled, guess)
    for shares in (score.by_channel, score.by_step, score.by_feature):
        assert abs(shares.sum() - 1) < 1e-6
    assert score.value == pytest.approx(np.mean((scaled.astype(np.float64) - guess) ** 2))
    assert len(score.by_channel) == 2


def test_a_perfect_reconstruction_blames_nobody() -> None:
    scorer = Scorer(
        Scaler(centre=(0.0, 0.0), scale=(1.0, 1.0)),
        NormalError(by_feature=(1.0, 1.0), by_step=(1.0,)),
        np.array([0, 1]),
    )
    score = scorer.score(0.0, np.ones((1, 2), np.float32), np.ones((1, 2), np.float32))
    assert score.value == 0.0
    assert score.by_channel.tolist() == [0.5, 0.5]


def kinds(ratios: list[float], spec: AlarmSpec = SPEC) -> list[tuple[int, str]]:
    """(window, kind) of every change of a fresh alarm."""
    alarm = Alarm(spec)
    changes = [alarm.judge(float(i), ratio) for i, ratio in enumerate(ratios)]
    return [(i, change.kind) for i, change in enumerate(changes) if change]


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.5] * 10, []),
        ([2, 2, 0.5, 2, 2, 0.5], []),
        ([2, 2, 2], [(2, "begin")]),
        ([2, 2, 2, 0.9, 0.9, 0.9, 0.9], [(2, "begin")]),
        ([2, 2, 2, 0.7, 0.7], [(2, "begin"), (4, "end")]),
        ([2, 2, 2, 0.7, 1.2, 0.7, 0.7], [(2, "begin"), (6, "end")]),
        ([2, 2, 2, 3, 4.1, 8.3], [(2, "begin"), (3, "update"), (5, "update")]),
        ([1, 1, 1, 0, 0, 1, 1, 1], [(2, "begin"), (4, "end"), (7, "begin")]),
    ],
)
def test_alarm_table(ratios: list[float], expected: list[tuple[int, str]]) -> None:
    assert kinds(ratios) == expected


@given(st.lists(st.floats(0, 4), max_size=200))
def test_begin_and_end_alternate_and_never_flap(ratios: list[float]) -> None:
    changes = [change for change in kinds(ratios) if change[1] != "update"]
    assert [kind for _, kind in changes] == (["begin", "end"] * len(changes))[: len(changes)]
    shortest = min(SPEC.on_delay_windows, SPEC.off_delay_windows)
    assert all(b - a >= shortest for (a, _), (b, _) in zip(changes, changes[1:], strict=False))


def test_a_gap_voids_what_was_counted_towards_a_begin() -> None:
    alarm = Alarm(SPEC)
    assert alarm.judge(0.0, 2.0) is alarm.judge(1.0, 2.0) is None
    alarm.gap()
    assert alarm.judge(2.0, 2.0) is None


def test_severity_grows_with_the_ratio() -> None:
    assert [severity_of(ratio) for ratio in (1, 1.5, 3, 6, 1e9)] == [1, 2, 3, 4, 4]


def test_thresholds_by_their_definitions() -> None:
    scores = np.arange(1, 2001) / 1000
    quantile = commission(scores, "quantile", q=0.99, factor=1.5)
    assert quantile.value == pytest.approx(1.5 * np.quantile(scores, 0.99))
    assert not quantile.provisional
    sigma = commission(scores[:999], "mean_3sigma")
    assert sigma.value == pytest.approx(scores[:999].mean() + 3 * scores[:999].std())
    assert sigma.provisional
    with pytest.raises(ValueError, match="finite"):
        commission(np.array([1.0, np.nan]))


def test_training_and_judging_see_the_same_features() -> None:
    """`features` (what training sees) and `feed` (what the service runs) come from one window."""
    seen: list[np.ndarray] = []

    def spy(scaled: np.ndarray) -> np.ndarray:
        seen.append(scaled.copy())
        return scaled

    manifest = spectral_manifest()
    values = np.random.default_rng(5).normal(size=(8000, 3)).astype(np.float32)
    batches = [
        Samples(1, i, i / 3200, 3200.0, values[i : i + 80], 0, False, 0) for i in range(0, 8000, 80)
    ]
    judging, training = Pipeline("a", manifest, spy), Pipeline("a", manifest, spy)
    judged = [fact for batch in batches for fact in judging.feed(batch)]
    trained = [
        (window.first_row, features.copy())
        for batch in batches
        for window, features in training.features(batch)
    ]
    assert len(of_kind(judged, Judgement)) == len(trained) == len(seen) == 8
    for (first_row, features), scaled, fact in zip(trained, seen, judged, strict=True):
        assert first_row == fact.first_row
        np.testing.assert_array_equal(features, scaled)


def test_numbers_beyond_float32_still_give_a_score() -> None:
    pipeline = Pipeline("pump", raw_manifest(), silent_model)
    with np.errstate(over="ignore", invalid="ignore"):
        facts = pipeline.feed(samples(0, np.full((10, 2), np.float32(3e38))))
        facts += pipeline.feed(samples(10, np.full((10, 2), np.inf)))
    for judgement in of_kind(facts, Judgement):
        assert np.isfinite(judgement.ratio)
        assert judgement.score.by_channel.sum() == pytest.approx(1.0)


def test_a_weighted_score_counts_each_feature_in_its_own_level() -> None:
    levels = NormalError(by_feature=(4.0, 1.0, 1e-6), by_step=(1.0,) * 2)
    identity = Scaler(centre=(0.0,) * 3, scale=(1.0,) * 3)
    scorer = Scorer(identity, levels, np.arange(3), "weighted")
    scaled = np.array([[2.0, 1.0, 0.5], [-2.0, 1.0, 0.5]], np.float32)
    score = scorer.score(0.0, scaled, np.zeros_like(scaled))
    # The third channel stood still: its level is a tenth of the mean of all three, 0.1667.
    parts = np.array([4.0 / 4.0, 1.0 / 1.0, 0.25 / (0.1 * 5.000001 / 3)])
    assert score.value == pytest.approx(parts.mean())
    np.testing.assert_allclose(score.by_channel, parts / parts.sum())
    plain = Scorer(identity, levels, np.arange(3)).score(0.0, scaled, np.zeros_like(scaled))
    assert plain.value == pytest.approx(np.square(scaled).mean())


@pytest.mark.parametrize("batch", [1, 7, 50])
def test_a_decimated_window_ends_with_its_last_row(batch: int) -> None:
    spec = SmoothFrontEnd(ewma_alpha=1.0, decimate=3, settle_samples=4)
    manifest = raw_manifest(length=5, hop=2).model_copy(update={"front_end": spec})
    pipeline, ends = Pipeline("pump", manifest, silent_model), []
    values = np.zeros((50, 2))
    for at in range(0, 50, batch):
        found = pipeline.feed(samples(at, values[at : at + batch]))
        ends += [fact.score.t for fact in of_kind(found, Judgement)]
    # Rows 4, 7, 10, 13, 16 make the first window: it is over when row 16 is.
    assert ends == pytest.approx([0.17 + 0.06 * k for k in range(len(ends))])
    assert len(ends) == 6
