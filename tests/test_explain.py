"""Explanations: shares that add up, the right channel, sign and size, and what heals the score."""

from __future__ import annotations

import re

import numpy as np
import pytest

from edge_agent.bundles.manifest import NormalError, Scaler, Sensor, SpectralFrontEnd
from edge_agent.judging.explain import explain
from edge_agent.judging.front_end import make_front_end
from edge_agent.judging.scoring import Score, Scorer

CHANNELS = ("flow", "heat", "current", "speed", "left", "right", "front", "back")
COUNT = len(CHANNELS)
SENSOR = Sensor(channels=CHANNELS, unit="V", rate_hz=1.0)
STEPS = 12
CENTRE, SCALE = (5.0, 20.0, 1.0, 100.0) * 2, (0.5, 2.0, 0.1, 10.0) * 2
LABELS = ("",) * len(CHANNELS)


def plane() -> np.ndarray:
    """Two hidden causes for eight channels: what a model of a healthy machine has learned."""
    axes = np.linalg.qr(np.random.default_rng(3).normal(size=(len(CHANNELS), 2)))[0]
    return axes @ axes.T


PLANE = plane()


def judge(window: np.ndarray, features_a_channel: int = 1) -> Score:
    """A linear autoencoder's verdict."""
    levels = NormalError(by_feature=(0.02,) * COUNT, by_step=(0.02,) * STEPS)
    channel_of = np.arange(COUNT) // features_a_channel
    mine = Scorer(Scaler(centre=CENTRE, scale=SCALE), levels, channel_of)
    scaled = mine.scale(window.astype(np.float32))
    return mine.score(0.0, scaled, (scaled @ PLANE).astype(np.float32))


def healthy(seed: int) -> np.ndarray:
    """float64[steps, channel] in volts, on the plane but for a little noise."""
    random = np.random.default_rng(seed)
    scaled = random.normal(size=(STEPS, COUNT)) @ PLANE + 0.05 * random.normal(size=(STEPS, COUNT))
    return scaled * SCALE + CENTRE


