"""The door between the service and other programs of its gateway: real sockets, real boards."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

import pytest

from edge_agent.boards.evidence import Tail
from edge_agent.boards.ports import Ports
from edge_agent.config import load_config
from edge_agent.door import NoService, ask, follow
from edge_agent.door.keeper import (
    MAX_REQUEST_BYTES,
    MAX_UNSENT_BYTES,
    MAX_VISITORS,
    Keeper,
    Reply,
)
from edge_agent.door.visit import SOCKET_NAME, address
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Samples
from firmware_bridge.signals import ACCEL, board_document
from tests import programs
from tests.conftest import Mosquitto
from tests.test_service import PUMP, configure, service, wait_for


class House:
    """A keeper with its loop on a thread, and a board's tail."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.tail = folder, Tail()
        self.later: Future[dict[str, object]] | None = None
        self._ports, self._stop = Ports({}), threading.Event()
        self._work: SimpleQueue[tuple[Callable[[], None], threading.Event]] = SimpleQueue()
        self.keeper = Keeper(folder, self._ports, {"b": self.tail}, self._answer)
        self._loop = threading.Thread(target=self._run)
        self._loop.start()

    def do(self, work: Callable[[], None]) -> None:
        """On the loop's thread, which alone may feed the tail."""
        done = threading.Event()
        self._work.put((work, done))
        assert done.wait(10)

    def _run(self) -> None:
        while not self._stop.is_set():
            while not self._work.empty():
                work, done = self._work.get()
                work()
                done.set()
            self._ports.poll(0.01)
            self.keeper.tick(time.monotonic())

    def _answer(self, request: dict[str, object]) -> Reply:
        if request.get("do") == "status":
            return {"echo": request}
        if request.get("do") == "take_up":
            self.later = Future()
            return self.later
        raise ValueError(f"saw {request.get('do')!r}")

    def close(self) -> None:
        self._stop.set()
        self._loop.join()
        self.keeper.close()
        self._ports.shut()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


def knock(folder: Path) -> socket.socket:
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    door.settimeout(10)
    try:
        with address(folder) as name:
            door.connect(name)
    except BlockingIOError:
        door.close()
        raise
    return door


def heard(door: socket.socket) -> bytes:
    answer = b""
    while chunk := door.recv(65536):
        answer += chunk
    return answer


def test_a_question_has_an_answer_and_a_no_its_sentence(house: House) -> None:
    assert ask(house.folder, {"do": "status", "n": 1}) == {"echo": {"do": "status", "n": 1}}
    with pytest.raises(ValueError, match="saw 'dance'"):
        ask(house.folder, {"do": "dance"})
    with pytest.raises(ValueError, match="saw board 'c'; there are b"):
        follow(house.folder, "c")


