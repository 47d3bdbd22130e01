"""NAB v1.1: single series, early detections in labelled windows earn (Numenta).

In: `nab/windows.json` and the CSV files that it names. Out: the three scores of the corpus. Never:
a headline: NAB sets its threshold on the labels, and a random detector scores well.

The probation rows at the start of a file, which NAB doesn't score, are what a model is fitted on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from converter.benchmark.case import Case, Kind, Test, sensor
from converter.benchmark.nab_score import (
    LOW_FN,
    LOW_FP,
    STANDARD,
    NabSeries,
    nab_score,
    normalised,
    probation_rows,
    window_rows,
)
from converter.benchmark.report import Report, Request
from converter.benchmark.rivals import EWMA_Z, FOREST, LAG_T2Q, NEVER
from converter.benchmark.slow import (
    Flags,
    Floats,
    Measures,
    Said,
    case_name,
    family_rows,
    mean_measures,
    numbers,
    published_row,
    read_table,
    rival_rows,
    row_auc,
    same_keys,
)
from converter.errors import UsageError
from converter.models.training import TrainSettings
from edge_agent.bundles.manifest import AlarmSpec, RawFrontEnd, WindowSpec

# One value at a time: of a single channel a longer window mostly finds out that its level moved,
# late. Not blind: 24 settings of a linear stand-in and 4 networks were compared by their score on
# this corpus, and so were QUIET_ROWS and, of eleven ways to make scores of files comparable, the
# ratio to the threshold.
KIND = Kind(
    front_end=RawFrontEnd(),
    window=WindowSpec(length=1, hop=1),
    train_hop=1,
    alarm=AlarmSpec(on_delay_windows=1, off_delay_windows=12, clear_ratio=0.8),
    units={"dense": (8, 2, 8)},
    train=TrainSettings(epochs=40, denoise=1.0),
    activation={"dense": "tanh"},
)
RATE_HZ = 1 / 300
# One detection an episode, as a subscriber gets one message: a row only counts if its score is
# the highest of the last 150 rows, half a day.
QUIET_ROWS = 150
TINY = 1e-9
# Of the leaderboard, those that are still quoted; their scores on the very files that are here.
SCORES = "published_per_file_scores.csv"
PROFILES = {"nab_standard": STANDARD, "nab_low_fp": LOW_FP, "nab_low_fn": LOW_FN}


class Series(NamedTuple):
    """One file and its windows, in rows."""

    name: str
    values: Floats
    windows: tuple[tuple[int, int], ...]

    @property
    def label(self) -> Flags:
        """Whether a row lies in a window."""
        flags = np.zeros(len(self.values), np.bool_)
        for first, last in self.windows:
            flags[first : last + 1] = True
        return flags


def run(request: Request) -> Report:
    """The corpus of those files of windows.json that are there."""
    folder = request.data / "nab"
    corpus = _corpus(folder)
    cases = [_case(one) for one in corpus]
    judge = partial(_measured, corpus, cases)
    rows, _ = family_rows(request, cases, judge, 0)
    rows += rival_rows((LAG_T2Q, EWMA_Z, FOREST, NEVER), cases, judge, 0)
    rows += _published(folder / SCORES, corpus)
    series = [{"name": one.name, "windows": len(one.windows)} for one in corpus]
    notes = [
        "settings were compared on these labels: an upper bound, no blind result",
        "NAB sets one threshold a detector on the labels: a protocol check, no headline",
    ]
    return Report("nab", [one.name for one in corpus], same_keys(rows), series, notes)


def _corpus(folder: Path) -> list[Series]:
    listed = folder / "windows.json"
    if not listed.exists():
        raise UsageError(f"{listed}: not there: give the folder above nab/ with --data")
    try:
        windows: dict[str, list[list[str]]] = json.loads(listed.read_text())
    except ValueError as error:
        raise UsageError(f"{listed}: {error}") from None
    found = []
    for name, spans in windows.items():
        path = next((p for p in (folder / name, folder / f"{name}.gz") if p.exists()), None)
        if path is not None:
            found.append(_read(name, path, spans))
    if not any(one.windows for one in found):
        raise UsageError(f"{folder}: no file of windows.json with a window is there")
    return found


def _read(name: str, path: Path, spans: list[list[str]]) -> Series:
    header, lines = read_table(path)
    values = numbers(path, header, lines, ["value"])
    times = np.array([_moment(line[header.index("timestamp")]) for line in lines])
    bounds = [(_moment(first), _moment(last)) for first, last in spans]
    try:
        return Series(name, values, window_rows(times, bounds))
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None


def _moment(text: str) -> np.datetime64:
    return np.datetime64(text.replace(" ", "T").split(".")[0], "s")


def _case(one: Series) -> Case:
    rows = one.values.astype(np.float32)
    return Case(
        f"nab-{case_name(one.name.removesuffix('.csv'))}",
        sensor(["value"], "mixed", RATE_HZ),
        KIND,
        (rows[: probation_rows(len(rows))],),
        (Test("test", rows, one.label),),
    )


def _measured(corpus: Sequence[Series], cases: Sequence[Case], said: Sequence[Said]) -> Measures:
    series, areas = [], []
    for one, mine in zip(corpus, said, strict=True):
        probation = probation_rows(len(mine.scores))
        # In multiples of its own threshold as that follows the series, which is what a gateway
        # publishes: one limit has to serve the whole corpus.
        ratios = mine.scores if mine.ratios is None else mine.ratios
        scores = np.log(np.maximum(ratios, 0.0) + TINY)
        series.append(NabSeries(_first_of_an_episode(scores), one.windows))
        areas.append({"auc": row_auc(one.label[probation:], mine.scores[probation:])})
    return {
        **{key: nab_score(series, profile) for key, profile in PROFILES.items()},
        **mean_measures(areas),
    }


def _first_of_an_episode(scores: Floats) -> Floats:
    """A score where it is higher than all of the last rows, the lowest elsewhere."""
    before = np.concatenate([np.full(QUIET_ROWS, -np.inf), scores[:-1]])
    highest = np.lib.stride_tricks.sliding_window_view(before, QUIET_ROWS).max(axis=1)
    return np.where(scores > highest, scores, scores.min())


def _published(path: Path, corpus: Sequence[Series]) -> list[dict[str, Any]]:
    """Published raw scores of these files, summed and normalised; only of detectors that have all
    of them."""
    if not path.exists():
        return []
    header, lines = read_table(path)
    detector, profile, file, score = (
        header.index(name) for name in ("Detector", "Profile", "File", "Score")
    )
    raw: dict[tuple[str, str], dict[str, float]] = {}
    for line in lines:
        if line[detector]:
            raw.setdefault((line[detector], line[profile]), {})[line[file]] = float(line[score])
    names = {one.name for one in corpus}
    count = sum(len(one.windows) for one in corpus)
    found: dict[str, Measures] = {}
    for key, kind in PROFILES.items():
        for (who, which), by_file in raw.items():
            if which == kind.name and names <= by_file.keys():
                total = sum(by_file[name] for name in names)
                found.setdefault(who, {})[key] = normalised(total, count, kind)
    ranked = sorted(found.items(), key=lambda item: -(item[1].get("nab_standard") or 0.0))
    return [published_row(who, measures) for who, measures in ranked]
