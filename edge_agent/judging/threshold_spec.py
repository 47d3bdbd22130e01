"""Threshold's part of a manifest: what is known of the scores of a healthy machine (BUNDLE.md).

In: the `threshold` of `bundle.json`. Out: a `ThresholdSpec`. Never: compares a score with it (that
is threshold.py).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from edge_agent.bundles.frozen import Finite, Frozen, Positive

MAX_SPEED_BINS = 32


class Quantile(Frozen):
    """One point of the distribution of held-out normal scores."""

    q: float = Field(ge=0, le=1)
    score: Finite


class Tail(Frozen):
    """What lies over a high `level` of the held-out normal scores: how many of how many windows,
    mean and variance of the excess. A generalised Pareto distribution is fitted to it."""

    level: Positive
    windows: int = Field(ge=1)
    excesses: int = Field(ge=1)
    mean: Positive
    variance: float = Field(ge=0, allow_inf_nan=False)


class Adaptation(Frozen):
    """How the threshold follows a machine that wears in: never in an alarm, never under the
    commissioning value, never over `clip_ratio` times it.

    `conformal`: the natural logarithm of the tracked quantile goes up by `step` x (1 - alpha) for
    a score over it, down by `step` x alpha for one under it. `spot`: the tail goes on growing.
    """

    method: Literal["conformal", "spot"] = "conformal"
    alpha: float = Field(default=0.005, gt=0, lt=0.5)
    step: Positive = 0.01
    clip_ratio: float = Field(default=2.0, ge=1, le=100)


class SpeedBin(Frozen):
    """Windows whose mean speed lies in a range, over `low` up to and with `high`; the threshold
    from the `windows` held-out ones among them, or that of all windows where they are too few."""

    low: Finite
    high: Finite
    value: Positive
    windows: int = Field(ge=0)


class ThresholdSpec(Frozen):
    """The commissioning threshold and where it came from. Under 1,000 held-out windows no honest
    99.9 % quantile exists, and the bundle says `provisional`. `absolute` is a second limit that
    nothing ever moves. With `bins`, slowest first, a window's score counts by the bin of its speed;
    `sketch`, `tail` and the step are then of scores x `value` / the bin's value: as if all windows
    were of one speed."""

    method: Literal["quantile", "mean_3sigma", "pot"]
    value: Positive
    factor: Positive = 1.2
    q: float = Field(default=0.995, gt=0, lt=1)
    windows: int = Field(ge=1)
    provisional: bool
    sketch: tuple[Quantile, ...] = ()
    tail: Tail | None = None
    adaptation: Adaptation | None = None
    absolute: Positive | None = None
    bins: tuple[SpeedBin, ...] = Field(default=(), max_length=MAX_SPEED_BINS)

    @model_validator(mode="after")
    def _bins_follow_each_other(self) -> ThresholdSpec:
        edges = [edge for one in self.bins for edge in (one.low, one.high)]
        if edges != sorted(edges) or len({one.high for one in self.bins}) < len(self.bins):
            raise ValueError("threshold.bins must follow each other, slowest first")
        return self

    @model_validator(mode="after")
    def _a_tail_where_it_is_needed(self) -> ThresholdSpec:
        spot = self.adaptation is not None and self.adaptation.method == "spot"
        if (spot or self.method == "pot") and self.tail is None:
            raise ValueError("threshold: peaks over threshold need the tail of the scores")
        return self
