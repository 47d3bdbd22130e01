"""Telling: of all features of one channel, the one that people should read first.

In: a `Score`, the channel's features, what they are called. Out: `Telling`.
Never: says that a band is lower because others are higher.

The bands of a spectrum are features beside their common level: when that rises, a band that stays
as it was falls. So a band counts here with its level, as the power that it has.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.judging.scoring import Score

BAND_UNIT, LEVEL = " Hz", "level"
# Those that are no bands, as people who measure vibration call them.
WORDS = {LEVEL: "vibration level", "velocity": "RMS velocity", "crest": "crest factor"}
# What surprises nearly as much as the worst is looked at, too: what leaks from a band into the next
# one does, and two tones that cancel each other in a machine that has become louder.
NEAR_SHARE = 0.25

Indices = NDArray[np.intp]
Floats = NDArray[np.float64]


class Telling(NamedTuple):
    """The feature, in which direction it went, and words for where: `28-34 Hz higher than normal`,
    empty where the channel itself is the feature."""

    feature: int
    direction: Literal["higher", "lower"]
    words: str


def telling(score: Score, mine: Indices, labels: tuple[str, ...], step: int) -> Telling:
    """Of the features `mine`, at the worst `step`; `labels` name all features."""
    shares, residuals = score.by_feature[mine], score.residuals[step, mine]
    bands = np.array([BAND_UNIT in labels[i] for i in mine])
    observed, expected = _powers(score, mine, labels, step, bands)
    # Infinities are nobody's: their differences are not, and what is not is not over 0.
    with np.errstate(invalid="ignore"):
        as_said = (observed - expected) * residuals > 0.0
    first = _first(shares, as_said, residuals > 0.0)
    direction: Literal["higher", "lower"] = "higher" if residuals[first] > 0.0 else "lower"
    same = bands & as_said & ((residuals > 0.0) == (residuals[first] > 0.0))
    if not bands[first]:
        same &= _unusual(score, mine)
    at = _loudest(same, shares, np.maximum(observed, expected))
    if bands[first] and at is not None:
        first, at = at, None
    label = labels[mine[first]]
    if not label:
        return Telling(int(mine[first]), direction, "")
    where = "" if at is None else f", most in {labels[mine[at]]}"
    words = f"{WORDS.get(label, label)} {direction} than normal{where}"
    return Telling(int(mine[first]), direction, words)


def _first(shares: Floats, as_said: NDArray[np.bool_], rose: NDArray[np.bool_]) -> int:
    """The worst; one that rose before one that fell, if it comes near: faults add to a spectrum."""
    worst = int(np.argmax(np.where(as_said, shares, -1.0) if as_said.any() else shares))
    risen = np.where(as_said & rose, shares, -1.0)
    return int(np.argmax(risen)) if risen.max() >= NEAR_SHARE * shares[worst] else worst


def _powers(
    score: Score, mine: Indices, labels: tuple[str, ...], step: int, bands: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """What was observed and what was expected, in the features' own units; of a band its power."""
    observed = np.array([score.observed(step, int(i)) for i in mine])
    expected = np.array([score.expected(step, int(i)) for i in mine])
    for at, feature in enumerate(mine):
        if labels[feature] == LEVEL:
            with np.errstate(invalid="ignore"):
                observed[bands] += observed[at]
                expected[bands] += expected[at]
    return observed, expected


def _loudest(among: NDArray[np.bool_], shares: Floats, powers: Floats) -> int | None:
    """Of those that surprise most, the one with most power."""
    if not among.any():
        return None
    near = among & (shares >= NEAR_SHARE * shares[among].max())
    return int(np.argmax(np.where(near, powers, -np.inf)))


def _unusual(score: Score, mine: Indices) -> NDArray[np.bool_]:
    """Which features are out of the ordinary by themselves."""
    errors = np.square(score.residuals[:, mine]).mean(axis=0)
    return np.asarray(errors > score.levels.by_feature[mine])
