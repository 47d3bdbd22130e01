"""Verdict: a capture that has ended to what is stored of it, or why nothing is.

In: a `Capture`, the states that were asked for, how many minutes of each. Out: a `Concluded`.
Never: a threshold that was not tried on held-out windows, a file, a clock.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.calibrate.baseline.capture import Capture, Taken
from edge_agent.calibrate.baseline.checks import Check, healthy, heard_well
from edge_agent.calibrate.baseline.document import StateTold
from edge_agent.calibrate.baseline.recalibrate import LEAST_WINDOWS, Recalibrated, recalibrate
from edge_agent.calibrate.sitting.task import Verdict

USUAL_MINUTES = 10.0
# A capture that is a window or two short of its minutes has them.
SHORT_SHARE = 0.995
# Of simulated motors up to here all clear faults were found, at 9 x no bearing's.
MOST_TIMES_SEEN = 5.0


class Concluded(NamedTuple):
    """`checks` are those that were asked, in order; `result` only where they were all passed."""

    verdict: Verdict
    reason: str
    next_move: str
    checks: tuple[Check, ...]
    states: tuple[StateTold, ...]
    provisional: bool = False
    taken: Taken | None = None
    result: Recalibrated | None = None


def minutes_by_state(capture: Capture, count: int) -> NDArray[np.float64]:
    """float64[count]: minutes of each state in windows that count."""
    state, stretch = capture.places()
    counts = np.bincount(state[capture.hearing.good()[stretch]], minlength=count)
    return np.asarray(counts * capture.bundle.manifest.hop_seconds / 60.0)


def conclude(capture: Capture, names: tuple[str, ...], minutes: float) -> Concluded:
    """The last word. With speed bins, one of them that has its minutes is enough for a marginal
    one: the others get the level of all."""
    checks = heard_well(capture)
    got = minutes_by_state(capture, len(names))
    taken = capture.taken()
    taken = taken.pick(capture.hearing.good()[taken.stretch])
    counts = np.bincount(taken.state, minlength=len(names)).tolist()
    states = tuple(
        StateTold(name=name, minutes=round(float(has), 3), windows=count)
        for name, has, count in zip(names, got, counts, strict=True)
    )
    wrong = next((check for check in checks if not check.ok), None)
    short = [one for one in states if one.minutes < SHORT_SHARE * minutes]
    if wrong is None and short and not (capture.bins and len(short) < len(states)):
        return _failed(_short(short, minutes), "let it run for longer", checks, states)
    if wrong is None and taken.windows >= LEAST_WINDOWS:
        checks += healthy(capture, taken)
        wrong = next((check for check in checks if not check.ok), None)
    if wrong is not None:
        return _failed(_all_wrong(checks), wrong.next_move, checks, states)
    found = recalibrate(capture, taken)
    if isinstance(found, str):
        return _failed(found, "", checks, states)
    if found.refusal:
        failed = _failed(found.refusal, "the bundle's own threshold stays", checks, states)
        return failed._replace(taken=taken, result=found)
    provisional = found.threshold.provisional or minutes < USUAL_MINUTES
    spec = found.threshold.model_copy(update={"provisional": provisional})
    found = found._replace(threshold=spec)
    reason = _told(capture, taken, found, minutes)
    if short:
        reason = f"{reason}; {_short(short, minutes)}"
    verdict: Verdict = "marginal" if short else "pass"
    return Concluded(
        verdict, reason, _dulled(capture, found), tuple(checks), states, provisional, taken, found
    )


def _failed(
    reason: str, next_move: str, checks: list[Check], states: tuple[StateTold, ...]
) -> Concluded:
    return Concluded("fail", reason, next_move, tuple(checks), states)


def _all_wrong(checks: list[Check]) -> str:
    """Everything that was exceeded, each with its limit; the first few words matter most."""
    return "; ".join(f"{check.name}: {check.sentence}" for check in checks if not check.ok)[:900]


def _short(short: list[StateTold], minutes: float) -> str:
    rows = ", ".join(f"{one.name} {one.minutes:.1f}" for one in short)
    return f"too short: {rows} of {minutes:g} minutes that count"


def _dulled(capture: Capture, found: Recalibrated) -> str:
    """What a machine needs that is this much louder than those of the bundle."""
    times = found.threshold.value / capture.bundle.manifest.threshold.value
    if capture.bundle.manifest.model.memory is not None or times <= MOST_TIMES_SEEN:
        return ""
    return (
        f"record this machine and build a bundle of it: a threshold {times:.1f} x the bundle's own "
        "hides faults that are small"
    )


def _told(capture: Capture, taken: Taken, found: Recalibrated, minutes: float) -> str:
    own, now = capture.bundle.manifest.threshold.value, found.threshold
    shipped, mine = found.estimate.shipped, found.estimate.now
    told = (
        f"threshold {own:.4g} -> {now.value:.4g} (x {now.value / own:.2f}) from {now.windows} "
        f"windows; on {found.estimate.windows} held-out ones (of {taken.windows}) "
        f"{shipped.episodes} false episodes and {shipped.share:.1%} of the time in alarm before, "
        f"{mine.episodes} and {mine.share:.1%} now"
    )
    if now.value == own:
        told = f"{told}; this machine is no louder than the bundle expects, so its threshold stays"
    if not now.provisional:
        return told
    why = "under 1000 windows" if minutes >= USUAL_MINUTES else f"only {minutes:g} min a state"
    return f"{told}; provisional: {why}"
