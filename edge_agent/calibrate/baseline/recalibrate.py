"""Recalibrate: the windows of a healthy machine to a threshold and levels of its own.

    |-- slots (a memory only) --|-- levels and threshold --|..|-- held out --|   in each state
             a third                       a third                 the last third

In: a capture that `checks.py` lets pass. Out: a `Recalibrated`. Never: estimates false alarms on a
window that the threshold was made of, TensorFlow, another way than `threshold.commission`: method,
factor, quantile and bins are the bundle's; a threshold under the bundle's own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.manifest import Manifest, NormalError
from edge_agent.bundles.memory import MemoryModel
from edge_agent.bundles.model import model_of
from edge_agent.bundles.slots import Members, fill
from edge_agent.calibrate.baseline.capture import Capture, Floats, Taken
from edge_agent.calibrate.baseline.checks import scores_in, shipped_ratios
from edge_agent.calibrate.baseline.document import Estimate
from edge_agent.calibrate.baseline.estimate import false_alarms
from edge_agent.judging.commissioning import WindowErrors, errors_of, normal_error
from edge_agent.judging.threshold import SpeedEdges, Speeds, Threshold, commission
from edge_agent.judging.threshold_spec import ThresholdSpec

FIT_SHARE = 2.0 / 3.0
# Fewer say nothing about a quantile at all, whatever is called provisional.
LEAST_WINDOWS = 100
MOST_TIMES_SHIPPED = 20.0

Chosen = NDArray[np.bool_]


class Recalibrated(NamedTuple):
    """What was found; `refusal` says why it must not be used. `before` and `after` are the ratios
    of all windows by the shipped threshold and by this one, float64[n]; `held` the held-out."""

    threshold: ThresholdSpec
    normal_error: NormalError
    members: Members
    estimate: Estimate
    before: Floats
    after: Floats
    held: Chosen
    refusal: str | None


def recalibrate(capture: Capture, taken: Taken) -> Recalibrated | str:
    """Of the windows that count; in words why not if there are too few."""
    manifest = capture.bundle.manifest
    first, second, held = parts(taken.state, manifest)
    memory = manifest.model.memory is not None
    if not memory:
        second = first | second
    fewest = min(int(second.sum()), int(held.sum()))
    if fewest < LEAST_WINDOWS:
        return (
            f"{fewest} windows to commission on or to try it on, at least {LEAST_WINDOWS} of "
            "each are needed: capture longer"
        )
    before = shipped_ratios(capture, taken)
    members: Members = {}
    if memory:
        members, taken = _filled(capture, taken, first)
    kept = taken.pick(second)
    levels = normal_error(
        WindowErrors(kept.by_feature.astype(np.float64), kept.by_step.astype(np.float64))
    )
    if manifest.score == "weighted" and not memory:
        # Its score is counted in these levels: lower ones are a lower threshold by another name.
        pairs = zip(levels.by_feature, manifest.normal_error.by_feature, strict=True)
        levels = levels.model_copy(update={"by_feature": tuple(max(*pair) for pair in pairs)})
    scores = scores_in(capture.scorer.knowing(levels), taken)
    threshold = _commissioned(manifest, scores[second], kept.speed)
    if not memory:
        threshold = _not_under(manifest.threshold, threshold)
    ruler = Threshold(threshold)
    pairs = zip(scores.tolist(), taken.speed.tolist(), strict=True)
    after = np.array([ruler.ratio(score, speed) for score, speed in pairs])
    estimate = _estimate(capture, taken, held, before, after)
    return Recalibrated(
        threshold, levels, members, estimate, before, after, held,
        _insane(manifest, threshold, estimate),
    )  # fmt: skip


def parts(state: NDArray[np.int64], manifest: Manifest) -> tuple[Chosen, Chosen, Chosen]:
    """Which windows are for slots, for levels and threshold, and held out: thirds of the time of
    each state; the windows between, that share samples with both sides, are nobody's."""
    first, second, held = (np.zeros(len(state), np.bool_) for _ in range(3))
    embargo = -(-manifest.window.length // manifest.window.hop)
    for one in np.unique(state).tolist():
        mine = np.flatnonzero(state == one)
        end = round(FIT_SHARE * len(mine))
        first[mine[: end // 2]] = True
        second[mine[end // 2 : end]] = True
        held[mine[end + embargo :]] = True
    return first, second, held


def _commissioned(manifest: Manifest, scores: Floats, speed: Floats) -> ThresholdSpec:
    """By the bundle's own rule; an absolute limit stays."""
    own, speeds = manifest.threshold, None
    if own.bins:
        edges = SpeedEdges(own.bins[0].low, tuple(one.high for one in own.bins))
        speeds = Speeds(speed, edges)
    adaptation = own.adaptation.method if own.adaptation else None
    found = commission(scores, own.method, own.q, own.factor, adaptation, speeds)
    changes: dict[str, object] = {"absolute": own.absolute}
    if own.adaptation and found.adaptation:
        step = found.adaptation.step
        changes["adaptation"] = own.adaptation.model_copy(update={"step": step})
    return found.model_copy(update=changes)


def _not_under(own: ThresholdSpec, found: ThresholdSpec) -> ThresholdSpec:
    """Ten minutes don't show what a machine does in a week: as `accept_new_normal` does, they
    raise a threshold, and lower none. (With slots of its own a memory errs by another measure.)"""
    bins = tuple(
        mine.model_copy(update={"value": max(mine.value, its.value)})
        for mine, its in zip(found.bins, own.bins, strict=True)
    )
    return found.model_copy(update={"value": max(found.value, own.value), "bins": bins})


def _filled(capture: Capture, taken: Taken, chosen: Chosen) -> tuple[Members, Taken]:
    """Slots of this machine, and what the memory makes of every window with them."""
    bundle = capture.bundle
    spec, model = bundle.manifest.model.memory, capture.model
    assert spec is not None
    assert isinstance(model, MemoryModel)
    members = fill(model, spec, bundle.files, taken.scaled[chosen])
    filled = model_of(bundle.manifest.model, bundle.files | members)
    errors = errors_of(filled, capture.scorer, taken.scaled)
    return members, taken._replace(
        by_feature=errors.by_feature.astype(np.float32), by_step=errors.by_step.astype(np.float32)
    )


def _estimate(
    capture: Capture, taken: Taken, held: Chosen, before: Floats, after: Floats
) -> Estimate:
    """The same alarm, the same held-out windows, both thresholds."""
    hop_seconds = capture.bundle.manifest.hop_seconds
    places = np.flatnonzero(held)
    # A run ends where a window was left out, or the machine went to another state.
    breaks = (np.diff(places) > 1) | (np.diff(taken.state[held]) != 0)
    runs = np.concatenate([[0], np.cumsum(breaks)]).astype(np.int64)
    # A site's limits count with both thresholds.
    shipped, now = (
        false_alarms(np.maximum(ratios, taken.ratio)[held], runs, capture.alarm, hop_seconds)
        for ratios in (before, after)
    )
    hours = float(held.sum()) * hop_seconds / 3600.0
    return Estimate(hours=hours, windows=int(held.sum()), shipped=shipped, now=now)


def _insane(manifest: Manifest, found: ThresholdSpec, estimate: Estimate) -> str | None:
    """Why the shipped threshold should stay, if it should."""
    times = found.value / manifest.threshold.value
    if times > MOST_TIMES_SHIPPED:
        return (
            f"the threshold would be {times:.1f} x the bundle's own, at most "
            f"{MOST_TIMES_SHIPPED:g} x is the same kind of machine: build a bundle for this one"
        )
    # By time, not by episodes: one that never ends is no better than two short ones.
    if estimate.now.share > estimate.shipped.share:
        return (
            f"it is no better: in alarm {estimate.now.share:.1%} of the held-out time, with the "
            f"bundle's own threshold {estimate.shipped.share:.1%}"
        )
    return None
