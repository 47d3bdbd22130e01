"""Checks: whether a capture is of a healthy machine that was heard well, or why not.

In: a `Capture` that has ended. Out: one `Check` for each limit, passed or not. Never: compares the
capture with limits that were made of it: a fault that is in all of it would be normal by them.

| what | refused when | why so |
|---|---|---|
| score | its median is over 5 x the bundle's own threshold | a machine that differs so is another |
| far windows | over 1 % lie over 10 x that threshold | or it is that one now and then |
| absolute | over 0.1 % lie over the bundle's absolute limit | which nothing ever moves |
| site limits | over 0.1 % exceed a limit of the site | a number, or zone C of ISO 20816-3 |
| impulses | the envelope has a line 100 x its median in over 5 % of blocks | struck bearings |
| kurtosis | over 6 in over 5 % of blocks (accelerations) | a normal distribution has 3 |
| crest factor | over 10 in over 5 % of blocks (accelerations) | eight seconds of noise: 4 to 5 |
| drift | the score rises or falls by x 1.5 all in all (p < 0.01) | warming up, or getting worse |
| jump | the score's level jumps by x 2 | something happened |
| levels, drift | a feature's level moves by 3 of its scales in the bundle (p < 0.01) | heat, load |
| levels, jump | a feature's level jumps by 4 of its scales in the bundle | a step in heat or load |
| clipping | over 0.01 % of samples at the range's end, or 0.5 % in runs of an extreme | no shape |
| stuck | a channel has one value through half of the blocks (any, when fast) | a dead sensor |
| gaps | over a quarter of the minutes lost 0.1 % of samples, or a second in one go | untrue time |

Blocks last 8 s, or 256 rows of a slow stream. Drifts and jumps are looked for in each state by
itself, in the means of at most 20 blocks of windows. A block that hears one bang does not refuse a
capture; a fault that comes late has more of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import exp
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.baseline.capture import Capture, Taken
from edge_agent.calibrate.baseline.gauges import FAST_HZ, Gauge, gauges_of
from edge_agent.calibrate.baseline.trend import block_means, trend
from edge_agent.judging.scoring import Scorer
from edge_agent.judging.threshold import TINY, Threshold

MOST_MEDIAN_RATIO, FAR_RATIO, MOST_FAR_SHARE, MOST_OVER_SHARE = 5.0, 10.0, 0.01, 0.001
MOST_ENVELOPE, MOST_KURTOSIS, MOST_CREST, MOST_BLOCK_SHARE = 100.0, 6.0, 10.0, 0.05
MOST_SCORE_DRIFT, MOST_SCORE_JUMP, MOST_CHANCE = 1.5, 2.0, 0.01
MOST_LEVEL_DRIFT, MOST_LEVEL_JUMP = 3.0, 4.0
MOST_AT_RANGE, MOST_AT_EXTREME, MOST_BAD_MINUTES = 0.0001, 0.005, 0.25
STUCK_SHARE = 0.5
FAULT, MOVED, HEARD = "fault", "drift", "hearing"
HEALTHY = "make sure that the machine is healthy, and capture it again"
STEADY = "let the machine run until it is steady, and capture it again"

Floats = NDArray[np.float64]


class Check(NamedTuple):
    """One limit. `family` is what kind of trouble it is: `fault`, `drift` or `hearing`."""

    name: str
    family: str
    ok: bool
    observed: float
    limit: float
    sentence: str

    @property
    def next_move(self) -> str:
        """What to do if it is not ok."""
        return {FAULT: HEALTHY, MOVED: STEADY}.get(self.family, "see to sensor, cable and load")


def heard_well(capture: Capture) -> list[Check]:
    """What is wrong with the samples themselves; the rest need not be asked if any is."""
    hearing = capture.hearing
    hearing.settle()
    good = hearing.good()
    bad = 1.0 - float(good.mean()) if len(good) else 1.0
    found = [
        Check("gaps", HEARD, bad <= MOST_BAD_MINUTES, bad, MOST_BAD_MINUTES,
              f"{bad:.0%} of the minutes have lost more than 0.1 % of their samples, or a second "
              f"in one go; up to {MOST_BAD_MINUTES:.0%} are let go")
    ]  # fmt: skip
    if hearing.gauges:
        found += [_stuck(capture), *_clipped(capture)]
    return found


def healthy(capture: Capture, taken: Taken) -> list[Check]:
    """What speaks against a healthy machine, of the windows that count."""
    scores = scores_in(capture.scorer, taken)
    ratios, threshold = shipped_ratios(capture, taken), capture.bundle.manifest.threshold
    median = float(np.median(ratios))
    found = [
        Check("score", FAULT, median <= MOST_MEDIAN_RATIO, median, MOST_MEDIAN_RATIO,
              f"the median score is {median:.2f} x the bundle's own threshold, at most "
              f"{MOST_MEDIAN_RATIO:g} x is a healthy machine of its kind"),
        _share("far windows", ratios > FAR_RATIO, MOST_FAR_SHARE,
               f"over {FAR_RATIO:g} x the bundle's own threshold"),
        _share("site limits", taken.ratio >= 1.0, MOST_OVER_SHARE, "over a limit of the site"),
    ]  # fmt: skip
    if threshold.absolute is not None:
        over = scores > threshold.absolute
        found.append(_share("absolute", over, MOST_OVER_SHARE, "over the bundle's absolute limit"))
    found += _vibration(capture)
    for state in np.unique(taken.state).tolist():
        mine = taken.state == state
        found += _moved(capture, scores[mine], taken.level[mine])
    return found


def scores_in(scorer: Scorer, taken: Taken) -> Floats:
    """float64[n]."""
    return np.array([scorer.value(errors) for errors in taken.by_feature.astype(np.float64)])


def shipped_ratios(capture: Capture, taken: Taken) -> Floats:
    """Score / the bundle's own limit at its speed, float64[n]."""
    threshold = Threshold(capture.bundle.manifest.threshold)
    scores = scores_in(capture.scorer, taken)
    pairs = zip(scores.tolist(), taken.speed.tolist(), strict=True)
    return np.array([threshold.ratio(score, speed) for score, speed in pairs])


