"""Slow: what the protocols of slow channels share, from files to the rows of a table.

In: recordings as tables or arrays, what a detector says row by row. Out: rows of a report.
Never: a label before the last detector has spoken.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from converter.benchmark.case import Case
from converter.benchmark.families import Outcome, Pair
from converter.benchmark.measures import EventView, mean_interval
from converter.benchmark.report import Key, Request, run_families, run_rival
from converter.benchmark.rivals import Rival, alarms
from converter.benchmark.trace import Trace
from converter.errors import UsageError
from converter.evaluate import auc

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Measures: TypeAlias = dict[str, float | None]

FIDELITY = ("spearman", "auc_delta", "f1_delta", "size_ratio", "top_channel_same")


class Said(NamedTuple):
    """What a detector says of every judged row of one series; `ratios`, of score to threshold, of
    those only that go through the agent's threshold."""

    scores: Floats
    alarms: Flags
    ratios: Floats | None = None


# One entry a test, in the order of the cases and of the tests of each.
Judge: TypeAlias = Callable[[Sequence[Said]], Measures]


def files_below(data: Path, folder: str, *patterns: str) -> list[Path]:
    """The files of one kind. Raises `UsageError` where there are none."""
    found = sorted({path for pattern in patterns for path in (data / folder).rglob(pattern)})
    if not found:
        raise UsageError(
            f"{data / folder}: expected files like {', '.join(patterns)}: "
            "give the folder above it with --data"
        )
    return found


def series_name(path: Path, folder: Path) -> str:
    """`valve1/0` for `skab/valve1/0.csv.gz`."""
    inside = path.relative_to(folder)
    return (inside.parent / inside.name.split(".")[0]).as_posix()


def read_table(path: Path, delimiter: str = ",") -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV file, gzip'd or not. Raises `UsageError` for a ragged one."""
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    header, *rows = csv.reader(io.StringIO(text), delimiter=delimiter)
    ragged = [number for number, row in enumerate(rows, 2) if len(row) != len(header)]
    if ragged:
        raise UsageError(f"{path}, line {ragged[0]}: expected {len(header)} columns")
    return header, rows


def numbers(path: Path, header: list[str], rows: list[list[str]], names: list[str]) -> Floats:
    """Columns of a table as float64[n, names]. Raises `UsageError` for what is no number."""
    try:
        places = [header.index(name) for name in names]
        return np.array([[float(row[place]) for place in places] for row in rows])
    except ValueError as error:
        raise UsageError(f"{path}: {error}: expected numbers in {', '.join(names)}") from None


def case_name(name: str) -> str:
    """What a file of the cache and a bundle may be called."""
    return "".join(letter if letter.isalnum() else "-" for letter in name).strip("-")


def after(trace: Trace, first_row: int) -> Said:
    """A trace from `first_row` on: what lies before it only warmed the detector up."""
    rows = slice(first_row, None)
    return Said(trace.row_scores()[rows], trace.row_alarms()[rows], trace.row_ratios()[rows])


def family_rows(
    request: Request, cases: Sequence[Case], judge: Judge, first_row: int
) -> tuple[list[dict[str, Any]], dict[Key, Pair]]:
    """int8 (shipped) and float of every family, means over the seeds, and the runs behind them."""
    pairs = run_families(request, cases)
    rows = []
    for family in request.families:
        by_seed = [
            [pairs[Key(case.name, family, seed)] for case in cases]
            for seed in range(1, request.seeds + 1)
        ]
        int8, float32 = (
            mean_measures(
                judge([said for pair in row for said in _said(getattr(pair, form), first_row)])
                for row in by_seed
            )
            for form in ("int8", "float32")
        )
        costs = mean_measures(dict(pair.fidelity) for row in by_seed for pair in row)
        costs |= {
            f"{name}_delta": _difference(int8.get(name), float32.get(name))
            for name in ("auc", "f1")
        }
        seeds = request.seeds
        rows.append(
            measured_row(f"{family} int8", int8, costs, shipped=True, int8=True, seeds=seeds)
        )
        rows.append(measured_row(f"{family} float", float32, seeds=seeds))
    return rows, pairs


def rival_rows(
    rivals: Iterable[Rival], cases: Sequence[Case], judge: Judge, first_row: int
) -> list[dict[str, Any]]:
    """Rivals under the threshold rule and the alarm of the cases."""
    rows = []
    for rival in rivals:
        traces = [trace for case in cases for trace in run_rival(rival, case).values()]
        rows.append(measured_row(rival.name, judge([after(trace, first_row) for trace in traces])))
    return rows


def plain_rows(
    rivals: Iterable[Rival], cases: Sequence[Case], judge: Judge, first_row: int
) -> list[dict[str, Any]]:
    """Rivals with limits of their own as their authors use them: fitted on all normal rows, fed
    from `first_row` on, no delay."""
    rows = []
    for rival in rivals:
        said = []
        for case in cases:
            fitted = rival.fit(np.concatenate(case.normal).astype(np.float64))
            for test in case.tests:
                judged = test.rows[first_row:].astype(np.float64)
                said.append(Said(fitted.score(judged), alarms(fitted, judged)))
        rows.append(measured_row(rival.name, judge(said)))
    return rows


def published_row(name: str, measures: Measures) -> dict[str, Any]:
    """A figure of somebody else."""
    return measured_row(f"{name} (published)", measures, seeds=0)


def same_keys(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row with the keys of all, None where it has none."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    keys = [key for key in keys if key not in FIDELITY] + list(FIDELITY)
    return [{key: row.get(key) for key in keys} for row in rows]


def mean_measures(measured: Iterable[Measures]) -> Measures:
    """Mean of each measure over those that have it."""
    values: dict[str, list[float]] = {}
    for one in measured:
        for key, value in one.items():
            values.setdefault(key, []).extend([] if value is None else [value])
    return {key: float(np.mean(found)) if found else None for key, found in values.items()}


def with_interval(name: str, values: Sequence[float | None]) -> Measures:
    """Mean over series and its 95 % bootstrap bounds; None if no series has the measure."""
    known = [value for value in values if value is not None]
    if not known:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"))
    mean, low, high, _ = mean_interval(known)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def event_measures(events: EventView) -> Measures:
    """Events found, and what false ones cost."""
    return {
        "events": float(events.segments),
        "events_found": float(events.segments_found),
        "false_episodes": float(events.false_events),
        "false_episodes_per_day": events.false_events_per_day,
        "alarm_share": events.normal_alarm_share,
        "delay_p50_s": events.delay_p50_seconds,
    }


def row_auc(labels: Flags, scores: Floats) -> float | None:
    """Area under the ROC curve of rows."""
    return auc(scores[~labels], scores[labels])


def _said(outcome: Outcome, first_row: int) -> list[Said]:
    return [after(trace, first_row) for trace in outcome.traces.values()]


def _difference(after: float | None, before: float | None) -> float | None:
    return None if after is None or before is None else after - before


def measured_row(
    name: str,
    measures: Measures,
    costs: Measures | None = None,
    shipped: bool = False,
    int8: bool = False,
    seeds: int = 1,
) -> dict[str, Any]:
    """One line of the table; 0 seeds: a figure of somebody else."""
    about = {"detector": name, "shipped": shipped, "int8": int8, "seeds": seeds}
    return {**about, **measures, **(costs or {})}
