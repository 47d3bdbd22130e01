"""The watchdog: fed by what has moved, and by nothing else. Real threads, a real systemd socket."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

import pytest

from edge_agent.boards.evidence import Evidence
from edge_agent.boards.evidence.case import PARTIAL, RECORDING
from edge_agent.journal import Journal
from edge_agent.notify import Notify
from edge_agent.progress import Progress, known_as
from edge_agent.watchdog import LOST_SECONDS, NUDGE_SECONDS, STUCK_SECONDS, Watchdog
from firmware_bridge.signals import ACCEL, board_document
from tests.test_service import wait_for


class Systemd:
    """The other end of the notification socket."""

    def __init__(self, folder: Path) -> None:
        path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "20000000"}

    def heard(self) -> list[str]:
        found = []
        while True:
            try:
                found.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return found

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path)
    yield made
    made.close()


def test_an_answer_is_owed_from_the_first_unanswered_question() -> None:
    now = [10.0]
    progress = Progress(lambda: now[0])
    assert progress.owed_seconds(99.0) == 0.0
    progress.asked()
    now[0] = 12.0
    progress.asked()
    assert progress.owed_seconds(13.0) == 3.0
    progress.took()
    progress.asked()  # while it works on the first two
    now[0] = 14.0
    progress.answered()
    assert progress.owed_seconds(15.0) == 1.0
    progress.took()
    progress.answered()
    assert progress.owed_seconds(99.0) == 0.0


def test_a_systemd_that_reads_nothing_stops_nobody(systemd: Systemd) -> None:
    notify, done = Notify(systemd.environment), threading.Event()

    def speak() -> None:
        for number in range(5000):  # more than any queue of datagrams holds
            notify.status(f"line {number}")
        notify.alive(0.0)
        done.set()

    threading.Thread(target=speak, daemon=True).start()
    assert done.wait(20)
    assert len(systemd.heard()) < 5000
    notify.alive(0.1)  # the ping that was not taken is not put off
    assert systemd.heard() == ["WATCHDOG=1"]
    notify.close()


def test_a_thread_has_a_name_for_the_kernel_too() -> None:
    seen: list[str] = []

    def work() -> None:
        known_as("a name that is too long")
        task = f"/proc/self/task/{threading.get_native_id()}/comm"
        seen.append(Path(task).read_text().strip())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == ["a name that is"]


@contextmanager
def hung_disk(folder: Path) -> Iterator[Evidence]:
    """Evidence whose file is a pipe that nobody reads: opening it takes for ever, as a dead disk
    does; until the end of the block."""
    folder.mkdir()
    evidence = Evidence(folder, 1 << 20, ["b"])
    pipe = folder / f"x-pump-1{RECORDING}{PARTIAL}"
    evidence.tails["b"].begin(board_document("one", (ACCEL,)))
    evidence.nudge()
    wait_for(lambda: evidence.progress.owed_seconds(1e12) == 0.0)
    os.mkfifo(pipe)
    try:
        yield evidence
    finally:
        reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        evidence.close()
        os.close(reader)


def test_pings_end_when_a_thread_hangs_and_it_is_named(tmp_path: Path, systemd: Systemd) -> None:
    log = StringIO()
    with hung_disk(tmp_path / "evidence") as evidence:
        notify = Notify(systemd.environment)
        dog = Watchdog(notify, Journal(log), {"evidence": evidence})
        dog.tick(0.0)
        assert systemd.heard() == ["WATCHDOG=1"]
        wait_for(lambda: evidence.progress.owed_seconds(1e12) == 0.0)
        dog.tick(11.0)
        assert systemd.heard() == ["WATCHDOG=1"]
        evidence.keep("x-pump-1", "pump", "b", 0.0, {"ts": "2026-01-01T00:00:00.000Z"})
        evidence.nudge()
        hung_s = evidence.progress._since_s
        dog.tick(hung_s + STUCK_SECONDS + NUDGE_SECONDS)
        dog.tick(hung_s + LOST_SECONDS - 1.0)
        assert systemd.heard() == []
        assert "the thread evidence has not moved for 5 s: the watchdog will" in log.getvalue()
        dog.tick(hung_s + LOST_SECONDS + 1.0)
        dog.tick(hung_s + LOST_SECONDS + 2.0)
        assert systemd.heard() == ["WATCHDOG=trigger"]
        notify.close()


def test_a_disk_that_says_no_is_no_stuck_thread(tmp_path: Path, systemd: Systemd) -> None:
    (tmp_path / "evidence").write_text("a file where a folder should be")
    evidence = Evidence(tmp_path / "evidence", 1 << 20, ["b"])
    notify = Notify(systemd.environment)
    dog = Watchdog(notify, Journal(StringIO()), {"evidence": evidence})
    for second in (0.0, 20.0, 40.0):
        dog.tick(second)
        wait_for(lambda: evidence.progress.owed_seconds(1e12) == 0.0)
    assert evidence.problem
    assert systemd.heard() == ["WATCHDOG=1"] * 3
    evidence.close()
    notify.close()