def faulty(seed: int, channel: int, deviations: float) -> np.ndarray:
    window = healthy(seed)
    window[STEPS // 2 :, channel] += deviations * SCALE[channel]
    return window


def inject(kind: str, seed: int, channel: int, deviations: float) -> np.ndarray:
    """A healthy window with one channel's second half made wrong in the way that is asked for."""
    window = healthy(seed)
    half, size = slice(STEPS // 2, None), deviations * SCALE[channel]
    length = len(window[half])
    if kind == "bias":
        window[half, channel] += size
    elif kind == "drift":
        window[half, channel] += np.linspace(0.0, size, length)
    elif kind == "spike":
        window[STEPS // 2, channel] += size
    elif kind == "stuck":
        window[half, channel] = CENTRE[channel] + size
    elif kind == "swap":
        other = (channel + 1) % COUNT
        swapped = (window[half, other] - CENTRE[other]) / SCALE[other] + deviations
        window[half, channel] = CENTRE[channel] + swapped * SCALE[channel]
    return window


@pytest.mark.parametrize("kind", ["bias", "drift", "spike", "stuck", "swap"])
def test_injection_names_the_channel_and_the_sign_of_each_kind_of_fault(kind: str) -> None:
    right = signs = 0
    for seed in range(160):
        channel, sign = seed % COUNT, 1 if seed % 16 < COUNT else -1
        why = explain(judge(inject(kind, seed, channel, 5.0 * sign)), SENSOR, LABELS, 20)
        right += why.channels[0].name == CHANNELS[channel]
        signs += why.direction == ("higher" if sign > 0 else "lower")
    assert right >= 0.8 * 160
    assert signs >= 0.8 * 160


def test_what_the_parts_lose_the_score_loses() -> None:
    """The score is a sum over steps and features: each of them can be taken out of it exactly."""
    score = judge(faulty(3, 2, 5.0))
    parts = np.square(score.residuals) / score.residuals.size
    assert parts.sum() == pytest.approx(score.value, rel=1e-9)
    without = score.residuals.copy()
    without[:, 2] = 0.0
    rest = float(np.square(without).mean())
    assert score.value - rest == pytest.approx(parts[:, 2].sum(), rel=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_shares_add_up_to_one(seed: int) -> None:
    score = judge(faulty(seed, seed % COUNT, 4.0))
    for shares in (score.by_channel, score.by_feature, score.by_step):
        assert shares.sum() == pytest.approx(1.0, abs=1e-6)
        assert shares.min() >= 0.0


def test_the_injected_channel_comes_first_with_its_sign() -> None:
    right = signs = 0
    for seed in range(200):
        channel, sign = seed % COUNT, 1 if seed % 16 < COUNT else -1
        why = explain(judge(faulty(seed, channel, 5.0 * sign)), SENSOR, LABELS, 20)
        right += why.channels[0].name == CHANNELS[channel]
        signs += why.direction == ("higher" if sign > 0 else "lower")
        assert why.top_step >= STEPS // 2
    # The plane leans on some channels so much that the error is seen elsewhere.
    assert right >= 160
    assert signs >= 160


def test_what_was_there_and_what_was_expected_are_in_the_channels_unit() -> None:
    window = faulty(1, 1, 6.0)
    score = judge(window)
    why = explain(score, SENSOR, LABELS, 20)
    at = CHANNELS.index(why.channels[0].name)
    assert why.observed == pytest.approx(window[why.top_step, at], rel=1e-5)
    scaled = (window - CENTRE) / SCALE
    expected = (scaled @ PLANE)[why.top_step, at] * SCALE[at] + CENTRE[at]
    assert why.expected == pytest.approx(expected, rel=1e-4)
    assert f"{why.observed:.4g} V, expected {why.expected:.4g}" in why.sentence


def test_healing_the_first_channel_heals_the_score() -> None:
    """Deletion: with the expected values in its place most single faults are gone."""
    limit = 1.2 * np.quantile([judge(healthy(seed)).value for seed in range(1000, 1400)], 0.995)
    healed = cases = 0
    for seed in range(200):
        window = faulty(seed, seed % COUNT, 5.0)
        score = judge(window)
        if score.value < limit:
            continue
        cases += 1
        at = int(np.argmax(score.by_channel))
        for _ in range(50):  # the model's expectation, which moves as the channel does
            expected = ((window - CENTRE) / SCALE) @ PLANE
            window[:, at] = expected[:, at] * SCALE[at] + CENTRE[at]
        healed += judge(window).value < limit
    assert cases > 150
    assert healed >= 0.7 * cases


def test_the_shape_of_an_anomaly() -> None:
    far = judge(faulty(1, 0, 9.0))
    assert explain(far, SENSOR, LABELS, 2).shape == "point"
    assert explain(far, SENSOR, LABELS, 10).shape == "collective"
    # All values are usual ones, only not together.
    window = healthy(1)
    window[:, 2] = 2 * CENTRE[2] - window[:, 2]
    assert explain(judge(window), SENSOR, LABELS, 10).shape == "contextual"


def test_a_band_is_named_without_numbers_that_nobody_can_read() -> None:
    labels = ("10-20 Hz", "20-40 Hz", "40-80 Hz", "level") * 2
    two = Sensor(channels=("x", "y"), unit="g", rate_hz=1.0)
    why = explain(judge(faulty(1, 2, 9.0), COUNT // 2), two, labels, 9)
    assert why.feature in labels
    assert why.sentence.endswith("than normal")


def spectrum_of(machine: np.ndarray, shaft_hz: float | None = None) -> str:
    """What is said of one spectral window by a model that expects silence at 0.1 g."""
    spec = SpectralFrontEnd(shaft_hz=shaft_hz)
    sensor = Sensor(channels=("rpm", "x", "y"), unit="g", rate_hz=3200.0, speed_channel="rpm")
    front_end = make_front_end(spec, sensor)
    random = np.random.default_rng(1)
    quiet = random.normal(size=(spec.window_samples, 3)).astype(np.float32) * 0.1
    usual = front_end.features(quiet)
    count = usual.shape[1]
    mine = Scorer(
        Scaler(centre=(0.0,) * count, scale=(1.0,) * count),
        NormalError(by_feature=(0.05,) * count, by_step=(0.05,)),
        front_end.channel_of,
    )
    score = mine.score(0.0, front_end.features(quiet + machine), usual)
    why = explain(score, sensor, front_end.labels, 20)
    assert [channel.name for channel in why.channels] == ["x", "y"]
    return why.sentence


def test_a_tone_is_named_by_its_band_and_by_its_order_where_the_shaft_is_known() -> None:
    tone = np.zeros((SpectralFrontEnd().window_samples, 3), np.float32)
    tone[:, 1] = 3.0 * np.sin(2 * np.pi * 160 * np.arange(len(tone)) / 3200)
    low, high = band_of(spectrum_of(tone))
    assert low <= 160 <= high
    with_order = spectrum_of(tone, 30.0)
    assert band_of(with_order) == (low, high)
    assert f" Hz ({low / 30:.1f}-{high / 30:.1f} x shaft) higher than normal" in with_order


def band_of(sentence: str) -> tuple[float, float]:
    """The band that a sentence names first."""
    found = re.search(r"(\d+)-(\d+) Hz", sentence)
    assert found, sentence
    return float(found[1]), float(found[2])


def test_a_knock_that_is_no_band_by_itself_still_says_where_it_rings() -> None:
    knocks = np.zeros((SpectralFrontEnd().window_samples, 3), np.float32)
    t = np.arange(200) / 3200
    ring = 20.0 * np.exp(-600.0 * t) * np.sin(2 * np.pi * 500 * t)
    for at in range(0, len(knocks) - len(ring), 800):
        knocks[at : at + len(ring), 1] = ring
    sentence = spectrum_of(knocks)
    assert re.search(
        r"mostly (vibration level|kurtosis|crest factor|RMS velocity) higher", sentence
    ), sentence
    assert re.search(r", most in \d+-\d+ Hz$", sentence), sentence
    low, high = band_of(sentence)
    assert low <= 500 <= high


def test_a_band_that_stays_is_not_called_lower_because_others_have_risen() -> None:
    """The level rises, so its share of the whole falls; what people are told is what has risen."""
    tones = np.zeros((SpectralFrontEnd().window_samples, 3), np.float32)
    t = np.arange(len(tones)) / 3200
    wanted = (100, 160, 230, 330, 460, 640, 900)
    tones[:, 1] = sum(2.0 * np.sin(2 * np.pi * hz * t) for hz in wanted)
    sentence = spectrum_of(tones)
    assert "higher than normal" in sentence
    low, high = band_of(sentence)
    assert any(low <= hz <= high for hz in wanted), sentence
