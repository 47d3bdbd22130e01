"""The outbox on a real disk: order, bounds, damage, and kill -9 at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.broker.clock import Clock
from edge_agent.broker.layout import VERSION
from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import FILE_NAME, Outbox
from edge_agent.broker.store import DAY_SECONDS, Limits, Note, Row, Store
from tests.conftest import ROOT
from tests.damaged_store import ROWS, corruption


def message(text: str, alert: bool = True, size: int = 0) -> Message:
    padding = random.Random(text).randbytes(max(0, size - len(text)))
    return Message("t/event", text.encode() + padding, key=text, alert=alert)


def keys(outbox: Outbox, after: int = 0, limit: int = 1000) -> list[str]:
    return [row.message.key for row in outbox.pending(after, limit)]


def test_what_was_put_comes_back_in_order_until_it_is_acknowledged(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    ids = [outbox.put(message(f"m{i}")) for i in range(5)]
    assert keys(outbox) == ["m0", "m1", "m2", "m3", "m4"]
    assert keys(outbox, after=ids[1], limit=2) == ["m2", "m3"]
    outbox.acknowledge(ids[0])
    outbox.acknowledge(ids[3])
    assert keys(outbox) == ["m1", "m2", "m4"]
    assert outbox.depth() == 3
    outbox.close()


def test_a_message_survives_unchanged(tmp_path: Path) -> None:
    sent = Message("a/b", b'{"x":1}\x00\xff', 1, True, "key", True, "text/plain", 60)
    outbox = Outbox(tmp_path)
    outbox.put(sent)
    outbox.close()
    outbox = Outbox(tmp_path)
    assert [row.message for row in outbox.pending(0, 10)] == [sent]
    assert outbox.oldest_seconds() >= 0.0
    outbox.close()


def test_ids_of_a_new_run_come_after_those_that_wait(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    last = [outbox.put(message(f"m{i}")) for i in range(3)][-1]
    outbox.close()
    outbox = Outbox(tmp_path)
    assert outbox.last_id == last
    assert outbox.put(message("next")) == last + 1
    assert keys(outbox) == ["m0", "m1", "m2", "next"]
    outbox.close()


def test_acknowledged_before_it_was_written_needs_no_disk(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    (size,) = {file.stat().st_size for file in tmp_path.glob("*-wal")}
    for i in range(50):
        row_id = outbox.put(message(f"m{i}", alert=False), sent=True)
        outbox.tick(float(i))
        assert keys(outbox) == [f"m{i}"]
        outbox.acknowledge(row_id)
    outbox.tick(100.0)
    assert outbox.flush()
    assert (keys(outbox), outbox.depth()) == ([], 0)
    assert {file.stat().st_size for file in tmp_path.glob("*-wal")} == {size}
    outbox.close()


def test_sent_but_not_acknowledged_is_written_after_a_while(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(message("sent"), sent=True)
    outbox.tick(0.0)
    outbox.tick(0.1)
    deadline, reader = time.monotonic() + 10, Store(tmp_path / FILE_NAME, Limits())
    while not reader.pending(0, 1) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [row.message.key for row in reader.pending(0, 9)] == ["sent"]
    reader.close()
    outbox.close()


def test_the_oldest_telemetry_goes_first_and_alerts_last(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, Limits(rows=6))
    for i in range(4):
        outbox.put(message(f"alert{i}"))
        outbox.put(message(f"gap{i}", alert=False))
    assert outbox.flush()
    assert keys(outbox) == ["alert0", "alert1", "alert2", "gap2", "alert3", "gap3"]
    for i in range(4, 8):
        outbox.put(message(f"alert{i}"))
    assert outbox.flush()
    assert keys(outbox) == [f"alert{i}" for i in range(2, 8)]
    assert (outbox.dropped_telemetry, outbox.dropped_alerts) == (4, 2)
    outbox.close()


def test_bytes_are_bounded(tmp_path: Path) -> None:
    limit = 200_000
    outbox = Outbox(tmp_path, Limits(bytes=limit))
    for i in range(300):
        outbox.put(message(f"m{i}", size=2000))
        if i % 50 == 0:
            assert outbox.flush()
    assert outbox.flush()
    waiting = outbox.pending(0, 1000)
    assert 0.9 * limit < sum(len(row.message.payload) + 400 for row in waiting) <= limit
    assert waiting[-1].message.key == "m299"
    assert outbox.dropped_alerts == 300 - len(waiting)
    outbox.close()
    assert (tmp_path / FILE_NAME).stat().st_size < 3 * limit


@pytest.mark.parametrize("damage", ["text", "middle", "empty_table"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, damage: str) -> None:
    outbox = Outbox(tmp_path)
    for i in range(200):
        outbox.put(message(f"m{i}", size=500))
    outbox.close()
    file = tmp_path / FILE_NAME
    content = file.read_bytes()
    if damage == "text":
        file.write_bytes(b"this is no database at all\n" * 100)
    elif damage == "middle":
        file.write_bytes(content[:4096] + b"\xa5" * (len(content) - 8192) + content[-4096:])
    else:
        file.write_bytes(content[:100] + b"\x00" * (len(content) - 100))
    outbox = Outbox(tmp_path)
    assert outbox.set_aside is not None
    assert outbox.set_aside.exists()
    outbox.put(message("life goes on"))
    assert outbox.flush()
    # What could be read goes on, and what it says is what was put.
    *old, new = outbox.pending(0, 1000)
    assert new.message.key == "life goes on"
    assert outbox.carried == len(old) < 200
    assert [row.message for row in old] == [message(row.message.key, size=500) for row in old]
    assert f"set aside as {outbox.set_aside}, {len(old)} messages go on" in outbox.notices()[0]
    outbox.close()


def test_a_folder_that_cannot_be_written_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"):
        Outbox(tmp_path / "file" / "below")


def test_while_the_disk_refuses_messages_wait_in_memory(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    blocker = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    outbox.put(message("during"))
    deadline = time.monotonic() + 30
    while outbox.problem is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "locked" in (outbox.problem or "")
    assert keys(outbox) == ["during"]
    blocker.execute("ROLLBACK")
    blocker.close()
    assert outbox.flush(30)
    assert outbox.problem is None
    assert keys(outbox) == ["during"]
    outbox.close()


CHILD = """
import sys
from pathlib import Path
from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    for _ in range(number % 7 + 1):
        outbox.put(Message("t", b"x" * 300, key=str(number), alert=True))
        number += 1
    assert outbox.flush()
    print(number, flush=True)
    rows = outbox.pending(0, 3)
    if len(outbox.pending(0, 200)) > 150:
        for row in rows:
            outbox.acknowledge(row.id)
            print("gone", row.message.key, flush=True)
