"""Estimate: how often a healthy machine would call somebody for nothing.

In: ratios of windows that no threshold was made of, and the asset's alarm. Out: false episodes a
machine-day, with an interval. Never: another alarm than the gateway's own.

The interval is the exact one of a Poisson count (Garwood 1936). It supposes that episodes come
independently: a few minutes of held-out windows can't tell otherwise, and it is wide enough.
"""

from __future__ import annotations

from math import exp, lgamma, log

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.manifest import AlarmSpec
from edge_agent.calibrate.baseline.document import FalseAlarms
from edge_agent.judging.alarm import Alarm

DAY_SECONDS = 86_400.0
TAIL = 0.025
HALVINGS = 50


def false_alarms(
    ratios: NDArray[np.float64], runs: NDArray[np.int64], alarm: AlarmSpec, hop_seconds: float
) -> FalseAlarms:
    """Of ratios float64[n] in order; where `runs` changes, windows don't follow each other."""
    judge, episodes, active = Alarm(alarm), 0, 0
    for i, ratio in enumerate(ratios.tolist()):
        if i and runs[i] != runs[i - 1]:
            judge.gap()
        change = judge.judge(i * hop_seconds, ratio)
        episodes += change is not None and change.kind == "begin"
        active += judge.active
    days = max(len(ratios), 1) * hop_seconds / DAY_SECONDS
    low, high = poisson_interval(episodes)
    return FalseAlarms(
        episodes=episodes, a_day=episodes / days, low=low / days, high=high / days,
        share=active / max(len(ratios), 1),
    )  # fmt: skip


def poisson_interval(count: int) -> tuple[float, float]:
    """Means that a count of so many is not too unlikely under, 95 %."""
    low = _mean_with(count - 1, 1.0 - TAIL) if count else 0.0
    return low, _mean_with(count, TAIL)


def _mean_with(count: int, chance: float) -> float:
    """The mean under which at most `count` come with this chance; by halving, as SciPy is not on
    every gateway."""
    low, high = 0.0, 10.0 + 2.0 * count
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        terms = (exp(i * log(middle) - middle - lgamma(i + 1)) for i in range(count + 1))
        low, high = (middle, high) if sum(terms) > chance else (low, middle)
    return 0.5 * (low + high)
