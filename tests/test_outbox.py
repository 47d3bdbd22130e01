"""The outbox on a real disk: order, bounds, damage, and kill -9 at any moment."""

from __future__ import annotations

import os
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

from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import FILE_NAME, Outbox
from edge_agent.broker.store import Limits, Store
from tests.conftest import ROOT


def message(text: str, alert: bool = True, size: int = 0) -> Message:
    return Message("t/event", text.encode().ljust(size, b"."), key=text, alert=alert)


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
    sent = Message("a/b", b'{"x":1}\x00\xff', 1, True, "key", True)
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
    assert keys(outbox) == ["life goes on"]
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