"""


@pytest.mark.timeout(120)
def test_kill_9_at_any_moment_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    flushed, gone, seen = 0, set[str](), set[str]()
    for round_number in range(12):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(flushed)],
            cwd=ROOT, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout
        child.stdout.readline()
        time.sleep(0.03 + 0.02 * (round_number % 5))
        os.kill(child.pid, signal.SIGKILL)
        out, _ = child.communicate()
        for line in out.splitlines():
            what, _, key = line.partition(" ")
            if what == "gone":
                gone.add(key)
            elif what.isdigit():
                flushed = max(flushed, int(what))
        store = Store(tmp_path / FILE_NAME, Limits())
        waiting = [row.message.key for row in store.pending(0, 1_000_000)]
        store.close()
        assert waiting == sorted(waiting, key=int), "the order is that of putting"
        seen = set(waiting)
        missing = {str(n) for n in range(flushed)} - seen - gone
        assert not missing
        # What was written but not yet reported is there, too: the next round counts on from it.
        flushed = max(flushed, max(map(int, waiting)) + 1)
    assert flushed > 100


FIRST_SCHEMA = """
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY, key TEXT NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL,
    qos INTEGER NOT NULL, retain INTEGER NOT NULL, alert INTEGER NOT NULL, stored REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS telemetry ON outbox (id) WHERE alert = 0;
