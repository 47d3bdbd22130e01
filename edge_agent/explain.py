"""Explain: a score to the words that people act on.

In: a `Score`, and what its channels and features are called. Out: `Why`, with one sentence.
Never: invents a cause; it says where the model was surprised, and in which direction.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from edge_agent.manifest import Sensor
from edge_agent.scoring import Score

Shape = Literal["point", "collective", "contextual"]

TOP_CHANNELS = 3
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


def explain(score: Score, sensor: Sensor, labels: tuple[str, ...], windows_over: int) -> Why:
    """The explanation of one score; `labels` name the features, empty where the channel does, and
    `windows_over` is how many windows have been over the threshold so far."""
    by_channel, by_feature, by_step = score.by_channel, score.by_feature, score.by_step
    order = np.argsort(by_channel)[::-1][:TOP_CHANNELS]
    shares = tuple(ChannelShare(sensor.channels[i], round(float(by_channel[i]), 4)) for i in order)
    members = len(labels) // len(sensor.channels)
    first = int(order[0]) * members
    feature = first + int(np.argmax(by_feature[first : first + members]))
    direction = "higher" if score.residual[feature] > 0 else "lower"
    top_step = int(np.argmax(by_step))
    observed, expected = score.observed(top_step, feature), score.expected(top_step, feature)
    label = labels[feature]
    if label:
        what = f", mostly {label} {direction} than normal"
    else:
        what = f", {direction} than normal ({observed:.4g} {sensor.unit}, expected {expected:.4g})"
    return Why(
        shares, label, direction, top_step, float(by_step[top_step]), observed, expected,
        _shape(score, windows_over),
        f"{shares[0].name} carries {shares[0].share:.0%} of the anomaly{what}",
    )  # fmt: skip


def _shape(score: Score, windows_over: int) -> Shape:
    if np.abs(score.scaled).max() <= USUAL_DEVIATIONS:
        return "contextual"
    return "point" if windows_over <= POINT_WINDOWS else "collective"
