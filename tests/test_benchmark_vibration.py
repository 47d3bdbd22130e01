"""Protocols of vibrating machines: on made folders of the same layout, and on the real ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.benchmark import cwru, fan, femto, ims, ucifan
from converter.benchmark.lifetime import Fate, Life, fate, in_a_row, plain_detectors
from converter.benchmark.vibration import (
    against_each_other,
    band_edges,
    decibels,
    in_noise,
    moved_levels,
    pooled,
    resampled,
)
from converter.errors import UsageError
from tests.programs import run

FIDELITY = {"auc_delta", "f1_delta", "spearman", "size_ratio", "top_channel_same"}
CONTEST = {"auc", "auc_worst", "ap", "far", "mar", "alarm_share", "false_episodes"} | FIDELITY
LIFETIME = {"warning_h", "early_alarms", "events", "events_found"} | FIDELITY


def sine(rate_hz: float, frequency_hz: float, seconds: float) -> np.ndarray:
    t = np.arange(round(rate_hz * seconds)) / rate_hz
    return np.sin(2 * np.pi * frequency_hz * t)[:, None]


def line_hz(rows: np.ndarray, rate_hz: float) -> float:
    power = np.abs(np.fft.rfft(rows[:, 0] * np.hanning(len(rows))))
    return float(np.argmax(power) * rate_hz / len(rows))


# -- Signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.96, 1.0, 1.04])
def test_resampling_keeps_a_line_and_moves_it_with_the_speed(speed: float) -> None:
    found = resampled(sine(48_000, 400, 2), 48_000, 3200, speed)
    assert line_hz(found, 3200) == pytest.approx(400 * speed, abs=1)
    assert found[500:-500].std() == pytest.approx(np.sqrt(0.5), rel=0.01)


def test_what_a_slow_sensor_cannot_see_does_not_fold_back() -> None:
    found = resampled(sine(48_000, 2000, 2), 48_000, 3200)
    assert found[200:-200].std() < 1e-3


def test_noise_has_the_power_that_was_asked_for() -> None:
    rows = np.repeat(sine(3200, 50, 10), 2, axis=1) * [1.0, 5.0]
    noise = in_noise(rows, -6.0, np.random.default_rng(1)) - rows
    np.testing.assert_allclose(noise.std(axis=0), rows.std(axis=0) * 10 ** (6 / 20), rtol=0.02)


def test_bands_cover_every_bin_once_and_hold_its_mean() -> None:
    edges = band_edges(1, 512, 64)
    assert edges[0] == 1
    assert edges[-1] == 512
    assert set(np.diff(edges)) <= {7, 8}
    spectra = np.random.default_rng(2).random((3, 512))
    for band, (first, end) in enumerate(zip(edges, edges[1:], strict=False)):
        expected = spectra[:, first:end].mean(axis=1)
        np.testing.assert_allclose(pooled(spectra, edges)[:, band], expected)


def test_what_all_channels_do_alike_is_not_seen() -> None:
    rows = decibels(np.random.default_rng(3).random((20, 4)) + 0.5)
    louder = rows + np.arange(20, dtype=np.float32)[:, None]
    np.testing.assert_allclose(against_each_other(louder), against_each_other(rows), atol=1e-4)
    pair = rows[:, :2]
    np.testing.assert_array_equal(against_each_other(pair), pair)


def test_moved_copies_are_exactly_so_far_off() -> None:
    rows = np.zeros((5, 6), np.float32)
    first, *copies = moved_levels(rows, 3.0, 10, seed=1)
    np.testing.assert_array_equal(first, rows)
    for copy in copies:
        assert np.sqrt(np.mean(copy**2, axis=1)) == pytest.approx(np.full(5, 3.0), rel=1e-5)
    assert not np.allclose(copies[0], copies[1])


# -- Lives ----------------------------------------------------------------------------------------


def test_in_a_row_counts_only_uninterrupted_rows() -> None:
    over = np.array([1, 1, 0, 1, 1, 1, 1, 0, 1, 1, 1], np.bool_)
    assert in_a_row(over, 3).tolist() == [5, 10]
    assert in_a_row(over, 2, first=4).tolist() == [4, 9]
    assert in_a_row(over, 2, first=5).tolist() == [5, 9]


def made_life(levels: np.ndarray) -> Life:
    case: Any = None
    return Life(case, levels, len(levels) // 4, 1.0 / 6.0, {})


def test_warning_runs_from_the_first_alarm_to_the_last_row() -> None:
    life = made_life(np.ones((100, 1)))
    assert fate(life, ims.PROTOCOL, np.array([57])) == Fate(7.0, 0, 1, True)
    assert fate(life, ims.PROTOCOL, np.array([40, 90])) == Fate(pytest.approx(59 / 6), 1, 2, False)
    assert fate(life, ims.PROTOCOL, np.array([], int)) == Fate(None, 0, 0, False)


@pytest.mark.data("ims")
def test_the_published_rule_and_thresholds_are_reproduced_on_ims(data_dir: Path) -> None:
    file = next((data_dir / "ims").glob("2nd_test*"))
    _, levels = ims.read(file)
    # Bearing by bearing, as research tabulates them.
    expected = {0: (72.2, 22.5, 3.2), 1: (23.5, None, None), 3: (46.0, 2.3, None)}
    detectors = plain_detectors(ims.PROTOCOL)
    for bearing, hours in expected.items():
        life = Life(ims.make_life(file).case, levels[:, [bearing]], 246, ims.STEP_HOURS, {})
        names = ("published rule", "fixed 2x", "fixed 3x")
        found = [fate(life, ims.PROTOCOL, detectors[name](life)).warning_h for name in names]
        assert found == [None if h is None else pytest.approx(h, abs=0.06) for h in hours]


@pytest.mark.data("femto")
def test_the_published_rule_and_thresholds_are_reproduced_on_femto(data_dir: Path) -> None:
    expected = {"Bearing1_1": (2.57, 1.66, 0.43), "Bearing2_2": (1.57, 1.57, 1.30),
                "Bearing3_1": (None, 0.06, 0.05)}  # fmt: skip
    detectors = plain_detectors(femto.PROTOCOL)
    for name, hours in expected.items():
        life = femto.make_life(data_dir / "femto" / f"{name}_features.csv.gz")
        names = ("published rule", "fixed 2x", "fixed 3x")
        found = [fate(life, femto.PROTOCOL, detectors[one](life)).warning_h for one in names]
        assert found == [None if h is None else pytest.approx(h, abs=0.011) for h in hours]


# -- Made folders, under names that no real file has ----------------------------------------------


def made_cwru(folder: Path) -> None:
    rng = np.random.default_rng(1)
    for name, gain in (("Normal_9", 0.0), ("XX014_3hp", 2.0)):
        t = np.arange(146_000) / 48_000
        hum = np.sin(2 * np.pi * 160 * t) + gain * np.sin(2 * np.pi * 1100 * t)
        both = {one: hum + 0.3 * rng.normal(size=len(t)) for one in ("DE", "FE")}
        np.savez(folder / name, fs=48_000, rpm=1797.0, **both)


def made_fan(folder: Path) -> None:
    rng = np.random.default_rng(2)

    def spectra(levels: tuple[float, ...], count: int, line: float) -> np.ndarray:
        made = np.concatenate([level * rng.uniform(0.8, 1.2, (count, 512)) for level in levels])
        made[:, 100] += line
        return made.astype(np.float32)

    runs = {"h": (1.0,), "o": (0.1,), "ho": (1.0, 0.1)}
    for speed, levels in runs.items():
        np.savez(folder / f"8cm_{speed}_normal_attic", spectrum=spectra(levels, 60, 0))
    np.savez(folder / "8cm_ho_damage7_attic_2", spectrum=spectra(runs["ho"], 60, 9))
    np.savez(folder / "8cm_ho_normal_cellar", spectrum=spectra(runs["ho"], 60, 0))


def made_ucifan(folder: Path) -> None:
    rng = np.random.default_rng(3)
    lines = ["wconfid,pctid,x,y,z"]
    for configuration, gain in ((1, 1.0), (3, 0.5)):
        rows = gain * rng.normal(size=(3000, 3))
        lines += [f"{configuration},55,{x:.3f},{y:.3f},{z:.3f}" for x, y, z in rows]
    (folder / "other.csv").write_text("\n".join(lines))


def made_ims(folder: Path) -> None:
    rng = np.random.default_rng(4)
    levels = 0.06 * np.exp(0.01 * rng.normal(size=(400, 4)))
    levels[300:, 2] *= 1.5
    lines = [",Datetime,A,B,C,D"]
    lines += [f"{i},2004.01.01.00.00.00,{','.join(map(str, row))}" for i, row in enumerate(levels)]
    (folder / "9th_test.csv").write_text("\n".join(lines))


def made_femto(folder: Path) -> None:
    rng = np.random.default_rng(5)
    names = [f"{axis}_{level}" for axis in "hv" for level in femto.LEVELS]
    levels = np.exp(0.05 * rng.normal(size=(300, len(names))))
    levels[200:] *= 8
    lines = [",".join(["snapshot", *names, "t_s"])]
    lines += [f"{i},{','.join(map(str, row))},{10 * i}" for i, row in enumerate(levels)]
    with gzip.open(folder / "Bearing7_7_features.csv.gz", "wt") as text:
        text.write("\n".join(lines))


MADE = {
    "cwru": ("cwru", made_cwru, CONTEST),
    "fan": ("cooling_fan", made_fan, CONTEST),
    "ucifan": ("uci_fan", made_ucifan, CONTEST),
    "ims": ("ims", made_ims, LIFETIME),
    "femto": ("femto", made_femto, LIFETIME),
}


def report(name: str, data: Path, cache: Path) -> dict[str, Any]:
    lines = run(
        "converter", "benchmark", name, "--data", data, "--seeds", 1, "--jobs", 1,
        "--cache", cache, "--json",
    )  # fmt: skip
    found: dict[str, Any] = lines[-1]
    json.dumps(found, allow_nan=False)
    return found


def row_of(found: dict[str, Any], detector: str) -> dict[str, Any]:
    return next(row for row in found["rows"] if row["detector"] == detector)


@pytest.mark.parametrize("name", MADE)
def test_other_files_of_the_same_kind_are_judged(name: str, tmp_path: Path) -> None:
    folder, make, keys = MADE[name]
    (tmp_path / folder).mkdir()
    make(tmp_path / folder)
    found = report(name, tmp_path, tmp_path / "cache")
    assert found["protocol"] == name
    assert {key for row in found["rows"] for key in row} >= keys
    assert len({frozenset(row) for row in found["rows"]}) == 1
    shipped = [row for row in found["rows"] if row["shipped"]]
    assert [row["int8"] for row in shipped] == [True]
    mine = shipped[0]
    if keys is CONTEST:
        assert mine["auc"] > 0.85
        assert row_of(found, "never")["auc"] == 0.5
    else:
        assert mine["events_found"] == 1
        assert mine["early_alarms"] == 0
        assert {"warning_h", "early_alarms", "life_h"} <= set(found["series"][0])


def test_a_room_without_a_normal_run_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "cooling_fan").mkdir()
    made_fan(tmp_path / "cooling_fan")
    members = [fan.named(file) for file in sorted((tmp_path / "cooling_fan").glob("*"))]
    rooms = {one.room: one for one in members if one}
    assert fan.lacking([rooms["cellar"]]) == "normal run at a constant speed to learn from"


@pytest.mark.parametrize("protocol", [cwru, fan, ucifan, ims, femto])
def test_an_empty_folder_is_refused_in_words(protocol: Any, tmp_path: Path) -> None:
    request = type("Request", (), {"data": tmp_path})()
    with pytest.raises(UsageError, match=r"expected .*give --data the folder"):
        protocol.run(request)


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("ims/x.csv", "a,b\n1,2\n", "expected at least 160"),
        ("ims/x.csv", "a,b\n1,oops\n", "expected numbers in a, b"),
        ("femto/b_features.csv", "h_rms,t_s\n1,0\n", "lacks h_kurt, h_crest"),
        ("uci_fan/x.csv", "pctid,x\n1,0\n", "lacks wconfid, y, z"),
    ],
)
def test_a_file_of_another_kind_is_refused_in_words(
    name: str, text: str, complaint: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    file.parent.mkdir()
    file.write_text(text)
    protocol = {"ims": ims, "femto": femto, "uci_fan": ucifan}[file.parent.name]
    request = type("Request", (), {"data": tmp_path})()
    with pytest.raises(UsageError, match=complaint):
        protocol.run(request)


@pytest.mark.data("cwru")
def test_cwru_beats_a_straight_line_and_does_not_mind_the_speed(
    data_dir: Path, tmp_path: Path
) -> None:
    found = report("cwru", data_dir, tmp_path)
    mine = row_of(found, "dense")
    assert mine["auc"] > row_of(found, "PCA residual")["auc"] - 0.1
    assert mine["shifted_share"] < 0.2
    assert [series["name"] for series in found["series"]]
