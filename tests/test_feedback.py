"""Feedback: operators' verdicts become recordings with the labels that `build` reads."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.__main__ import main
from converter.feedback import read_case
from converter.recordings import Recording, read_recording
from firmware_bridge.signals import ACCEL
from tests.evidence_bench import Bench, at

WINDOW_SECONDS = 0.75
Run = Callable[..., list[dict[str, Any]]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """`edge-converter feedback --json`, which must end with `code`."""

    def called(*arguments: object, code: int = 0) -> list[dict[str, Any]]:
        assert main(["feedback", *map(str, arguments), "--json"]) == code
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return called


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One alarm of each verdict, one without, one whose recording has gone, a miss, a capture."""
    folder = tmp_path_factory.mktemp("state") / "evidence"
    bench = Bench(folder)
    bench.run(14.0)
    facts = {"ts": at(14.0), "first_over": at(13.0), "window_seconds": WINDOW_SECONDS}
    for name in ("false", "real", "open", "doubt"):
        bench.evidence.keep(f"run-{name}", "pump", "b", bench.now_s, {**facts, "stream": "accel"})
    bench.evidence.keep("run-other", "fan", "b", bench.now_s, {})
    bench.run(16.5)
    bench.evidence.ended("run-real", at(16.0))
    bench.evidence.missed("pump", "b", bench.now_s, "it squealed", at(16.5))
    bench.evidence.capture("b", bench.now_s, 1.0, at(16.5))
    bench.run(20.0)
    for name, verdict in (("false", "false_alarm"), ("real", "confirmed"), ("doubt", "unsure"),
                          ("other", "confirmed"), ("gone", "confirmed")):  # fmt: skip
        bench.evidence.verdict(f"run-{name}", verdict, "", at(20.0))
    bench.evidence.close()
    return folder


def only(folder: Path) -> Recording:
    (path,) = folder.glob("*.rec")
    return read_recording(path)


def test_every_verdict_becomes_what_it_is_good_for(
    evidence: Path, tmp_path: Path, run: Run
) -> None:
    before = {path: path.read_bytes() for path in evidence.iterdir()}
    *rows, summary = run(evidence, "--out", tmp_path)
    assert summary == {
        "cases": 8, "false_alarm": 1, "confirmed": 3, "missed": 1, "unsure": 1, "unjudged": 2,
        "unreadable": 0, "written": 4,
    }  # fmt: skip
    assert {row["event_id"]: row["said"] for row in rows}["run-gone"] == "no recording"
    assert {path: path.read_bytes() for path in evidence.iterdir()} == before
    normal = only(tmp_path / "pump" / "normal")
    assert normal.name == "run-false.rec"
    assert normal.anomalous is not None
    assert not normal.anomalous.any()
    assert normal.rows > 10 * ACCEL.rate_hz
    # Nobody said when the fan's alarm was: all of it, as with a miss.
    fan = only(tmp_path / "fan" / "faulty")
    assert fan.anomalous is not None
    assert fan.anomalous.all()
    missed = read_recording(next((tmp_path / "pump" / "faulty").glob("missed-*.rec")))
    assert missed.anomalous is not None
    assert missed.anomalous.all()


def test_the_rows_of_the_alarm_are_anomalous(evidence: Path, tmp_path: Path, run: Run) -> None:
    run(evidence, "--out", tmp_path, "--asset", "pump")
    real = read_recording(tmp_path / "pump" / "faulty" / "run-real.rec")
    assert real.anomalous is not None
    # The simulated board was powered on when the clock of the test began.
    times_s = np.concatenate([b.t0 + np.arange(len(b.values)) / b.rate_hz for b in real.batches])
    alarmed = times_s[real.anomalous]
    assert alarmed[0] == pytest.approx(13.0 - WINDOW_SECONDS, abs=0.1)
    assert alarmed[-1] == pytest.approx(16.0, abs=0.1)
    assert len(alarmed) == pytest.approx((3.0 + WINDOW_SECONDS) * ACCEL.rate_hz, rel=0.01)
    assert times_s[0] < 6.0
    assert times_s[-1] > 18.5
    assert not (tmp_path / "fan").exists()


def test_people_get_a_table(
    evidence: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["feedback", str(evidence), "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "run-real" in text
    assert "8 cases: 1 false_alarm, 3 confirmed, 1 missed, 1 unsure, 2 unjudged" in text
    assert "4 recordings written" in text


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("a", {"asset": "../../elsewhere"}, "asset"),
        ("a", {"board": "/tmp", "asset": None}, "board"),
        ("a", {"event_id": "b"}, "is about b"),
        ("a", {"event_id": "../a"}, "event_id"),
        ("a", {"verdict": "maybe"}, "verdict"),
        ("a", {"schema_version": 2}, "schema_version"),
        ("a", {"ts": "yesterday"}, "ts"),
        ("a", {"window_seconds": -1}, "window_seconds"),
    ],
)
def test_a_case_that_is_none_is_told_and_left(
    evidence: Path, tmp_path: Path, run: Run, name: str, changes: dict[str, object], said: str
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    whole = json.loads((evidence / "run-real.json").read_text()) | {"event_id": name}
    (folder / f"{name}.json").write_text(json.dumps(whole | changes))
    (folder / f"{name}.rec").write_bytes((evidence / "run-real.rec").read_bytes())
    row, summary = run(folder, "--out", out)
    assert said in row["said"]
    assert (summary["unreadable"], summary["written"]) == (1, 0)
    assert not out.exists()


def test_a_damaged_case_does_not_end_the_others(evidence: Path, tmp_path: Path, run: Run) -> None:
    for name, content in (("a", b"{"), ("c", b"\xff" * 50), ("d", b"[" * 100_000)):
        (tmp_path / f"{name}.json").write_bytes(content)
    whole = json.loads((evidence / "run-real.json").read_text())
    for name in ("b", "e", "f"):
        (tmp_path / f"{name}.json").write_text(json.dumps(whole | {"event_id": name}))
    recording = (evidence / "run-real.rec").read_bytes()
    (tmp_path / "b.rec").write_bytes(recording)
    (tmp_path / "e.rec").write_bytes(b"no recording")
    (tmp_path / "f.rec").write_bytes(recording[: whole["seen_bytes"] // 4])
    out = tmp_path / "out"
    *rows, summary = run(tmp_path, "--out", out)
    said = {row["event_id"]: row["said"] for row in rows}
    assert (summary["unreadable"], summary["written"]) == (3, 1)
    assert "is this a recording" in said["e"]
    assert "ends before the alarm" in said["f"]
    assert sorted(os.listdir(out / "pump" / "faulty")) == ["b.labels.json", "b.rec"]


def test_a_folder_without_cases_is_refused(tmp_path: Path, evidence: Path, run: Run) -> None:
    run(tmp_path, "--out", tmp_path / "out", code=1)
    run(evidence, "--out", tmp_path, "--asset", "none", code=1)
    run(tmp_path / "none", "--out", tmp_path / "out", code=74)


def test_the_agent_s_document_is_the_converter_s_case(evidence: Path) -> None:
    case = read_case("run-real.json", (evidence / "run-real.json").read_bytes())
    assert (case.asset, case.stream, case.verdict) == ("pump", "accel", "confirmed")
    assert case.seen_bytes is not None
    assert 0 < case.seen_bytes < (evidence / "run-real.rec").stat().st_size