CREATE TABLE IF NOT EXISTS note (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


def first_store(path: Path, rows: int) -> list[Message]:
    """A file as the first version left it."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.executescript(FIRST_SCHEMA)
    messages = [message(f"m{n}", alert=n % 2 == 0, size=n * 20) for n in range(rows)]
    for row_id, m in enumerate(messages, 5):
        values = (row_id, m.key, m.topic, m.payload, m.qos, m.retain, m.alert, time.time() - 100)
        database.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
    database.execute("INSERT INTO note VALUES ('store_id', x'61626364')")
    database.close()
    return messages


def test_the_first_layout_is_brought_up_to_date(tmp_path: Path) -> None:
    messages = first_store(tmp_path / FILE_NAME, 100)
    for _ in range(2):
        outbox = Outbox(tmp_path)
        assert outbox.set_aside is None
        rows = outbox.pending(0, 1000)
        assert [row.message for row in rows] == messages
        assert [row.id for row in rows] == list(range(5, 105))
        assert outbox.notes == {"store_id": b"abcd"}
        assert 100 <= outbox.oldest_seconds() < 1000
        assert (outbox.depth(), outbox.last_id) == (100, 104)
        outbox.close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    assert database.execute("PRAGMA user_version").fetchone() == (VERSION,)
    database.close()


@pytest.mark.parametrize("sql", ["PRAGMA user_version=99", "CREATE TABLE more (x)"])
def test_the_file_of_another_version_is_set_aside_with_what_it_has(
    tmp_path: Path, sql: str
) -> None:
    outbox = Outbox(tmp_path)
    outbox.put(message("m"))
    outbox.note(Note("n", b"v"))
    outbox.close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute(sql)
    database.close()
    outbox = Outbox(tmp_path)
    assert outbox.set_aside is not None
    assert (keys(outbox), outbox.notes, outbox.carried) == (["m"], {"n": b"v"}, 1)
    outbox.close()


def test_a_row_that_the_disk_has_changed_is_never_given(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for n in range(3):
        outbox.put(message(f"m{n}"))
    outbox.close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute("UPDATE outbox SET topic = 't/other' WHERE id = 2")
    database.commit()
    database.close()
    outbox = Outbox(tmp_path)
    assert keys(outbox) == ["m0", "m2"]
    assert keys(outbox) == ["m0", "m2"]
    assert outbox.damaged_rows == 1
    assert "message 2 was damaged" in outbox.notices()[0]
    assert outbox.flush()
    assert outbox.depth() == 2
    outbox.close()


def test_a_file_that_is_damaged_while_it_is_in_use_is_replaced(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    for n in range(300):
        outbox.put(message(f"m{n}", size=700), note=Note("kept", b"%d" % n))
    assert outbox.flush()
    outbox.close()
    outbox = Outbox(tmp_path)
    size = (tmp_path / FILE_NAME).stat().st_size
    with (tmp_path / FILE_NAME).open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xa5" * 4096)
    found = keys(outbox)
    deadline = time.monotonic() + 30
    while outbox.set_aside is None and time.monotonic() < deadline:
        outbox.put(message("new"))
        outbox.tick(time.monotonic())
        time.sleep(0.05)
        found = keys(outbox)
    assert outbox.flush(30)
    found = keys(outbox)
    assert outbox.problem is None
    assert "new" in found
    old = [key for key in found if key != "new"]
    assert 200 < len(old) < 300
    assert (outbox.carried, outbox.unread) == (len(old), False)
    assert [row.message for row in outbox.pending(0, 200)] == [
        message(key, size=700) for key in found[:200]
    ]
    outbox.close()
    again = Outbox(tmp_path)
    assert (keys(again), again.notes) == (found, {"kept": b"299"})
    again.close()


def test_three_damaged_files_are_kept(tmp_path: Path) -> None:
    found = []
    for n in range(6):
        (tmp_path / FILE_NAME).write_bytes(b"no database %d" % n * 99)
        outbox = Outbox(tmp_path)
        found.append(outbox.set_aside)
        outbox.close()
        time.sleep(0.02)
    left = {path for path in tmp_path.glob("*damaged*") if not path.name.endswith(("-wal", "-shm"))}
    assert left == set(found[-3:])


CORRUPTIONS = int(os.environ.get("OTOLITH_CORRUPTIONS", "100"))


def test_whatever_is_damaged_nothing_false_comes_out_and_all_goes_on() -> None:
    left = corruption(CORRUPTIONS)
    assert {one.set_aside for one in left} == {True, False}
    assert sum(one.rows for one in left) > CORRUPTIONS * 0.6 * ROWS
    assert sum(one.damaged_rows for one in left) > 0


def test_whatever_is_damaged_under_a_running_outbox_nothing_false_comes_out() -> None:
    left = corruption(CORRUPTIONS // 4, first_seed=10_000, running=True)
    assert sum(one.rows for one in left) > 0


class Hands:
    """A clock that a test turns."""

    def __init__(self, wall_s: float = 1_795_000_000.0) -> None:
        self.wall_s, self.monotonic_s = wall_s, 1000.0

    def clock(self, boot_id: str = "boot") -> Clock:
        return Clock(boot_id, lambda: self.wall_s, lambda: self.monotonic_s)

    def pass_(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


def look(outbox: Outbox, now_s: float) -> list[str]:
    """What is left after ages were looked at."""
    assert outbox.flush()
    outbox.tick(now_s)
    while outbox.stuck_seconds(time.monotonic()):
        time.sleep(0.001)
    return keys(outbox)


@pytest.mark.parametrize("synchronised", [True, False, None])
def test_a_clock_that_nobody_keeps_right_gives_up_no_alert(
    tmp_path: Path, synchronised: bool | None
) -> None:
    before = Hands()
    outbox = Outbox(tmp_path, clock=before.clock("before"))
    outbox.put(message("alert"))
    outbox.close()
    wall_s = before.wall_s + 200 * DAY_SECONDS
    clock = Clock("now", lambda: wall_s, lambda: 60.0, lambda: synchronised)
    outbox = Outbox(tmp_path, clock=clock)
    assert look(outbox, 1e6) == ([] if synchronised else ["alert"])
    outbox.close()


def test_what_waits_too_long_goes_telemetry_first(tmp_path: Path) -> None:
    hands, now_s = Hands(), 1e6
    outbox = Outbox(tmp_path, clock=hands.clock())
    outbox.put(message("gap", alert=False))
    outbox.put(message("alert"))
    hands.pass_(8 * DAY_SECONDS)
    outbox.put(message("young gap", alert=False))
    assert look(outbox, now_s) == ["alert", "young gap"]
    assert (outbox.dropped_telemetry, outbox.dropped_alerts) == (1, 0)
    assert "telemetry after 7 days, alerts after 90" in (outbox.full or "")
    hands.pass_(83 * DAY_SECONDS)
    assert look(outbox, now_s + 601) == []
    assert (outbox.dropped_telemetry, outbox.dropped_alerts) == (2, 1)
    look(outbox, now_s + 1202)
    assert outbox.full is None
    assert [told.startswith("outbox: what has waited too long") for told in outbox.notices()] == [
        True, False,
    ]  # fmt: skip
    outbox.close()


def test_a_wrong_clock_makes_nothing_old(tmp_path: Path) -> None:
    hands = Hands(wall_s=100.0)
    outbox = Outbox(tmp_path, clock=hands.clock())
    outbox.put(message("born in 1970", alert=False))
    hands.wall_s = 1_795_000_000.0  # somebody sets the clock
    assert look(outbox, 1e6) == ["born in 1970"]
    outbox.close()
    later = Outbox(tmp_path, clock=hands.clock("next boot"))
    assert look(later, 1e6) == ["born in 1970"]
    hands.pass_(8 * DAY_SECONDS)  # this boot has lasted longer than it may wait
    assert look(later, 2e6) == []
    later.close()


def test_another_boot_s_rows_age_by_the_wall_clock(tmp_path: Path) -> None:
    hands = Hands()
    outbox = Outbox(tmp_path, clock=hands.clock())
    outbox.put(message("old", alert=False))
    outbox.close()
    hands.wall_s += 8 * DAY_SECONDS
    later = Outbox(tmp_path, clock=hands.clock("next boot"))
    assert look(later, 1e6) == []
    later.close()


def test_a_bound_is_told_when_it_is_reached_and_when_it_is_over(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, Limits(rows=20))
    for n in range(30):
        outbox.put(message(f"m{n}", alert=n % 2 == 0))
    assert outbox.flush()
    assert "20 messages: the oldest telemetry go" in (outbox.full or "")
    assert outbox.dropped_telemetry == 10
    for row in outbox.pending(0, 10):
        outbox.acknowledge(row.id)
    assert outbox.flush()
    assert outbox.full is None
    assert len(outbox.notices()) == 2
    assert outbox.notices() == []
    outbox.close()


def test_hours_that_still_fit(tmp_path: Path) -> None:
    hands = Hands()
    outbox = Outbox(tmp_path, Limits(bytes=1_000_000, rows=100), hands.clock())
    assert outbox.hours_left() is None
    for n in range(10):
        outbox.put(message(f"m{n}", size=600))
        hands.pass_(360.0)
    assert outbox.flush()
    assert outbox.hours_left() == pytest.approx(9.0, rel=0.01)  # rows are the tighter bound
    outbox.limit(Limits(bytes=60_000, rows=100_000))
    assert outbox.hours_left() == pytest.approx(5.0, rel=0.1)
    assert outbox.hours_left(0.0) == pytest.approx(0.0, abs=2.0)  # the disk is the tightest
    assert outbox.hours_left(20_000.0) == pytest.approx(2.0, abs=1.0)
    hands.pass_(3 * DAY_SECONDS)
    assert (outbox.hours_left() or 0.0) > 300
    outbox.close()


def test_the_age_of_the_oldest_is_that_of_one_that_waits(tmp_path: Path) -> None:
    hands = Hands()
    outbox = Outbox(tmp_path, clock=hands.clock())
    first = outbox.put(message("first"))
    assert outbox.flush()
    hands.pass_(1000.0)
    blocker = sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    outbox.put(message("second"))
    hands.pass_(100.0)
    assert outbox.oldest_seconds() == pytest.approx(1100.0)
    outbox.acknowledge(first)  # it is still on the disk, and the other one is not
    assert outbox.oldest_seconds() == pytest.approx(100.0)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert outbox.flush(30)
    outbox.close()


def test_lanes_are_the_assets_of_which_something_waits(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path)
    ids = [outbox.put(Message(f"gw/{a}/event", b"x", alert=True)) for a in ("p", "q", "p")]
    outbox.put(Message("gw/q/explain", b"x"))
    assert outbox.lanes() == {"gw/p": ids[2], "gw/q": ids[2] + 1}
    assert outbox.flush()
    for row_id in (ids[0], ids[2]):
        outbox.acknowledge(row_id, "gw/p/event")
    assert outbox.lanes() == {"gw/q": ids[2] + 1}
    outbox.close()
    outbox = Outbox(tmp_path)
    assert outbox.lanes() == {"gw/q": ids[2] + 1}
    outbox.close()


def test_a_hundred_thousand_events_fit(tmp_path: Path) -> None:
    """72 hours without a broker at 23 events a minute; the bound is far."""
    store = Store(tmp_path / FILE_NAME, Limits())
    event = random.Random(1).randbytes(1000)
    rows = [Row(n, Message("gw/a/event", event, alert=True)) for n in range(1, 10_001)]
    assert store.write(rows, ()) == []
    assert 10 * store.bytes < Limits().bytes
    assert Limits().rows >= 100_000
    store.close()
    assert 10 * (tmp_path / FILE_NAME).stat().st_size < 1.15 * Limits().bytes


@pytest.mark.parametrize("outage_hours", ["", "2,8,14,20"])
def test_a_day_with_an_alarm_a_minute_spares_the_card(tmp_path: Path, outage_hours: str) -> None:
    """50 MB, evidence and all; the kernel counts (see tests/write_budget.py)."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.write_budget", tmp_path, outage_hours],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )  # fmt: skip
    told = json.loads(done.stdout)
    if told["written_bytes"] == 0:
        pytest.skip("this file system does not account what is written to it")
    assert told["written_bytes"] <= 50_000_000
    assert told["recordings"] > 20
    assert told["recorded_bytes"] <= 16_000_000
    assert told["unrecorded"] + told["recordings"] >= 1435
    assert told["dropped"] == 0


