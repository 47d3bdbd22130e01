"""Evidence: what is kept is a recording, bounded, whole or not there, and no id leads elsewhere."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.boards.evidence import Case, Evidence, Tail
from edge_agent.boards.evidence.case import DOCUMENT, PARTIAL, RECORDING
from edge_agent.boards.evidence.shelf import Shelf
from edge_agent.boards.evidence.tail import LIMIT_BYTES, LIMIT_SECONDS
from edge_agent.boards.evidence.writer import MAX_WAITING_BYTES, Order, Writer
from firmware_bridge.recording import Playback, identify_frames
from firmware_bridge.samples import Samples
from firmware_bridge.signals import ACCEL, MAG, board_document
from tests import programs
from tests.conftest import ROOT
from tests.evidence_bench import LIMIT, Bench, at, document

WAIT_SECONDS = 30.0


def play(path: Path) -> tuple[NDArray[np.float32], Playback]:
    content, playback = path.read_bytes(), Playback()
    assert content.endswith(b"\x00")
    values = [e.values for e in playback.feed(content) if isinstance(e, Samples)]
    assert playback.problem is None
    assert playback.decoder.counters.damaged == 0
    return np.vstack(values), playback


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("piece", [0, 333])
def test_the_seconds_around_an_alarm_are_a_recording(tmp_path: Path, piece: int) -> None:
    bench = Bench(tmp_path, piece=piece)
    bench.run(16.0)
    seen = sum(map(len, bench.rows))
    facts = {"ts": at(16.0), "mono_ms": 16_000, "score": 2.5, "why": "y carries 90 %"}
    bench.evidence.keep("run-pump-1", "pump", "b", bench.now_s, {**facts, "stream": "accel"})
    bench.run(23.0)
    bench.evidence.close()
    assert bench.evidence.problem is None
    values, playback = play(tmp_path / f"run-pump-1{RECORDING}")
    (assembler,) = playback.assemblers.values()
    assert assembler.counters.gaps == 0
    live = np.vstack(bench.rows)
    # Some whole seconds before, and five after: exactly these rows of what the agent judged.
    after = round((len(values) - 5.0 * ACCEL.rate_hz) / ACCEL.rate_hz)
    first = next(i for i in range(seen) if np.array_equal(live[i : i + 8], values[:8]))
    np.testing.assert_array_equal(values, live[first : first + len(values)])
    assert 8 <= after <= LIMIT_SECONDS
    assert seen - first == pytest.approx(after * ACCEL.rate_hz, rel=0.1)
    assert first + len(values) - seen == pytest.approx(5.0 * ACCEL.rate_hz, rel=0.03)
    case = Case.model_validate(document(tmp_path, "run-pump-1"))
    assert (case.kind, case.asset, case.board, case.verdict) == ("alarm", "pump", "b", None)
    assert document(tmp_path, "run-pump-1")["why"] == facts["why"]
    part = (tmp_path / f"run-pump-1{RECORDING}").read_bytes()[: case.seen_bytes]
    rows = sum(len(e.values) for e in Playback().feed(part) if isinstance(e, Samples))
    assert rows == seen - first


def test_the_agent_replays_what_was_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(10.0)
    bench.evidence.keep("one", "pump", "b", bench.now_s, {})
    bench.run(12.0)
    bench.evidence.close()
    (*_, summary) = programs.replay(tmp_path / f"one{RECORDING}", programs.VIBRATION)
    assert summary["seconds_of_data"] > 11
    assert summary["samples_lost"] == 0
    assert summary["windows"] > 30


def test_a_slow_board_is_kept_for_so_many_seconds(tmp_path: Path) -> None:
    bench = Bench(tmp_path, "mag")
    bench.run(70.0)
    name = bench.evidence.missed("door", "b", bench.now_s, "it stuck", at(70.0))
    bench.evidence.close()
    values, _ = play(tmp_path / f"{name}{RECORDING}")
    assert len(values) / MAG.rate_hz == pytest.approx(LIMIT_SECONDS, abs=2.5)
    case = Case.model_validate(document(tmp_path, name))
    assert (case.kind, case.verdict, case.note) == ("missed", "missed", "it stuck")


@pytest.mark.parametrize("size", [1, 40, 900, 65_536])
def test_the_tail_is_bounded_whatever_the_chunks(size: int) -> None:
    tracemalloc.start()
    tail = Tail()
    tail.begin(b"{}")
    for turn in range(1_000_000 // (size + 100)):
        tail.take(bytes([1 + turn % 255, turn // 255 % 256]) * (size // 2 or 1), turn * 1e-4)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert LIMIT_BYTES < taken < 1.1 * LIMIT_BYTES
    tail.take(b"later", 1000.0)
    assert tail.last(1000.0) == [b"later"]


@pytest.mark.parametrize("seed", range(8))
def test_the_tail_holds_the_last_bytes_as_they_came(seed: int) -> None:
    rng = random.Random(seed)
    tail, came, now_s = Tail(1000, 5.0), [], 0.0
    tail.begin(b"{}")
    for _ in range(300):
        now_s += rng.random() * 0.3
        chunk = rng.randbytes(rng.choice((1, 7, 90, 999, 1000, 2500)))
        tail.take(chunk, now_s)
        came.append((now_s, chunk))
        kept = b"".join(tail.last(now_s))
        everything = b"".join(chunk for _, chunk in came)
        recent = b"".join(chunk for at_s, chunk in came if at_s >= now_s - 4.9)
        assert everything.endswith(kept)
        assert len(kept) >= min(len(recent), 1000)
        assert len(kept) <= 1000


def test_a_board_that_goes_ends_its_recordings_whole(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(4.0)
    bench.evidence.keep("gone", "pump", "b", bench.now_s, {})
    bench.run(5.0)
    bench.tail.take(b"half a fra", bench.now_s)
    bench.tail.end()
    bench.tail.take(b"boot messages\x00", bench.now_s)
    bench.evidence.tick(bench.now_s)
    bench.evidence.keep("after", "pump", "b", bench.now_s, {})
    bench.tail.begin(board_document("cd" * 12, (MAG,)))
    bench.evidence.keep("other", "pump", "b", bench.now_s, {})
    bench.evidence.close()
    values, _ = play(tmp_path / f"gone{RECORDING}")
    again, _ = play(tmp_path / f"after{RECORDING}")
    np.testing.assert_array_equal(values, again)
    assert len(values) > 4 * ACCEL.rate_hz
    # Nothing of the old session is in the new one, and nothing is no recording.
    assert document(tmp_path, "other")["board"] == "b"
    assert not (tmp_path / f"other{RECORDING}").exists()


def test_a_board_that_was_never_there_leaves_the_facts(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, LIMIT, ["b"])
    evidence.tails["b"].take(b"noise\x00", 0.0)
    evidence.keep("one", "pump", "b", 0.0, {"score": float("nan"), "bundle": Path("x")})
    with pytest.raises(ValueError, match="board b is not there"):
        evidence.capture("b", 0.0, 5.0, at(0))
    evidence.close()
    assert sorted(os.listdir(tmp_path)) == ["one.json"]
    assert document(tmp_path, "one")["score"] is None
    assert document(tmp_path, "one")["bundle"] == "x"


def test_a_capture_is_the_next_seconds(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(3.0)
    seen = sum(map(len, bench.rows))
    name = bench.evidence.capture("b", bench.now_s, 2.0, at(3.0))
    with pytest.raises(ValueError, match=f"wait for {name}"):
        bench.evidence.capture("b", bench.now_s, 2.0, at(3.0))
    bench.run(6.0)
    bench.evidence.capture("b", bench.now_s, 1.0, at(6.0))
    for seconds in (0.0, -1.0, 1e9, float("nan")):
        with pytest.raises(ValueError, match="seconds: saw"):
            bench.evidence.capture("b", bench.now_s, seconds, at(6.0))
    with pytest.raises(ValueError, match="board: saw 'x', expected b"):
        bench.evidence.capture("x", bench.now_s, 1.0, at(6.0))
    bench.evidence.close()
    values, _ = play(tmp_path / f"{name}{RECORDING}")
    assert len(values) == pytest.approx(2.0 * ACCEL.rate_hz, rel=0.05)
    live = np.vstack(bench.rows)
    assert any(np.array_equal(live[i : i + len(values)], values) for i in range(seen, seen + 200))
    assert Case.model_validate(document(tmp_path, name)).kind == "capture"


def test_what_people_say_is_added_to_the_case(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path, LIMIT, ["b"])
    evidence.keep("one", "pump", "b", 0.0, {"ts": at(0), "why": "y carries"})
    evidence.verdict("one", "unsure", "", at(1))
    evidence.ended("one", at(2))
    evidence.verdict("one", "false_alarm", "door \ud800 slammed", at(3))
    evidence.verdict("gone-long-ago.1", "confirmed", "bearing changed", at(4))
    evidence.close()
    case = Case.model_validate_json((tmp_path / "one.json").read_bytes())
    assert (case.verdict, case.note, case.kind) == ("false_alarm", "door ? slammed", "alarm")
    assert case.ended == datetime.fromisoformat(at(2))
    assert document(tmp_path, "one")["why"] == "y carries"
    alone = Case.model_validate(document(tmp_path, "gone-long-ago.1"))
    assert (alone.verdict, alone.asset) == ("confirmed", None)
    assert sorted(os.listdir(tmp_path)) == ["gone-long-ago.1.json", "one.json"]


HOSTILE = [
    "", ".", "..", "../one", "/etc/passwd", "a/b", "a\\b", ".hidden", "-rf", "a\n", "a\x00", "a b",
    "ä", "a" * 129, "a*", None, 7, ["a"], {"a": 1},
]  # fmt: skip


@pytest.mark.parametrize("event_id", HOSTILE)
def test_no_id_leads_elsewhere(tmp_path: Path, event_id: object) -> None:
    folder = tmp_path / "state" / "evidence"
    evidence = Evidence(folder, LIMIT, ["b"])
    with pytest.raises(ValueError, match="event_id: saw"):
        evidence.verdict(event_id, "confirmed", "", at(0))
    evidence.close()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("verdict", "note", "said"),
    [("missed", "", "verdict: saw"), (True, "", "verdict: saw"), ("confirmed", "x" * 1001, "note:"),
     ("confirmed", 5, "note: saw 5"), ({"x": 1}, "", "verdict: saw")],
)  # fmt: skip
def test_other_words_are_refused_in_words(
    tmp_path: Path, verdict: object, note: object, said: str
) -> None:
    evidence = Evidence(tmp_path, LIMIT, ["b"])
    with pytest.raises(ValueError, match=said) as refusal:
        evidence.verdict("one", verdict, note, at(0))
    assert len(str(refusal.value)) < 200
    evidence.close()
    assert os.listdir(tmp_path) == []


def filled(shelf: Shelf, name: str, size_bytes: int = 300_000, **facts: object) -> None:
    shelf.begin(name, b"head\x00")
    shelf.append(name, b"\x00" + b"frame\x00" * (size_bytes // 6) + b"rest")
    shelf.finish(name)
    shelf.note(name, facts)


def disk_bytes(folder: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in folder.iterdir())


def test_the_folder_is_bounded_and_unjudged_cases_go_first(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    shelf = Shelf(tmp_path, 2_000_000)
    filled(shelf, "judged", verdict="confirmed")
    for turn in range(12):
        filled(shelf, f"alarm-{turn}")
        assert disk_bytes(tmp_path) <= 2_000_000 + 4096
    left = sorted(path.stem for path in tmp_path.glob(f"*{RECORDING}"))
    assert left == ["alarm-10", "alarm-11", "alarm-7", "alarm-8", "alarm-9", "judged"]
    assert sorted(path.stem for path in tmp_path.glob(f"*{DOCUMENT}")) == left
    # The same after a restart, by the age of the files.
    for age, name in enumerate(("alarm-9", "judged", "alarm-7", "alarm-8")):
        os.utime(tmp_path / f"{name}{RECORDING}", (age, age))
    shelf = Shelf(tmp_path, 1_500_000)
    left = sorted(path.stem for path in tmp_path.glob(f"*{RECORDING}"))
    assert left == ["alarm-10", "alarm-11", "alarm-8", "judged"]
    for turn in range(5):
        filled(shelf, f"later-{turn}", verdict="unsure")
    assert "judged" not in {path.stem for path in tmp_path.iterdir()}
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_invented_ids_push_no_recording_out(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 2_000_000, max_cases=10)
    filled(shelf, "alarm", 1000)
    filled(shelf, "judged", 1000, verdict="confirmed")
    for turn in range(50):
        shelf.note(f"invented-{turn}", {"verdict": "confirmed"})
    assert len(list(tmp_path.glob(f"*{DOCUMENT}"))) == 10
    assert sorted(path.stem for path in tmp_path.glob(f"*{RECORDING}")) == ["alarm", "judged"]
    assert (tmp_path / f"invented-49{DOCUMENT}").exists()


def test_one_recording_does_not_take_it_all(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 2_000_000)
    filled(shelf, "first", 100_000)
    shelf.begin("long", b"head\x00")
    for _ in range(100):
        shelf.append("long", b"\x00" + b"frame\x00" * 10_000)
    assert 1_000_000 < (tmp_path / f"long{RECORDING}").stat().st_size < 1_100_000
    assert (tmp_path / f"first{RECORDING}").exists()
    # What is under way doesn't go for others under way: without room, recordings end.
    for name in ("a", "b", "c"):
        shelf.begin(name, b"head\x00")
    for _ in range(30):
        for name in ("a", "b", "c"):
            shelf.append(name, b"\x00" + b"frame\x00" * 5000)
            assert disk_bytes(tmp_path) <= 2_000_000
    shelf.close()
    sizes = [path.stat().st_size for path in tmp_path.glob(f"*{RECORDING}")]
    assert len(sizes) >= 2
    assert min(sizes) > 300_000


def test_a_frame_is_never_cut(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, 2_000_000)
    shelf.begin("one", b"head\x00")
    for data in (b"rest of", b" a frame", b"\x00ab", b"c\x00", b"d", b"ef\x00gh", b"ij"):
        shelf.append("one", data)
    shelf.finish("one")
    assert (tmp_path / f"one{RECORDING}").read_bytes() == b"head\x00abc\x00def\x00"
    shelf.begin("noise", b"head\x00")
    shelf.append("noise", b"\x00")
    for _ in range(100):
        shelf.append("noise", b"x" * 1000)
    shelf.append("noise", b"\x00y")
    shelf.finish("noise")
    assert (tmp_path / f"noise{RECORDING}").read_bytes() == b"head\x00" + b"x" * 100_000 + b"\x00"


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """What a full disk is: no file of ours grows beyond this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_a_problem_not_an_end(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(6.0)
    evidence = bench.evidence
    with largest_file(150_000):
        evidence.keep("full", "pump", "b", bench.now_s, {})
        bench.run(9.5)
        until(lambda: evidence.problem)
    assert str(tmp_path) in (evidence.problem or "")
    evidence.keep("again", "pump", "b", bench.now_s, {})
    bench.run(10.0)
    until(lambda: evidence.problem is None)
    evidence.close()
    # What fits is kept, up to the last whole frame; the case is known all the same.
    assert (tmp_path / f"full{DOCUMENT}").exists()
    assert len(play(tmp_path / f"full{RECORDING}")[0]) > 3 * ACCEL.rate_hz
    assert len(play(tmp_path / f"again{RECORDING}")[0]) > 7 * ACCEL.rate_hz
    assert list(tmp_path.glob(f"*{PARTIAL}")) == []


def test_a_verdict_waits_for_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "evidence"
    folder.write_bytes(b"")
    evidence = Evidence(folder, LIMIT, ["b"])
    for number in range(300):
        evidence.keep(f"alarm-{number}", "pump", "b", 0.0, {})
        if number < 100:
            evidence.verdict(f"alarm-{number}", "confirmed", "", at(1))
    until(lambda: evidence.problem)
    assert str(folder) in (evidence.problem or "")
    folder.unlink()
    evidence.tails["b"].begin(b"{}")
    evidence.missed("pump", "b", 0.0, "", at(2))
    until(lambda: evidence.problem is None)
    evidence.close()
    cases = [document(folder, path.stem) for path in folder.glob(f"*{DOCUMENT}")]
    assert sum(case["verdict"] == "confirmed" for case in cases) == 100
    # 200 may wait; that of the last moment may have come when they did so no longer.
    assert len(cases) in (200, 201)


def test_a_disk_that_is_too_slow_ends_recordings(tmp_path: Path) -> None:
    writer = Writer(tmp_path, LIMIT)
    megabyte = b"\x00" + b"frame\x00" * 160_000
    with writer._changed:  # the writer is away: nothing is taken from the queue meanwhile
        for number in range(20):
            writer.record(Order(f"r{number}", [megabyte], True, b"head\x00"))
        assert writer._waiting_bytes <= MAX_WAITING_BYTES
        assert "too slow" in (writer.problem or "")
    writer.close()
    kept = list(tmp_path.glob(f"*{RECORDING}"))
    assert len(kept) == MAX_WAITING_BYTES // len(megabyte)


CHILD = """
import sys, time
from pathlib import Path
from edge_agent.boards.evidence import Evidence
from firmware_bridge.link import Identified
from firmware_bridge.recording import Playback, identify_frames
wire = Path(sys.argv[2]).read_bytes()
(document,) = [e.document for e in Playback().feed(wire) if isinstance(e, Identified)]
evidence = Evidence(Path(sys.argv[1]), 20_000_000, ["b"], after_seconds=0.05)
evidence.tails["b"].begin(document)
body = wire[len(identify_frames(document)) :]
at = number = 0
while True:
    evidence.tails["b"].take((body + body)[at : at + 5000], number * 1e-2)
    at = (at + 5000) % len(body)
    evidence.tick(time.monotonic())
    if number * 5000 % 20000 == 0:
        name = f"{sys.argv[3]}-{number}"
        evidence.keep(name, "pump", "b", time.monotonic(), {"why": "x" * 500})
        evidence.verdict(name, "confirmed", "n" * 900, "now")
    number += 1
    time.sleep(0.001)
"""


def recordings_are(folder: Path, run: str, count: int) -> bool:
    return len(list(folder.glob(f"{run}-*{RECORDING}"))) >= count


def test_kill_9_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    folder, wire = tmp_path / "evidence", tmp_path / "wire.rec"
    programs.run("firmware_bridge", "simulate", "--seconds", 4, "--out", wire)
    leftovers = 0
    for run in range(2):
        child = subprocess.Popen([sys.executable, "-c", CHILD, folder, wire, f"run{run}"], cwd=ROOT)
        until(partial(recordings_are, folder, f"run{run}", 4 + 2 * run))
        child.send_signal(signal.SIGKILL)
        child.wait()
        leftovers += len(list(folder.glob(f"*{PARTIAL}")))
        for path in folder.glob(f"*{RECORDING}"):
            play(path)
        for path in folder.glob(f"*{DOCUMENT}"):
            assert Case.model_validate_json(path.read_bytes()).event_id == path.stem
    assert leftovers > 0
    Evidence(folder, LIMIT, ["b"]).close()
    assert list(folder.glob(f"*{PARTIAL}")) == []
    assert len(list(folder.glob(f"*{RECORDING}"))) > 6


def test_identify_frames_are_how_it_begins(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.run(2.0)
    bench.evidence.missed("pump", "b", bench.now_s, "", at(2))
    bench.evidence.close()
    (path,) = tmp_path.glob(f"*{RECORDING}")
    head = identify_frames(board_document("ab" * 12, (ACCEL,)))
    assert path.read_bytes().startswith(head)