def test_who_asks_for_what_takes_longer_waits_for_it(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.door.keeper.MAX_WAIT_SECONDS", 0.05)
    for error in (None, ValueError("it is too old")):
        house.later = None
        with knock(house.folder) as door:
            door.sendall(b'{"do": "take_up"}\n')
            wait_for(lambda: house.later)
            door.sendall(b"more that nobody asked for\n")
            time.sleep(0.2)  # longer than a visitor may be silent
            assert house.later
            if error:
                house.later.set_exception(error)
            else:
                house.later.set_result({"told": "done"})
            answer = json.loads(heard(door))
        expected = (
            {"ok": False, "error": "it is too old"} if error else {"ok": True, "told": "done"}
        )
        assert answer == expected
    # One who does not wait is no hindrance to the next.
    house.later = None
    with knock(house.folder) as door:
        door.sendall(b'{"do": "take_up"}\n')
        wait_for(lambda: house.later)
    assert house.later
    house.later.set_result({})
    assert ask(house.folder, {"do": "status"})


def test_only_the_owner_may_come_in(house: House) -> None:
    mode = (house.folder / SOCKET_NAME).stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


def test_who_follows_gets_a_recording_from_the_next_whole_frame(house: House) -> None:
    document = board_document("one", (ACCEL,))
    house.tail.begin(document)
    door = follow(house.folder, "b")
    house.do(lambda: house.tail.take(b"the end of a frame\x00whole\x00next", 0.0))
    house.do(lambda: house.tail.begin(document))  # the board has begun anew
    house.do(lambda: house.tail.take(b"half\x00again\x00", 0.1))
    expected = b"\0" + house.tail.head + b"whole\x00next\0" + house.tail.head + b"again\x00"
    received = b""
    while len(received) < len(expected):
        received += door.recv(65536)
    assert received == expected
    door.close()
    wait_for(lambda: not house.tail.listeners)


def test_a_second_service_on_the_folder_is_one_too_many(house: House) -> None:
    with pytest.raises(OSError, match="another agent runs on this state folder"):
        Keeper(house.folder, Ports({}), {}, lambda request: request)
    assert ask(house.folder, {"do": "status"})


def test_what_a_killed_service_left_is_no_hindrance(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left, address(tmp_path) as name:
        left.bind(name)
    with pytest.raises(NoService, match="no service runs there"):
        ask(tmp_path, {"do": "status"})
    house = House(tmp_path)
    assert ask(tmp_path, {"do": "status"})
    house.close()
    assert not (tmp_path / SOCKET_NAME).exists()


def test_a_long_path_is_no_hindrance(tmp_path: Path) -> None:
    folder = tmp_path / ("f" * 120)
    folder.mkdir()
    house = House(folder)
    assert ask(folder, {"do": "status"})
    house.close()


def test_hostile_visitors_change_nothing(house: House) -> None:
    rng = random.Random(5)
    for request in (b"\n", b"[]\n", b"null\n", b"{" * 4000 + b"\n", b"\xff\xfe\n", b'{"do": 3}\n'):
        with knock(house.folder) as door:
            door.sendall(request)
            answer = json.loads(heard(door))
            assert answer["ok"] is False
    with knock(house.folder) as door:
        door.sendall(b"x" * (MAX_REQUEST_BYTES + 1))
        assert json.loads(heard(door))["ok"] is False
    for _ in range(100):
        with suppress(BlockingIOError), knock(house.folder) as door:
            door.sendall(rng.randbytes(rng.randrange(200)))
    silent = []
    for _ in range(4 * MAX_VISITORS):
        try:
            silent.append(knock(house.folder))
        except BlockingIOError:
            break
    wait_for(lambda: _comes_in(house.folder), 15.0)  # the silent are seen off
    for door in silent:
        door.close()


def _comes_in(folder: Path) -> bool:
    try:
        return bool(ask(folder, {"do": "status"}, 1.0))
    except OSError:
        return False


def test_who_does_not_read_is_seen_off(house: House) -> None:
    house.tail.begin(board_document("one", (ACCEL,)))
    door = follow(house.folder, "b")
    wait_for(lambda: house.tail.listeners)
    chunk = b"\x00" + os.urandom(MAX_UNSENT_BYTES // 100)
    for _ in range(400):
        house.do(lambda: house.tail.take(chunk, 0.0))
        if not house.tail.listeners:
            break
    wait_for(lambda: not house.tail.listeners)
    door.close()


def test_the_service_hands_a_board_over_and_judges_on(tmp_path: Path, mosquitto: Mosquitto) -> None:
    config = load_config(configure(tmp_path, mosquitto.port, PUMP))
    with programs.board(tmp_path / "b.tty", "--seed", 3), service(config) as running:
        wait_for(lambda: running.assets["pump"].streaming)
        playback, rows = Playback(), 0
        with follow(tmp_path / "state", "b") as door:
            while rows < 4 * ACCEL.rate_hz:
                for event in playback.feed(door.recv(65536)):
                    if isinstance(event, Samples) and event.stream == ACCEL.id:
                        assert rows == 0 or event.contiguous
                        rows += len(event.values)
        assert playback.decoder.counters.damaged == 0
        pipeline = running.assets["pump"].pipeline
        assert pipeline is not None
        assert pipeline.counters.samples > 0
        assert pipeline.counters.gaps == 0
        with pytest.raises(ValueError, match="not started from a file"):
            ask(tmp_path / "state", {"do": "reload"})
