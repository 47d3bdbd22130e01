"""`--length auto`: what repeats is found, what does not is said to not repeat."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from converter.importing import ImportSettings, import_table
from converter.recordings import Recording, parse_recording
from converter.tables import Table
from converter.window_length import LONGEST, propose_length
from edge_agent.bundles.manifest import RawFrontEnd, SmoothFrontEnd

RATE_HZ = 100.0
RNG = np.random.default_rng(2)


def recording(**channels: NDArray[np.float64]) -> Recording:
    count = len(next(iter(channels.values())))
    table = Table(channels, np.arange(count) / RATE_HZ, RATE_HZ)
    imported = import_table(table, "x.csv", "0" * 64, ImportSettings())
    return parse_recording("x.rec", imported.recording)


def wave(period: float, count: int = 6000, noise: float = 0.2) -> NDArray[np.float64]:
    rows = np.arange(count)
    bend = 0.5 * np.sin(4 * np.pi * rows / period)
    return np.sin(2 * np.pi * rows / period) + bend + RNG.normal(0, noise, count)


@pytest.mark.parametrize("period", [20, 37, 64, 130, 400])
def test_one_full_period(period: int) -> None:
    found = propose_length(recording(a=wave(period)), RawFrontEnd(), 50)
    assert found.period_rows == pytest.approx(period, abs=1 + 0.02 * period)
    assert found.length >= 0.98 * period
    assert "a repeats every" in found.why


def test_the_slowest_channel_counts_and_a_constant_does_not() -> None:
    found = propose_length(recording(a=wave(20), b=wave(90), c=np.ones(6000)), RawFrontEnd(), 50)
    assert found.period_rows == pytest.approx(90, abs=2)


def test_a_short_period_comes_several_times() -> None:
    found = propose_length(recording(a=wave(5.0, noise=0.05)), RawFrontEnd(), 50)
    assert (found.period_rows, found.length) == (5, 20)
    assert "4 periods" in found.why


def test_rows_are_counted_after_the_front_end() -> None:
    smooth = SmoothFrontEnd(ewma_alpha=0.5, decimate=4, settle_samples=8)
    found = propose_length(recording(a=wave(400)), smooth, 50)
    assert found.period_rows == pytest.approx(100, abs=2)
    assert "(4 s)" in found.why or "3.9" in found.why or "4.0" in found.why


@pytest.mark.parametrize(
    "values", [RNG.normal(size=6000), np.ones(6000), np.arange(6000.0), np.ones(10)]
)
def test_where_nothing_repeats_the_default_is_said(values: NDArray[np.float64]) -> None:
    found = propose_length(recording(a=values), RawFrontEnd(), 50)
    assert (found.length, found.period_rows) == (50, None)
    assert "nothing repeats" in found.why


def test_what_is_too_slow_wants_decimation() -> None:
    found = propose_length(recording(a=wave(900, 9000)), RawFrontEnd(), 50)
    assert found.length == LONGEST
    assert "decimate more" in found.why
