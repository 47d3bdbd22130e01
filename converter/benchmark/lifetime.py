"""Lifetime: runs to failure. How long before the end does an alarm come, and is it silent before?

In: one recording a machine from new to broken, and which part of it is taken for healthy. Out: the
rows and series of a report: hours of warning, early alarms. Never: an alarm that knows how long the
machine will live: only the split is a share of the file, as it is in the published protocols.

Warning runs from the row in which the first alarm begins to the last row. An alarm in the first
part of life is early and counted beside it; a machine counts as warned only without one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import signal  # type: ignore[import-untyped,unused-ignore]

from converter.benchmark.case import Case
from converter.benchmark.contest import FIDELITY, feature_case, fidelity, mean_of
from converter.benchmark.families import Pair
from converter.benchmark.report import Key, Request, run_families, run_rival
from converter.benchmark.rivals import EWMA_Z, FOREST, LAG_T2Q, NEVER, RESIDUAL_PCA, Rival
from converter.benchmark.trace import Trace

Floats = NDArray[np.float64]
Begins = NDArray[np.int64]
# Robust standard deviations, and how many rows in a row, of the published rule; multiples and rows
# of the fixed thresholds.
RULE_SIGMA, MAD_SIGMA = 6.0, 1.4826
FIXED_MULTIPLES = (2.0, 3.0)
CLOCK_SHARE = 0.5
RIVALS = (LAG_T2Q, RESIDUAL_PCA, FOREST, EWMA_Z, NEVER)


@dataclass(frozen=True, slots=True)
class Protocol:
    """What is alike for all machines: early alarms begin in the first `early_share` of life; a
    warning is one from `least_hours` on; the rule smooths over `span` rows and wants `rule_rows` in
    a row, the fixed thresholds `fixed_rows`."""

    early_share: float
    least_hours: float
    span: float
    rule_rows: int
    fixed_rows: int


class Life(NamedTuple):
    """One machine. `levels` float64[n, k] are what the rule and the fixed thresholds look at, one
    detector a column; the first `healthy_rows` are taken for healthy; `about` goes into the series.
    """

    case: Case
    levels: Floats
    healthy_rows: int
    step_hours: float
    about: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Of the whole life."""
        return len(self.levels)

    @property
    def hours(self) -> float:
        """From the first row to the last."""
        return (self.rows - 1) * self.step_hours


class Fate(NamedTuple):
    """What a detector said of one machine's life."""

    warning_h: float | None
    early_alarms: int
    alarms: int
    warned: bool


