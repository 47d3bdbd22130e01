"""Explain: a score to the words that people act on.

In: a `Score`, and what its channels and features are called. Out: `Why`, with one sentence.
Never: invents a cause; it says where the model was surprised, and in which direction.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from edge_agent.bundles.manifest import Sensor
from edge_agent.judging.limits import Exceeded
from edge_agent.judging.scoring import Score
from edge_agent.judging.telling import telling

Shape = Literal["point", "collective", "contextual"]

TOP_CHANNELS = 3
# What a table is said to be in whose columns have units of their own; it is none.
MIXED = "mixed"
# A point is over before anybody could look; a value within so many deviations is nothing unusual
# by itself.
POINT_WINDOWS = 3
USUAL_DEVIATIONS = 4.0


class ChannelShare(NamedTuple):
    """How much of the anomaly a channel carries."""

    name: str
    share: float


class Why(NamedTuple):
    """The explanation: channels by share, the most surprising feature, its direction, the time
    step (`step_share` of the whole) that carries most; what the feature was there and what the
    model expected, in the feature's own unit; what shape the anomaly has; and one sentence.

    `point`: at most three windows over the threshold. `contextual`: every value is one that the
    channel often has, but not together. `collective`: all others.
    """

    channels: tuple[ChannelShare, ...]
    feature: str
    direction: str
    top_step: int
    step_share: float
    observed: float
    expected: float
    shape: Shape
    sentence: str


NO_REASON = Why((), "", "", 0, 0.0, 0.0, 0.0, "point", "")


def afterwards(worst: Why) -> Why:
    """What the end of an episode says: the window that ends it is normal, the worst one was not."""
    return worst._replace(sentence=f"over; at its worst {worst.sentence}")


def beyond_limit(why: Why, over: Exceeded) -> Why:
    """The same for a value that is over a limit which nothing ever moves: that is said first."""
    return why._replace(sentence=f"{over.sentence}; {why.sentence}")


def at_unseen_speed(why: Why, sensor: Sensor, speed: float, known: tuple[float, float]) -> Why:
    """The same, with the warning that nobody knows what is normal at this speed."""
    low, high = known
    warning = (
        f"{sensor.speed_channel} {speed:.4g} was never seen in training ({low:.4g} to {high:.4g})"
    )
    return why._replace(sentence=f"{why.sentence}; {warning}")


def explain(score: Score, sensor: Sensor, labels: tuple[str, ...], windows_over: int) -> Why:
    """The explanation of one score; `labels` name the features, empty where the channel does, and
    `windows_over` is how many windows have been over the threshold so far."""
    by_channel, by_step = score.by_channel, score.by_step
    belongs = score.levels.membership
    # The speed of a machine whose spectra are judged has no feature, and nothing to answer for.
    order = [i for i in np.argsort(by_channel)[::-1] if belongs[:, i].any()][:TOP_CHANNELS]
    shares = tuple(ChannelShare(sensor.channels[i], round(float(by_channel[i]), 4)) for i in order)
    mine = np.flatnonzero(belongs[:, order[0]])
    top_step = int(np.argmax(by_step))
    feature, direction, words = telling(score, mine, labels, top_step)
    observed, expected = score.observed(top_step, feature), score.expected(top_step, feature)
    if words:
        what = f", mostly {words}"
    else:
        unit = "" if sensor.unit == MIXED else f" {sensor.unit}"
        what = f", {direction} than normal ({observed:.4g}{unit}, expected {expected:.4g})"
    return Why(
        shares, labels[feature], direction, top_step, float(by_step[top_step]), observed, expected,
        _shape(score, windows_over),
        f"{shares[0].name} carries {shares[0].share:.0%} of the anomaly{what}",
    )  # fmt: skip


def _shape(score: Score, windows_over: int) -> Shape:
    if np.abs(score.scaled).max() <= USUAL_DEVIATIONS:
        return "contextual"
    return "point" if windows_over <= POINT_WINDOWS else "collective"
