"""Recordings of live wires: each segment plays alone, the disk is bounded, a bad one survived."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.boards.recorder import SUFFIX, Recorder, make_room
from edge_agent.config import RecorderSettings
from firmware_bridge.recording import Playback, record
from firmware_bridge.samples import Samples
from firmware_bridge.schema import StreamSchema, parse_schema, write_schema

STREAM = StreamSchema(0, "accel", "test", "<i2", ("x", "y"), "g", 0.001, 1000.0, 50)
DOCUMENT = write_schema("board", "uid1", "1.0", (STREAM,))


def raw(rows: int) -> NDArray[np.int16]:
    return np.arange(2 * rows, dtype=np.int16).reshape(rows, 2)


def wire(rows: int) -> bytes:
    return b"".join(record(DOCUMENT, STREAM, raw(rows)))


def settings(folder: Path, **fields: float) -> RecorderSettings:
    return RecorderSettings.model_validate({"directory": folder, **fields})


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def play(path: Path) -> tuple[NDArray[np.float32], Playback]:
    playback = Playback()
    events = playback.feed(path.read_bytes())
    values = [event.values for event in events if isinstance(event, Samples)]
    return np.vstack(values) if values else np.empty((0, 2), np.float32), playback


@pytest.mark.parametrize("chunk", [7, 100, 4096])
def test_a_segment_is_a_recording(tmp_path: Path, chunk: int) -> None:
    recorder = Recorder("b", settings(tmp_path))
    recorder.begin(DOCUMENT)
    data = b"rest of a frame\x00" + wire(1000)
    for at in range(0, len(data), chunk):
        recorder.take(data[at : at + chunk], 0.0)
    recorder.end()
    (path,) = segments(tmp_path)
    values, playback = play(path)
    assert playback.problem is None
    assert playback.decoder.counters.damaged == 0
    assert playback.schema == parse_schema(DOCUMENT)
    np.testing.assert_array_equal(values, raw(1000) * np.float32(0.001))


def test_nothing_is_written_before_the_board_said_who_it_is(tmp_path: Path) -> None:
    recorder = Recorder("b", settings(tmp_path))
    recorder.tick(0.0)
    recorder.take(wire(100), 0.0)
    recorder.end()
    assert segments(tmp_path) == []


@pytest.mark.parametrize("cut", ["seconds", "bytes"])
def test_long_segments_are_cut_between_frames_and_no_sample_is_lost(
    tmp_path: Path, cut: str
) -> None:
    limits = {"segment_seconds": 1.0} if cut == "seconds" else {"segment_bytes": 65_536}
    recorder = Recorder("b", settings(tmp_path, **limits))
    recorder.begin(DOCUMENT)
    data, now_s = b"\x00" + wire(30_000), 0.0
    for at in range(0, len(data), 1000):
        recorder.take(data[at : at + 1000], now_s)
        now_s += 0.05
        recorder.tick(now_s)
    recorder.end()
    paths = segments(tmp_path)
    assert len(paths) > 1 if cut == "bytes" else len(paths) >= 6
    played = [play(path) for path in paths]
    assert all(playback.decoder.counters.damaged == 0 for _, playback in played)
    values = np.vstack([values for values, _ in played])
    np.testing.assert_array_equal(values, raw(30_000) * np.float32(0.001))


def test_a_second_identify_begins_a_second_segment(tmp_path: Path) -> None:
    recorder = Recorder("b", settings(tmp_path))
    for _ in range(2):
        recorder.begin(DOCUMENT)
        recorder.take(b"\x00" + wire(100), 0.0)
    recorder.end()
    assert [len(play(path)[0]) for path in segments(tmp_path)] == [100, 100]


def test_the_disk_is_bounded_and_the_oldest_goes_first(tmp_path: Path) -> None:
    limit = 1_000_000
    recorder = Recorder("b", settings(tmp_path, limit_bytes=limit, segment_bytes=100_000))
    recorder.begin(DOCUMENT)
    data, first = wire(2000), ""
    for turn in range(400):
        recorder.take(data, turn * 1.0)
        recorder.tick(turn * 1.0)
        first = first or segments(tmp_path)[0].name
        if turn % 50 == 0:
            assert sum(path.stat().st_size for path in segments(tmp_path)) <= limit
    recorder.end()
    assert recorder.bytes > 3 * limit
    total = sum(path.stat().st_size for path in segments(tmp_path))
    assert 0.7 * limit < total <= limit
    assert segments(tmp_path)[0].name > first


def test_a_clock_that_starts_in_the_past_does_not_make_new_segments_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tmp_path / f"20260101T000000.999999Z-b{SUFFIX}"
    before.write_bytes(wire(10))
    (tmp_path / f"zebra{SUFFIX}").write_bytes(b"not ours")
    monkeypatch.setattr("time.time", lambda: 3600.0)  # no clock of its own, no network yet
    for _ in range(2):
        recorder = Recorder("b", settings(tmp_path))
        recorder.begin(DOCUMENT)
        recorder.take(b"\x00" + wire(10), 0.0)
        recorder.end()
    names = [path.name for path in segments(tmp_path)]
    assert names[:3] == [
        before.name,
        f"20260101T000001.000000Z-b{SUFFIX}",
        f"20260101T000001.000001Z-b{SUFFIX}",
    ]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"x" * 1000)
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}{SUFFIX}").write_bytes(b"x" * 1000)
    assert [path.stem for path in make_room(tmp_path, 1500)] == ["a", "b"]
    assert sorted(os.listdir(tmp_path)) == [f"c{SUFFIX}", "notes.txt"]


def test_a_folder_that_cannot_be_made_is_a_problem_not_an_end(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    recorder = Recorder("b", settings(tmp_path / "file"))
    recorder.begin(DOCUMENT)
    recorder.take(b"\x00" + wire(100), 0.0)
    assert "file" in (recorder.problem or "")
    (tmp_path / "file").unlink()
    for now_s in (1.0, 7.0, 8.0):
        recorder.tick(now_s)
        recorder.take(wire(100), now_s)
    recorder.end()
    assert recorder.problem is None
    assert len(segments(tmp_path / "file")) == 1


def test_a_segment_that_was_cut_off_plays_up_to_there(tmp_path: Path) -> None:
    recorder = Recorder("b", settings(tmp_path))
    recorder.begin(DOCUMENT)
    recorder.take(b"\x00" + wire(1000), 0.0)
    recorder.end()
    (path,) = segments(tmp_path)
    os.truncate(path, path.stat().st_size // 2 + 3)
    values, playback = play(path)
    assert 400 < len(values) < 600
    assert playback.decoder.counters.damaged == 0
