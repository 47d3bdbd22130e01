"""Explain: a score to the words that people act on.

In: a `Score`, and what its channels and features are called. Out: `Why`, with one sentence.
Never: invents a cause; it says where the model was surprised, and in which direction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from edge_agent.scoring import Score

TOP_CHANNELS = 3


class ChannelShare(NamedTuple):
    """How much of the anomaly a channel carries."""

    name: str
    share: float


class Why(NamedTuple):
    """The explanation: channels by share, the most surprising feature, its direction, the window
    part (`step_share` of it) that carries most, and all of that as one sentence."""

    channels: tuple[ChannelShare, ...]
    feature: str
    direction: str
    top_step: int
    step_share: float
    sentence: str


NO_REASON = Why((), "", "", 0, 0.0, "")


def afterwards(worst: Why) -> Why:
    """What the end of an episode says: the window that ends it is normal, the worst one was not."""
    return worst._replace(sentence=f"over; at its worst {worst.sentence}")


def explain(score: Score, channels: tuple[str, ...], labels: tuple[str, ...]) -> Why:
    """The explanation of one score; `labels` name the features, empty where the channel does."""
    by_channel, by_feature, by_step = score.by_channel, score.by_feature, score.by_step
    order = np.argsort(by_channel)[::-1][:TOP_CHANNELS]
    shares = tuple(ChannelShare(channels[i], round(float(by_channel[i]), 4)) for i in order)
    members = len(labels) // len(channels)
    first = int(order[0]) * members
    feature = first + int(np.argmax(by_feature[first : first + members]))
    direction = "higher" if score.residual[feature] > 0 else "lower"
    label = labels[feature]
    top_step = int(np.argmax(by_step))
    what = f", mostly {label} {direction} than normal" if label else f", {direction} than normal"
    sentence = f"{shares[0].name} carries {shares[0].share:.0%} of the anomaly{what}"
    return Why(shares, label, direction, top_step, float(by_step[top_step]), sentence)
