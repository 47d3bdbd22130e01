"""Windows, blocks of time, scaler and measures of the converter, against slow, right versions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converter.dataset import (
    ANOMALOUS,
    MIXED,
    NORMAL,
    Shares,
    WindowSet,
    cut,
    draft_manifest,
    fit_scaler,
    make_dataset,
    split,
    window_rows,
)
from converter.errors import ConverterError, UsageError
from converter.evaluate import auc, ranks, spearman
from converter.importing import ImportSettings, import_table
from converter.labels import labels_document, read_labels
from converter.recordings import Recording, parse_recording
from converter.tables import Table
from edge_agent.bundles.manifest import Manifest, RawFrontEnd, SmoothFrontEnd, WindowSpec


def recording(rows: int, gap_at: int | None = None, faulty: slice | None = None) -> Recording:
    """Channel `n` counts the rows, channel `m` is its square root; 5 s are missing at `gap_at`."""
    count = np.arange(rows, dtype=np.float64)
    time = count + (0 if gap_at is None else 50.0 * (count >= gap_at))
    table = Table({"n": count, "m": np.sqrt(count)}, time, None)
    made = import_table(table, "count.csv", "ab" * 32, ImportSettings())
    anomalous = np.zeros(rows, np.bool_)
    if faulty is not None:
        anomalous[faulty] = True
    return parse_recording("count.rec", made.recording)._replace(
        anomalous=None if faulty is None else anomalous
    )


def raw_draft(length: int, hop: int) -> Manifest:
    window = WindowSpec(length=length, hop=hop)
    return draft_manifest("test", recording(30).sensor, RawFrontEnd(), window, "dense")


def test_windows_know_their_rows_across_a_gap() -> None:
    draft = raw_draft(length=8, hop=3)
    windows = cut(recording(100, gap_at=41), draft, hop=3)
    expected = [*range(0, 34, 3), *range(41, 93, 3)]
    assert windows.first_row.tolist() == expected
    assert (windows.end_row - windows.first_row == 8).all()
    for features, first in zip(windows.features, windows.first_row, strict=True):
        assert features[:, 0].tolist() == list(range(first, first + 8))


def test_windows_know_their_rows_behind_a_decimating_front_end() -> None:
    front_end = SmoothFrontEnd(ewma_alpha=1.0, decimate=4, settle_samples=10)
    window = WindowSpec(length=5, hop=2)
    draft = draft_manifest("test", recording(30).sensor, front_end, window, "lstm")
    windows = cut(recording(120, gap_at=60), draft, hop=2)
    assert len(windows) > 4
    for features, first, end in zip(
        windows.features, windows.first_row, windows.end_row, strict=True
    ):
        assert features[:, 0].tolist() == list(range(first, end, 4))
    assert window_rows(draft) == 17
    assert not ((windows.first_row < 60) & (windows.end_row > 60)).any()


def test_labels_of_windows() -> None:
    windows = cut(recording(60, faulty=slice(20, 30)), raw_draft(8, 4), hop=4)
    label = dict(zip(windows.first_row.tolist(), windows.label.tolist(), strict=True))
    assert label[12] == NORMAL
    assert label[16] == ANOMALOUS  # rows 16 to 24: half of them
    assert label[24] == ANOMALOUS
    assert label[28] == MIXED
    assert label[32] == NORMAL


@given(
    st.integers(20, 400),
    st.integers(1, 30),
    st.integers(1, 40),
    st.floats(0.1, 0.8),
    st.floats(0.05, 0.19),
    st.floats(0.2, 1.0),
)
def test_blocks_never_share_a_sample(
    rows: int, length: int, hop: int, fit: float, validation: float, normal: float
) -> None:
    first = np.arange(0, max(rows - length + 1, 0), hop)
    none, still = np.zeros(len(first), np.int64), np.zeros(len(first))
    windows = WindowSet(still.reshape(-1, 1, 1), none, first, first + length, none, still)
    blocks = split(windows, rows, length, Shares(fit, validation, normal))
    used = [
        {row for a, b in zip(block.first_row, block.end_row, strict=True) for row in range(a, b)}
        for block in blocks
    ]
    for earlier, later in ((0, 1), (1, 2), (0, 2)):
        if used[earlier] and used[later]:
            assert min(used[later]) - max(used[earlier]) > length
    assert all(max(rows_of_block, default=0) < round(rows * normal) + 1 for rows_of_block in used)


def test_anomalous_rows_of_a_normal_recording_are_not_learned() -> None:
    mine = recording(400, faulty=slice(100, 140))
    data = make_dataset(raw_draft(8, 4), [mine], [], [mine], Shares(), 4)
    for block in (data.fit, data.validation, data.held_out):
        assert len(block)
        assert not ((block.first_row < 140) & (block.end_row > 100)).any()
    assert (data.evaluate.label == ANOMALOUS).any()


def test_the_scaler_has_seen_the_fit_windows_only() -> None:
    data = make_dataset(raw_draft(8, 4), [recording(400)], [], [], Shares(), 4)
    scaler = fit_scaler(data.fit)
    seen = data.fit.features.reshape(-1, 2).astype(float)
    np.testing.assert_allclose(scaler.centre, seen.mean(axis=0))
    np.testing.assert_allclose(scaler.scale, seen.std(axis=0))
    everything = np.arange(400).mean()
    assert scaler.centre[0] < everything - 50


def test_a_constant_feature_has_scale_one() -> None:
    features = np.zeros((10, 4, 2), np.float32)
    features[..., 0] = np.random.default_rng(1).normal(size=(10, 4))
    features[..., 1] = 3.3
    none = np.zeros(10, np.int64)
    scaler = fit_scaler(WindowSet(features, none, none, none, none, np.zeros(10)))
    assert scaler.scale[1] == 1.0
    assert scaler.centre[1] == pytest.approx(3.3)


def test_too_short_a_recording_says_what_would_do() -> None:
    with pytest.raises(UsageError, match="record longer"):
        make_dataset(raw_draft(8, 4), [recording(30)], [], [], Shares(), 4)


def test_evaluation_needs_labels() -> None:
    with pytest.raises(UsageError, match="no labels"):
        make_dataset(raw_draft(8, 4), [recording(400)], [], [recording(400)], Shares(), 4)


@given(st.lists(st.booleans(), min_size=1, max_size=50))
def test_labels_survive_their_file(flags: list[bool]) -> None:
    anomalous = np.array(flags)
    document = json.loads(labels_document(anomalous))
    again = np.zeros(len(flags), bool)
    for first, end in document["anomalous"]:
        again[first:end] = True
    assert again.tolist() == flags


@pytest.mark.parametrize(
    "text",
    ['{"rows": 4, "anomalous": []}', '{"rows": 5, "anomalous": [[3, 9]]}', "[]", "no",
     '{"rows": 5, "anomalous": [[3]]}'],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.labels.json"
    path.write_text(text)
    with pytest.raises(ConverterError, match=r"x\.labels\.json"):
        read_labels(path, 5)


@given(
    st.lists(st.integers(0, 6).map(float), min_size=1, max_size=20),
    st.lists(st.integers(0, 6).map(float), min_size=1, max_size=20),
)
def test_auc_is_the_share_of_pairs_in_order(normal: list[float], anomalous: list[float]) -> None:
    pairs = [(a > n) + 0.5 * (a == n) for n in normal for a in anomalous]
    assert auc(np.array(normal), np.array(anomalous)) == pytest.approx(np.mean(pairs))


def test_auc_needs_both_kinds() -> None:
    assert auc(np.array([1.0]), np.empty(0)) is None


@given(st.lists(st.integers(0, 9).map(float), min_size=2, max_size=30))
def test_ranks_share_ties(values: list[float]) -> None:
    slow = [sum(w < v for w in values) + (sum(w == v for w in values) + 1) / 2 for v in values]
    assert ranks(np.array(values)).tolist() == slow


def test_spearman() -> None:
    grows = np.array([1.0, 5.0, 2.0, 9.0, 9.5])
    assert spearman(grows, np.exp(grows)) == pytest.approx(1.0)
    assert spearman(grows, -grows) == pytest.approx(-1.0)
    # One swap of neighbours among five: 1 - 6 * 2 / (5 * 24).
    assert spearman(np.arange(5.0), np.array([0.0, 1, 3, 2, 4])) == pytest.approx(0.9)
    assert spearman(np.ones(4), np.ones(4)) == 1.0
    assert spearman(np.ones(4), np.arange(4.0)) == 0.0
