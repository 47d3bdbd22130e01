"""The ring against a list, windows against slices."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.judging.ring import Ring
from edge_agent.judging.window import Window, Windows


def rows(first: int, count: int, channels: int = 2) -> np.ndarray:
    """Rows whose values are their own numbers."""
    return np.arange(first * channels, (first + count) * channels, dtype=np.float32).reshape(
        count, channels
    )


steps = st.lists(st.tuples(st.sampled_from(["push", "release"]), st.integers(0, 25)), max_size=60)


@given(capacity=st.integers(1, 12), moves=steps)
def test_ring_is_a_list_that_forgets(capacity: int, moves: list[tuple[str, int]]) -> None:
    ring, model, overwritten, written = Ring(capacity, 2), [], 0, 0
    for move, count in moves:
        if move == "push":
            ring.push(rows(written, count))
            model += [tuple(row) for row in rows(written, count)]
            written += count
            lost = max(len(model) - capacity, 0)
            overwritten, model = overwritten + lost, model[lost:]
        else:
            count = min(count, len(model))
            ring.release(count)
            model = model[count:]
        assert len(ring) == len(model)
        assert ring.overwritten == overwritten
        assert [tuple(row) for row in ring.window(len(model))] == model


def test_window_across_the_end_is_contiguous_and_no_copy() -> None:
    ring = Ring(8, 3)
    ring.push(rows(0, 6, 3))
    ring.release(5)
    ring.push(rows(6, 6, 3))
    view = ring.window(7)
    assert view.flags.c_contiguous
    assert view.base is not None
    np.testing.assert_array_equal(view, rows(5, 7, 3))


def test_ring_memory_never_grows() -> None:
    ring = Ring(1000, 3)
    chunk = rows(0, 80, 3)
    ring.push(chunk)
    tracemalloc.start()
    for _ in range(2000):
        ring.push(chunk)
    grown, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 4096
    assert ring.overwritten == 2001 * 80 - 1000


def cut(windows: Windows, values: np.ndarray, batches: list[int]) -> list[tuple[Window, bytes]]:
    """Windows of `values` fed in batches, with a copy of their bytes; 100 rows a second."""
    found, at = [], 0
    for size in batches:
        part = values[at : at + size]
        for window in windows.cut(part, at / 100, 1 / 100):
            found.append((window, window.values.tobytes()))
        at += size
    return found


@given(
    length=st.integers(1, 20),
    hop=st.integers(1, 30),
    batches=st.lists(st.integers(0, 90), max_size=12),
)
def test_windows_are_slices_however_the_rows_come(
    length: int, hop: int, batches: list[int]
) -> None:
    values = rows(0, sum(batches))
    found = cut(Windows(length, hop, 2), values, batches)
    starts = range(0, len(values) - length + 1, hop)
    assert [window.first_row for window, _ in found] == list(starts)
    for (window, content), start in zip(found, starts, strict=True):
        assert content == values[start : start + length].tobytes()
        assert window.t_start == pytest.approx(start / 100)
        assert window.t_end == pytest.approx((start + length) / 100)


def test_after_a_gap_no_window_holds_older_rows() -> None:
    windows = Windows(10, 5, 2)
    assert len(cut(windows, rows(0, 14), [14])) == 1
    windows.clear()
    assert cut(windows, rows(100, 9), [9]) == []
    ((window, content),) = cut(windows, rows(109, 1), [1])
    assert content == rows(100, 10).tobytes()
    assert window.first_row == 0