class Bounded(RuleBasedStateMachine):
    """Against a list: nothing is lost, reordered or invented, whatever the order of calls."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._outbox = Outbox(Path(self._folder.name))
        self._model: dict[int, str] = {}
        self._count = 0

    @rule(alert=st.booleans(), sent=st.booleans())
    def put(self, alert: bool, sent: bool) -> None:
        self._count += 1
        row_id = self._outbox.put(message(f"m{self._count}", alert), sent)
        assert row_id not in self._model
        self._model[row_id] = f"m{self._count}"

    @precondition(lambda self: self._model)
    @rule(data=st.data())
    def acknowledge(self, data: st.DataObject) -> None:
        row_id = data.draw(st.sampled_from(sorted(self._model)))
        self._outbox.acknowledge(row_id)
        del self._model[row_id]

    @rule()
    def tick(self) -> None:
        self._outbox.tick(time.monotonic())

    @rule()
    def flush(self) -> None:
        assert self._outbox.flush()

    @rule()
    def reopen(self) -> None:
        self._outbox.close()
        self._outbox = Outbox(Path(self._folder.name))

    @invariant()
    def same(self) -> None:
        rows = self._outbox.pending(0, 10_000)
        assert {row.id: row.message.key for row in rows} == self._model
        assert [row.id for row in rows] == sorted(self._model)

    def teardown(self) -> None:
        self._outbox.close()
        self._folder.cleanup()


TestBounded = Bounded.TestCase
