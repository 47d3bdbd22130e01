"""Replay: the same facts whatever the chunking, one line an event, refusals in words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.bundles.bundle import read_bundle
from edge_agent.judging.pipeline import AlarmEvent, Fact, Gap, Judgement
from edge_agent.replay import Replay, ReplayError
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Samples
from tests import programs


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds of the vibration machine, its bearing bad from 5 to 10 s."""
    path = tmp_path_factory.mktemp("replay") / "faulty.rec"
    programs.run(
        "firmware_bridge", "simulate", "--machine", "vibration", "--seed", 7, "--seconds", 20,
        "--fault", "bearing:5:10", "--out", path,
    )  # fmt: skip
    return path


def facts_of(recording: Path) -> tuple[list[Fact], Replay]:
    replay = Replay(recording, read_bundle(programs.VIBRATION))
    return list(replay.facts()), replay


def test_one_line_an_event_and_the_summary_last(faulty: Path) -> None:
    begin, end, summary = programs.replay(faulty, programs.VIBRATION)
    assert (begin["kind"], end["kind"]) == ("begin", "end")
    assert begin["top1_ch"] == "y"
    assert 5.0 < begin["t"] < 8.0
    assert 10.0 < end["t"] < 14.0
    assert summary["episodes"] == 1
    assert summary["samples_lost"] == 0
    assert summary["seconds_of_data"] == pytest.approx(20.0, abs=0.1)
    # One window when it is full, then one a hop (0.25 s of data after the first 0.72 s).
    assert summary["windows"] == 1 + int((summary["seconds_of_data"] - 0.72) / 0.25)
    assert summary["times_real_time"] > 1


def test_scores_are_a_line_a_window(faulty: Path) -> None:
    *lines, summary = programs.replay(faulty, programs.VIBRATION, "--scores")
    scores = [line for line in lines if line["kind"] == "score"]
    assert [line["index"] for line in scores] == list(range(summary["windows"]))
    facts, _ = facts_of(faulty)
    assert [line["score"] for line in scores] == [
        fact.score.value for fact in facts if isinstance(fact, Judgement)
    ]


def test_it_is_the_pipeline_and_nothing_else(faulty: Path) -> None:
    facts, replay = facts_of(faulty)
    other = Replay(faulty, read_bundle(programs.VIBRATION)).pipeline
    events = Playback().feed(faulty.read_bytes())
    direct = [f for e in events if isinstance(e, Samples) for f in other.feed(e)]
    assert [repr(fact) for fact in facts] == [repr(fact) for fact in direct]
    assert replay.summary().windows == other.counters.windows


def test_a_missing_piece_is_a_gap(faulty: Path, tmp_path: Path) -> None:
    content = faulty.read_bytes()
    half = content.index(b"\x00", len(content) // 2) + 1
    later = content.index(b"\x00", half + 5000) + 1
    (tmp_path / "holed.rec").write_bytes(content[:half] + content[later:])
    facts, replay = facts_of(tmp_path / "holed.rec")
    (gap,) = (fact for fact in facts if isinstance(fact, Gap))
    assert gap.lost > 0
    assert replay.summary().samples_lost == gap.lost
    lines = programs.replay(tmp_path / "holed.rec", programs.VIBRATION)
    assert [line["samples_lost"] for line in lines if line.get("kind") == "gap"] == [gap.lost]


def test_damage_costs_a_gap_not_the_replay(faulty: Path, tmp_path: Path) -> None:
    content = bytearray(faulty.read_bytes())
    content[len(content) // 3] ^= 0xFF
    (tmp_path / "damaged.rec").write_bytes(content)
    facts, _ = facts_of(tmp_path / "damaged.rec")
    assert sum(isinstance(fact, Gap) for fact in facts) == 1
    assert sum(isinstance(fact, AlarmEvent) for fact in facts) >= 2


def test_a_bundle_that_does_not_fit_is_refused_with_1(faulty: Path) -> None:
    assert programs.run(
        "edge_agent", "replay", faulty, "--bundle", programs.COMPASS, "--json", code=1
    ) == []  # fmt: skip
    replay = Replay(faulty, read_bundle(programs.COMPASS))
    with pytest.raises(ReplayError, match="wants unit uT, the board sends g"):
        list(replay.facts())


@pytest.mark.parametrize("content", [b"", b"\x00" * 100, b"no recording\n" * 1000])
def test_a_file_that_is_no_recording_is_refused_with_1(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    replay = Replay(tmp_path / "file", read_bundle(programs.VIBRATION))
    with pytest.raises(ReplayError, match="is this a recording"):
        list(replay.facts())


def test_a_stream_by_name(tmp_path: Path) -> None:
    path = tmp_path / "both.rec"
    programs.run(
        "firmware_bridge", "simulate", "--machine", "vibration", "--machine", "compass",
        "--seconds", 8, "--out", path,
    )  # fmt: skip
    (*_, accel) = programs.replay(path, programs.VIBRATION)
    (*_, mag) = programs.replay(path, programs.COMPASS)
    assert (accel["windows"], mag["windows"]) == (30, 3)
    (*_, named) = programs.replay(path, programs.COMPASS, "--stream", "mag")
    assert named["windows"] == mag["windows"]
    with pytest.raises(ReplayError, match="has no stream 'gyro'; it has: accel, mag"):
        list(Replay(path, read_bundle(programs.COMPASS), "gyro").facts())


def test_speed_1_takes_as_long_as_it_took(tmp_path: Path) -> None:
    path = tmp_path / "short.rec"
    programs.run("firmware_bridge", "simulate", "--seconds", 2, "--out", path)
    (*_, summary) = programs.replay(path, programs.VIBRATION, "--speed", 2)
    assert summary["seconds_taken"] > 0.9
    assert json.dumps(summary)


def test_files_that_are_not_there_end_with_74(faulty: Path, tmp_path: Path) -> None:
    none = tmp_path / "none"
    programs.run("edge_agent", "replay", none, "--bundle", programs.VIBRATION, code=74)
    programs.run("edge_agent", "replay", faulty, "--bundle", none, code=74)