def run_lives(
    request: Request, protocol: Protocol, lives: Sequence[Life]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows and series of a report: families, the published rule, fixed thresholds, rivals."""
    pairs = run_families(request, [life.case for life in lives])
    rows = [
        row for family in request.families for row in _family_rows(family, protocol, lives, pairs)
    ]
    plain = plain_detectors(protocol)
    for name, begins in plain.items():
        fates = [fate(life, protocol, begins(life)) for life in lives]
        rows.append(_table_row(name, False, False, 1, [fates]))
    for rival in RIVALS:
        fates = [fate(life, protocol, _rival_begins(rival, life)) for life in lives]
        rows.append(_table_row(rival.name, False, False, 1, [fates]))
    return rows, _series(request.families[0], protocol, lives, pairs, plain)


def fate(life: Life, protocol: Protocol, begins: Begins) -> Fate:
    """`begins` are the rows in which an alarm began."""
    early = int(np.sum(begins < protocol.early_share * life.rows))
    warning = (life.rows - 1 - int(begins[0])) * life.step_hours if len(begins) else None
    warned = warning is not None and warning >= protocol.least_hours and not early
    return Fate(warning, early, len(begins), warned)


def trace_begins(trace: Trace) -> Begins:
    """Rows in which an alarm of the pipeline began: the last row of the window."""
    first = np.diff(trace.active.astype(np.int8), prepend=0) == 1
    begins: Begins = trace.end_row[first] - 1
    return begins


def in_a_row(over: NDArray[np.bool_], rows: int, first: int = 0) -> Begins:
    """Where `over` is true for the `rows`-th time in a row, from row `first` on."""
    count, found = 0, []
    for row, value in enumerate(over.tolist()):
        count = count + 1 if value else 0
        if row >= first and (count == rows or (row == first and count > rows)):
            found.append(row)
    return np.array(found, np.int64)


def plain_detectors(protocol: Protocol) -> dict[str, Callable[[Life], Begins]]:
    """The published rule, the fixed thresholds, and the row that only looks at the clock."""

    def rule(life: Life) -> Begins:
        logs = np.log(np.maximum(life.levels, 1e-12))
        normal = logs[: life.healthy_rows]
        middle = np.median(normal, axis=0)
        sigma = MAD_SIGMA * np.median(np.abs(normal - middle), axis=0)
        away = np.abs(_smoothed(logs, protocol.span) - middle) > RULE_SIGMA * sigma
        return _any_column(away, protocol.rule_rows, life.healthy_rows)

    def fixed(multiple: float) -> Callable[[Life], Begins]:
        def begins(life: Life) -> Begins:
            middle = np.median(life.levels[: life.healthy_rows], axis=0)
            return _any_column(life.levels > multiple * middle, protocol.fixed_rows, 0, ahead=True)

        return begins

    def clock(life: Life) -> Begins:
        return np.array([round(CLOCK_SHARE * life.rows)], np.int64)

    found: dict[str, Callable[[Life], Begins]] = {"published rule": rule}
    found |= {f"fixed {multiple:g}x": fixed(multiple) for multiple in FIXED_MULTIPLES}
    return found | {f"clock, {CLOCK_SHARE:.0%} of life": clock}


def _smoothed(values: Floats, span: float) -> Floats:
    """Exponentially weighted mean with normalised weights, as pandas' `ewm(span=...).mean()`."""
    alpha = 2.0 / (span + 1.0)
    taps = [1.0], [1.0, alpha - 1.0]
    weights = signal.lfilter(*taps, np.ones(len(values)))
    return np.asarray(signal.lfilter(*taps, values, axis=0) / weights[:, None], np.float64)


def _any_column(over: NDArray[np.bool_], rows: int, first: int, ahead: bool = False) -> Begins:
    """Begins of all columns in order; `ahead`: an alarm is dated back to the first of its rows."""
    found = [in_a_row(column, rows, first) - (rows - 1 if ahead else 0) for column in over.T]
    return np.sort(np.concatenate(found))


def _rival_begins(rival: Rival, life: Life) -> Begins:
    features = feature_case(life.case)
    trace = run_rival(rival, features)[life.case.name]
    # A window a row, but for those that only fed the smoother.
    lost = life.rows - trace.rows
    return trace_begins(trace) + lost


def _table_row(
    detector: str, shipped: bool, int8: bool, seeds: int, by_seed: list[list[Fate]]
) -> dict[str, Any]:
    fates = [fate for one in by_seed for fate in one]
    warnings = [
        np.median([0.0 if fate.warning_h is None else fate.warning_h for fate in one])
        for one in by_seed
    ]
    return {
        "detector": detector,
        "shipped": shipped,
        "int8": int8,
        "seeds": seeds,
        "warning_h": float(np.mean(warnings)),
        "early_alarms": sum(fate.early_alarms for fate in fates) / len(by_seed),
        "alarms": sum(fate.alarms for fate in fates) / len(by_seed),
        "events": len(by_seed[0]),
        "events_found": sum(fate.warned for fate in fates) / len(by_seed),
        **dict.fromkeys(FIDELITY),
    }


def _fates(
    family: str,
    form: str,
    protocol: Protocol,
    lives: Sequence[Life],
    pairs: Mapping[Key, Pair],
) -> list[list[Fate]]:
    """By seed, then by machine."""

    def one(life: Life, seed: int) -> Fate:
        outcome = getattr(pairs[Key(life.case.name, family, seed)], form)
        return fate(life, protocol, trace_begins(outcome.traces[life.case.name]))

    return [[one(life, seed) for life in lives] for seed in sorted({key.seed for key in pairs})]


def _family_rows(
    family: str, protocol: Protocol, lives: Sequence[Life], pairs: Mapping[Key, Pair]
) -> list[dict[str, Any]]:
    rows = []
    for form, name in (("int8", family), ("float32", f"{family}, float")):
        by_seed = _fates(family, form, protocol, lives, pairs)
        rows.append(_table_row(name, form == "int8", form == "int8", len(by_seed), by_seed))
    mine = [pair for key, pair in pairs.items() if key.family == family]
    rows[0] |= fidelity(mine, *rows)
    return rows


def _series(
    family: str,
    protocol: Protocol,
    lives: Sequence[Life],
    pairs: Mapping[Key, Pair],
    plain: Mapping[str, Callable[[Life], Begins]],
) -> list[dict[str, Any]]:
    """Means over seeds; a seed without an alarm warns by 0 h."""
    by_seed = _fates(family, "int8", protocol, lives, pairs)
    series = []
    for life, fates in zip(lives, zip(*by_seed, strict=True), strict=True):
        rivals = {
            f"{name.split(',')[0].replace(' ', '_')}_h": fate(
                life, protocol, begins(life)
            ).warning_h
            for name, begins in plain.items()
        }
        series.append(
            {
                "name": life.case.name,
                "life_h": life.hours,
                "warning_h": mean_of(one.warning_h or 0.0 for one in fates),
                "early_alarms": sum(one.early_alarms for one in fates) / len(fates),
                "alarms": sum(one.alarms for one in fates) / len(fates),
                **life.about,
                **rivals,
            }
        )
    return series
