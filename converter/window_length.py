"""Window length: how many rows a window needs, from the data.

In: a normal recording and the front end. Out: a length and what was seen. Never: guesses where
nothing repeats: then the default is given, and that is said.

A window must hold one full period of what each channel does, or the network can't tell a change of
shape from a change of phase.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from converter.recordings import Recording
from edge_agent.bundles.manifest import FrontEndSpec
from edge_agent.judging.front_end import make_front_end

Rows = NDArray[np.float32]

SHORTEST, LONGEST = 16, 512
MAX_ROWS = 1 << 16
# Under this autocorrelation it is no period. Of its multiples, which look alike, the first counts.
LEAST_CORRELATION = 0.3
LEAST_ROWS = 12
AS_GOOD_AS_HIGHEST = 0.85


class Proposal(NamedTuple):
    """`period_rows` None: nothing repeats."""

    length: int
    period_rows: int | None
    why: str


class _Period(NamedTuple):
    rows: int
    correlation: float
    channel: str


def propose_length(recording: Recording, front_end: FrontEndSpec, default: int) -> Proposal:
    """At least one full period of the slowest channel that has one, after the front end."""
    spec = make_front_end(front_end, recording.sensor)
    rows = _longest_run(recording, front_end)
    channels = zip(recording.sensor.channels, rows.T, strict=True)
    found = [period for name, values in channels if (period := _period(name, values))]
    if not found:
        why = f"nothing repeats in {len(rows)} rows: the default of {default} rows"
        return Proposal(default, None, why)
    slowest = max(found)
    seconds = slowest.rows * spec.decimate / recording.sensor.rate_hz
    seen = (
        f"{slowest.channel} repeats every {slowest.rows} rows ({seconds:.3g} s), "
        f"autocorrelation {slowest.correlation:.2f}"
    )
    periods = -(-SHORTEST // slowest.rows)
    length = periods * slowest.rows
    if length > LONGEST:
        return Proposal(
            LONGEST, slowest.rows, f"{seen}: at most {LONGEST} rows are of use, decimate more"
        )
    what = "one period" if periods == 1 else f"{periods} periods"
    return Proposal(length, slowest.rows, f"{seen}: {what}, {length} rows")


def _longest_run(recording: Recording, front_end: FrontEndSpec) -> Rows:
    """Rows without a gap, as the windows see them."""
    conditioned = make_front_end(front_end, recording.sensor)
    best: list[Rows] = []
    run: list[Rows] = []
    for samples in recording.batches:
        if not samples.contiguous:
            conditioned.reset()
            best, run = max(best, run, key=_count), []
        run.append(np.array(conditioned.condition(samples.values)))
    return np.concatenate(max(best, run, key=_count))[:MAX_ROWS]


def _count(run: list[Rows]) -> int:
    return sum(map(len, run))


def _period(channel: str, values: Rows) -> _Period | None:
    """The first lag at which the channel is as much like itself as it ever gets again."""
    count = len(values)
    if count < LEAST_ROWS:
        return None
    centred = values.astype(np.float64) - values.mean(dtype=np.float64)
    power = np.square(np.abs(np.fft.rfft(centred, 2 * count)))
    limit = count // 3
    correlation = np.fft.irfft(power)[:limit]
    if correlation[0] <= 0.0:
        return None
    # Fewer products at longer lags: each is divided by how many there are.
    correlation = correlation / correlation[0] * count / (count - np.arange(limit))
    below = np.flatnonzero(correlation < 0.0)
    if not len(below):
        return None
    inner = correlation[1:-1]
    peaks = 1 + np.flatnonzero((inner >= correlation[:-2]) & (inner > correlation[2:]))
    peaks = peaks[peaks > below[0]]
    if not len(peaks) or correlation[peaks].max() < LEAST_CORRELATION:
        return None
    good = correlation[peaks] >= AS_GOOD_AS_HIGHEST * correlation[peaks].max()
    first = int(peaks[good][0])
    return _Period(first, float(correlation[first]), channel)
