"""Fidelity: what int8 has cost, and what a straight line would have done, on the same windows.

In: models as callables, the scaler, held-out normal and labelled evaluation windows. Out: a
`Comparison` with a verdict. Never: carries a threshold from one model to another: each one is
commissioned on its own held-out scores.

The int8 model is judged by the gateway's own interpreter and scoring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from time import perf_counter_ns
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.dataset import ANOMALOUS, NORMAL, WindowSet
from converter.evaluate import Scores, auc, spearman
from converter.layers import LayerError
from edge_agent.bundles.interpreter import Interpreter
from edge_agent.bundles.manifest import NormalError
from edge_agent.judging.commissioning import errors_of, normal_error, scores_of
from edge_agent.judging.pipeline import Model
from edge_agent.judging.scoring import Features, Scorer
from edge_agent.judging.threshold import Threshold
from edge_agent.judging.threshold_spec import ThresholdSpec

LATENCY_WINDOWS = 200

# Scores of held-out windows and the speed of each.
Commission = Callable[[Scores, Scores], ThresholdSpec]


@dataclass(frozen=True, slots=True)
class Limits:
    """What int8 may cost before the bundle is refused."""

    auc_loss: float = 0.01
    spearman: float = 0.98
    agreement: float = 0.98
    size_ratio: float = 0.30


class Rated(NamedTuple):
    """One model on all windows, held-out ones first; `limits` is what each of them is compared
    with. Shares are of windows over its own threshold."""

    held_out: Scores
    evaluate: Scores
    limits: Scores
    threshold: ThresholdSpec
    normal_error: NormalError
    auc: float | None
    false_share: float
    evaluated_false_share: float | None
    detected_share: float | None
    bytes: int
    latency_us: float
    invoke_us: float | None

    def measures(self) -> dict[str, Any]:
        """For the bundle: nothing that depends on the workstation."""
        return {
            "auc": self.auc,
            "threshold": self.threshold.value,
            "false_share": self.false_share,
            "evaluated_false_share": self.evaluated_false_share,
            "detected_share": self.detected_share,
            "bytes": self.bytes,
        }


class Comparison(NamedTuple):
    """Float, int8 and linear side by side; `int8` None if it was refused before it was made."""

    float32: Rated
    int8: Rated | None
    linear: Rated
    size_ratio: float | None
    auc_delta: float | None
    spearman: float | None
    alarm_agreement: float | None
    reasons: tuple[str, ...]

    @property
    def accepted(self) -> bool:
        """Whether the int8 model may ship."""
        return self.int8 is not None and not self.reasons


def rate(
    model: Model,
    size_bytes: int,
    scorer: Scorer,
    held_out: WindowSet,
    evaluate: WindowSet,
    commission: Commission,
) -> Rated:
    """Runs one model over every window, one at a time, as the gateway would."""
    held = errors_of(model, scorer, _scaled(scorer, held_out))
    levels = normal_error(held)
    # A score may be made of these very levels: each model has its own.
    scorer = scorer.knowing(levels)
    held_scores = scores_of(scorer, held.by_feature)
    scores = scores_of(scorer, errors_of(model, scorer, _scaled(scorer, evaluate)).by_feature)
    threshold = commission(held_scores, held_out.speed)
    gateway = Threshold(threshold)
    speeds = np.concatenate([held_out.speed, evaluate.speed])
    limits = np.array([gateway.limit(speed) for speed in speeds.tolist()])
    held_over = held_scores >= limits[: len(held_scores)]
    over = scores >= limits[len(held_scores) :]
    normal, anomalous = evaluate.label == NORMAL, evaluate.label == ANOMALOUS
    return Rated(
        held_scores,
        scores,
        limits,
        threshold,
        levels,
        auc(np.concatenate([held_scores, scores[normal]]), scores[anomalous]),
        float(np.mean(held_over)),
        _share(over[normal]),
        _share(over[anomalous]),
        size_bytes,
        _latency_us(model, scorer, held_out),
        _invoke_us(model),
    )


def compare(
    float32: Rated,
    int8: Rated | None,
    linear: Rated,
    limits: Limits,
    refusal: str | None = None,
    worst: LayerError | None = None,
) -> Comparison:
    """Float against int8, and the reasons against shipping, if any; what int8 has cost is blamed
    on the `worst` layer."""
    if int8 is None:
        reasons = (refusal or "no int8 model was made",)
        return Comparison(float32, None, linear, None, None, None, None, reasons)
    before, after = _all(float32), _all(int8)
    over_before, over_after = before >= float32.limits, after >= int8.limits
    delta = None if float32.auc is None or int8.auc is None else int8.auc - float32.auc
    measured = Comparison(
        float32,
        int8,
        linear,
        int8.bytes / float32.bytes,
        delta,
        spearman(before, after),
        float(np.mean(over_before == over_after)),
        (),
    )
    lost = losses(measured, limits)
    if lost and worst is not None:
        lost[-1] += (
            f" (most is lost in {worst.name}, {worst.operation}: it adds {worst.added:.1%} of its "
            "output's rms)"
        )
    return measured._replace(reasons=(*lost, *_too_large(measured, limits)))


def losses(measured: Comparison, limits: Limits) -> list[str]:
    """What int8 costs more of than it may, in words."""
    found = []
    if measured.auc_delta is not None and measured.auc_delta < -limits.auc_loss:
        found.append(f"AUC falls by {-measured.auc_delta:.4f}, at most {limits.auc_loss:g} may go")
    rows = (
        ("Spearman of the scores", measured.spearman, limits.spearman),
        ("agreement of the alarms", measured.alarm_agreement, limits.agreement),
    )
    for what, value, least in rows:
        if value is not None and value < least:
            found.append(f"{what} is {value:.4f}, at least {least:g} is needed")
    return found


def _too_large(measured: Comparison, limits: Limits) -> list[str]:
    if measured.size_ratio is None or measured.size_ratio <= limits.size_ratio:
        return []
    return [
        f"the file is {measured.size_ratio:.1%} of the float file, at most "
        f"{limits.size_ratio:.0%} is allowed: a larger network has less overhead"
    ]


def _all(rated: Rated) -> Scores:
    return np.concatenate([rated.held_out, rated.evaluate])


def _scaled(scorer: Scorer, windows: WindowSet) -> Iterator[Features]:
    return (scorer.scale(values) for values in windows.features)


def _share(over: NDArray[np.bool_]) -> float | None:
    return float(over.mean()) if len(over) else None


def _latency_us(model: Model, scorer: Scorer, windows: WindowSet) -> float:
    """Median of one call, microseconds, on this machine."""
    scaled = [scorer.scale(values) for values in windows.features[:LATENCY_WINDOWS]]
    return _median_us(partial(model, window) for window in scaled)


def _invoke_us(model: Model) -> float | None:
    """The same of the network alone, without what is done to its input and output; None where it
    is not one network in one piece."""
    if not isinstance(model, Interpreter):
        return None
    return _median_us([model.invoke] * LATENCY_WINDOWS)


def _median_us(calls: Iterable[Callable[[], object]]) -> float:
    taken = []
    for call in calls:
        begin = perf_counter_ns()
        call()
        taken.append(perf_counter_ns() - begin)
    return float(np.median(taken)) / 1e3