def _share(name: str, over: NDArray[np.bool_], most: float, what: str) -> Check:
    share = float(over.mean())
    told = f"{share:.2%} of the windows are {what}, at most {most:.1%} may be"
    return Check(name, FAULT, share <= most, share, most, told)


def _vibration(capture: Capture) -> Iterator[Check]:
    if not capture.hearing.gauges or not capture.hearing.kind.shaken:
        return
    gauges, names = _watched(capture)
    rows = (
        ("impulses", gauges.envelope, MOST_ENVELOPE, "the envelope's largest line is {} x its "
         "median, at most {}: beyond it something strikes, as a damaged bearing does"),
        ("kurtosis", gauges.kurtosis, MOST_KURTOSIS, "the kurtosis is {}, at most {}: beyond it "
         "there are blows"),
        ("crest factor", gauges.crest, MOST_CREST, "the crest factor is {}, at most {}: beyond it "
         "there are blows"),
    )  # fmt: skip
    for name, values, limit, words in rows:
        shares = (values > limit).mean(axis=0)
        worst = int(shares.argmax())
        observed = float(np.quantile(values[:, worst], 1.0 - MOST_BLOCK_SHARE))
        ok = bool(shares[worst] <= MOST_BLOCK_SHARE)
        told = f"{names[worst]}: {words.format(f'{observed:.3g}', f'{limit:g}')}"
        yield Check(name, FAULT, ok, observed, limit, told)


