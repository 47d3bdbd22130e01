"""Surprise: a score as a map. Where in the window, and in which channel, was the model surprised?

In: a `Score`, what its channels and features are called, how long a step is. Out: `Surprise`, a
matrix of bounded size. Never: decides, draws, holds a cell that is not finite.

Every cell is a squared error over the normal level of its own feature, like the shares: 1 is
as bad as the worst percent of normal.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.bundles.manifest import Sensor
from edge_agent.judging.explain import TOP_CHANNELS
from edge_agent.judging.scoring import Score

Cells = NDArray[np.float64]
Axis = Literal["time", "band"]

MAX_COLUMNS = 48
# Beyond it the number says nothing more: a broken sensor, an infinity.
WORST_CELL = 1e9
# Features that belong to no band (level, crest and the like); more of them are bands of a kind.
MAX_EXTRAS = 8
RANGE = re.compile(r"(\d+(?:\.\d+)?)-(\d+(?:\.\d+)?)")


class Cause(NamedTuple):
    """The most surprising feature of a channel, where it was worst: the column of the map, the
    feature's `label` (empty where the channel itself is the feature), what was there and what the
    model expected, in the feature's own unit."""

    channel: str
    share: float
    column: int
    label: str
    observed: float
    expected: float


class Surprise(NamedTuple):
    """`cells` are float64[channel, column], from 0 to `WORST_CELL`; a column is the mean of what
    was pooled into it. `order` has the rows, worst first; `causes` are those of the worst.

    `time`: each column is `column_seconds` long and the last one ends with the window; its label
    says when it begins. `band`: bands from low to high, then `extras` that are no bands.
    """

    axis: Axis
    channels: tuple[str, ...]
    columns: tuple[str, ...]
    cells: Cells
    shares: tuple[float, ...]
    order: tuple[int, ...]
    causes: tuple[Cause, ...]
    extras: int
    column_seconds: float


class Fold(NamedTuple):
    """How steps or features become columns: where each begins, and what it is called."""

    axis: Axis
    starts: NDArray[np.intp]
    names: tuple[str, ...]
    extras: int = 0
    column_seconds: float = 0.0

    def column(self, place: int) -> int:
        """The column that a step or a feature went into."""
        return int(np.searchsorted(self.starts, place, side="right")) - 1

    def pool(self, table: Cells) -> Cells:
        """The mean of what went into each column."""
        sizes = np.diff(np.append(self.starts, table.shape[1]))
        return np.asarray(np.add.reduceat(table, self.starts, axis=1) / sizes)


def surprise(
    score: Score,
    sensor: Sensor,
    labels: tuple[str, ...],
    step_seconds: float,
    max_columns: int = MAX_COLUMNS,
) -> Surprise:
    """The map of one score: one row for each channel that has features (one that only says the
    speed has none). `labels` name the features, `step_seconds` lie between two steps of a window;
    `max_columns` must be more than `MAX_EXTRAS`.
    """
    ratios = _ratios(score)
    owned = [np.flatnonzero(column) for column in score.levels.membership.T]
    rows = [row for row, features in enumerate(owned) if len(features)]
    members = [owned[row] for row in rows]
    if all(len(features) == 1 for features in members):
        fold = _fold_time(len(ratios), step_seconds, max_columns)
        table = ratios[:, np.concatenate(members)].T
    else:
        widest = max(members, key=len)
        fold = _fold_bands([labels[feature] for feature in widest], max_columns)
        table = _band_table(ratios, members)
    channels = tuple(sensor.channels[row] for row in rows)
    shares = score.by_channel[rows]
    # Equal shares (nothing is finite) don't hide the broken channel.
    order = np.lexsort((-table.sum(axis=1), -shares)).tolist()
    causes = tuple(
        Cause(channels[row], float(shares[row]), *_worst(score, ratios, members[row], labels, fold))
        for row in order[:TOP_CHANNELS]
    )
    return Surprise(
        fold.axis, channels, fold.names, fold.pool(table), tuple(shares.tolist()), tuple(order),
        causes, fold.extras, fold.column_seconds,
    )  # fmt: skip


def _band_table(ratios: Cells, members: list[NDArray[np.intp]]) -> Cells:
    """float64[channel, feature]; 0 where a channel has fewer features than others."""
    table = np.zeros((len(members), max(map(len, members))))
    for row, features in zip(table, members, strict=True):
        row[: len(features)] = ratios[:, features].mean(axis=0)
    return table


def _worst(
    score: Score, ratios: Cells, mine: NDArray[np.intp], labels: tuple[str, ...], fold: Fold
) -> tuple[int, str, float, float]:
    """Where the channel that owns the features `mine` was at its worst, and what was there: all
    of a `Cause` but whose it is."""
    place = int(ratios[:, mine].mean(axis=0).argmax())
    feature = int(mine[place])
    step = int(ratios[:, feature].argmax())
    column = fold.column(step if fold.axis == "time" else place)
    # An infinity is no news here.
    with np.errstate(over="ignore", invalid="ignore"):
        return column, labels[feature], score.observed(step, feature), score.expected(step, feature)


def _ratios(score: Score) -> Cells:
    """float64[steps, features]; an infinity, or one minus another, is as bad as it gets."""
    with np.errstate(over="ignore", invalid="ignore"):
        ratios = np.square(score.residuals) / score.levels.by_feature
    return np.nan_to_num(ratios, nan=WORST_CELL, posinf=WORST_CELL).clip(0.0, WORST_CELL)


def _fold_time(steps: int, step_seconds: float, max_columns: int) -> Fold:
    """Counted from the end of the window, so that only the oldest column can be a short one."""
    group = -(-steps // max_columns)
    ends = np.arange(-(-steps // group), 0, -1) * group
    names = tuple(f"{-steps_before * step_seconds:.6g} s" for steps_before in ends)
    return Fold("time", np.maximum(steps - ends, 0), names, column_seconds=group * step_seconds)


def _fold_bands(labels: list[str], max_columns: int) -> Fold:
    """Neighbouring bands share a column if there are too many; what is no band keeps its own."""
    bands = next((i for i, label in enumerate(labels) if not RANGE.match(label)), len(labels))
    if len(labels) - bands > MAX_EXTRAS:
        bands = len(labels)
    extras = len(labels) - bands
    group = -(-bands // (max_columns - extras))
    firsts = range(0, bands, group) if bands else range(0)
    names = [_joined(labels[i], labels[min(i + group, bands) - 1]) for i in firsts]
    starts = np.array([*firsts, *range(bands, len(labels))])
    return Fold("band", starts, (*names, *labels[bands:]), extras)


def _joined(first: str, last: str) -> str:
    """`10-20 Hz` and `40-80 Hz` are `10-80 Hz`; every range in the labels is joined."""
    highs = iter([high for _, high in RANGE.findall(last)])
    return RANGE.sub(lambda found: f"{found[1]}-{next(highs, found[2])}", first)