def _moved(capture: Capture, scores: Floats, level: NDArray[np.float32]) -> Iterator[Check]:
    means = block_means(np.log(np.maximum(scores, TINY)))
    if means is None:
        return
    found = trend(means)
    drift, jump = exp(abs(found.moved)), exp(abs(found.jump))
    way = "risen" if found.moved > 0.0 else "fallen"
    unlikely = found.p < MOST_CHANCE
    yield Check(
        "drift", MOVED, not (unlikely and drift > MOST_SCORE_DRIFT), drift, MOST_SCORE_DRIFT,
        f"the score has {way} by x {drift:.2f} in the capture, at most x {MOST_SCORE_DRIFT:g} is "
        "a machine that is steady",
    )  # fmt: skip
    yield Check(
        "jump", MOVED, jump <= MOST_SCORE_JUMP, jump, MOST_SCORE_JUMP,
        f"the score's level jumps by x {jump:.2f}, at most x {MOST_SCORE_JUMP:g} is a machine "
        "that is steady",
    )  # fmt: skip
    yield from _levels_moved(capture, level)


def _levels_moved(capture: Capture, level: NDArray[np.float32]) -> Iterator[Check]:
    means = block_means(level.astype(np.float64))
    assert means is not None
    trends = [trend(column) for column in means.T]
    drifts = [abs(one.moved) if one.p < MOST_CHANCE else 0.0 for one in trends]
    jumps = [abs(one.jump) for one in trends]
    for name, values, limit in (
        ("levels, drift", drifts, MOST_LEVEL_DRIFT), ("levels, jump", jumps, MOST_LEVEL_JUMP),
    ):  # fmt: skip
        worst = int(np.argmax(values))
        channel = capture.stream.channels[int(capture.channel_of[worst])]
        where = " ".join(filter(None, (channel, capture.labels[worst])))
        told = f"{where} has moved by {values[worst]:.1f} of its scales in the bundle"
        yield Check(name, MOVED, values[worst] <= limit, values[worst], limit,
                    f"{told}, at most {limit:g} is a machine that is steady")  # fmt: skip


def _watched(capture: Capture) -> tuple[Gauge, list[str]]:
    """Blocks and names of all channels but the one that tells the speed, which may stand still."""
    sensor = capture.bundle.manifest.sensor
    watched = [i for i in range(len(sensor.channels)) if i != sensor.speed_index]
    gauges = gauges_of(capture.hearing.gauges)
    return Gauge(*(part[:, watched] for part in gauges)), [sensor.channels[i] for i in watched]


def _stuck(capture: Capture) -> Check:
    (gauges, names), fast = _watched(capture), capture.hearing.kind.rate_hz >= FAST_HZ
    still = gauges.spread == 0.0
    if still.all() and not gauges.mean.any():
        return Check("stuck", HEARD, False, 1.0, 0.0, "every value is zero: nothing is measured")
    shares = still.mean(axis=0)
    worst = int(shares.argmax())
    observed, limit = float(shares[worst]), 0.0 if fast else STUCK_SHARE
    told = (
        f"channel {names[worst]} has one value through {observed:.0%} of the "
        f"blocks, at most {limit:.0%}: a sensor that is dead has"
    )
    return Check("stuck", HEARD, observed <= limit, observed, limit, told)


def _clipped(capture: Capture) -> Iterator[Check]:
    hearing = capture.hearing
    gauges, names = _watched(capture)
    for name, values, limit, what in (
        ("clipping", gauges.at_range, MOST_AT_RANGE, "at the end of the sensor's range"),
        ("cut off", gauges.at_extreme, MOST_AT_EXTREME, "in runs of one extreme value"),
    ):
        shares = values.mean(axis=0)
        worst = int(shares.argmax())
        observed = float(shares[worst])
        told = (
            f"channel {names[worst]}: {observed:.2%} of the samples are {what}, at most "
            f"{limit:.2%} may be: what is cut off has no shape"
        )
        yield Check(name, HEARD, observed <= limit, observed, limit, told)
    share = hearing.clipped / max(hearing.batches, 1)
    told = f"the board calls {share:.1%} of its batches clipped, at most 1 %: choose a larger range"
    yield Check("clipped by the board", HEARD, share <= 0.01, share, 0.01, told)
