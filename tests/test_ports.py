"""Real pseudo-terminals: bytes, hang-ups, boards that come back, ports that others hold."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.boards.ports import Closed, Opened, PortEvent, Ports
from edge_agent.config import BoardSettings
from firmware_bridge.simulator import PseudoTerminal

Events = list[tuple[str, PortEvent]]


def settings(path: Path | str) -> BoardSettings:
    return BoardSettings(port=Path(path))


@pytest.fixture
def terminals() -> Iterator[Callable[[Path | None], PseudoTerminal]]:
    made: list[PseudoTerminal] = []

    def make(link: Path | None = None) -> PseudoTerminal:
        made.append(PseudoTerminal(link))
        return made[-1]

    yield make
    for terminal in made:
        try:
            os.fstat(terminal.fd)
        except OSError:
            continue  # a test has hung up already
        terminal.close()


def until(ports: Ports, wanted: Callable[[Events], bool], seconds: float = 10.0) -> Events:
    """Ticks and polls until what was collected is what is wanted."""
    seen: Events = []
    deadline = time.monotonic() + seconds
    while not wanted(seen):
        assert time.monotonic() < deadline, seen
        ports.tick(time.monotonic())
        seen += ports.poll(0.05)
    return seen


def kinds(events: Events) -> list[type]:
    return [type(event) for _, event in events]


def received(events: Events, name: str) -> bytes:
    return b"".join(e for n, e in events if n == name and isinstance(e, bytes))


def test_bytes_go_both_ways_through_a_link(
    tmp_path: Path, terminals: Callable[..., PseudoTerminal]
) -> None:
    board = terminals(tmp_path / "board.tty")
    ports = Ports({"b": settings(tmp_path / "board.tty")})
    assert kinds(until(ports, bool)) == [Opened]
    every_byte = bytes(range(256)) * 8
    board.write(every_byte)
    assert received(until(ports, lambda seen: len(received(seen, "b")) >= 2048), "b") == every_byte
    ports.write("b", every_byte)
    read = b""
    while len(read) < len(every_byte):
        ports.poll(0.01)
        read += board.read()
    assert read == every_byte
    ports.shut()


def test_each_port_has_its_own_bytes(terminals: Callable[..., PseudoTerminal]) -> None:
    boards = {name: terminals() for name in "abcd"}
    ports = Ports({name: settings(board.path) for name, board in boards.items()})
    until(ports, lambda seen: kinds(seen).count(Opened) == 4)
    for name, board in boards.items():
        board.write(name.encode() * 100)
    seen = until(ports, lambda seen: all(len(received(seen, name)) == 100 for name in "abcd"))
    assert {name: received(seen, name) for name in "abcd"} == {n: n.encode() * 100 for n in "abcd"}
    ports.shut()


def test_a_hang_up_is_told_once_and_the_port_opens_again(
    tmp_path: Path, terminals: Callable[..., PseudoTerminal]
) -> None:
    link = tmp_path / "board.tty"
    board = terminals(link)
    ports = Ports({"b": settings(link)})
    until(ports, bool)
    board.close()
    seen = until(ports, lambda seen: Closed in kinds(seen))
    assert kinds(seen) == [Closed]
    again = terminals(link)
    seen = until(ports, lambda seen: Opened in kinds(seen))
    again.write(b"back")
    assert received(until(ports, lambda seen: bool(received(seen, "b"))), "b") == b"back"
    ports.shut()


def test_one_hang_up_leaves_the_others_alone(terminals: Callable[..., PseudoTerminal]) -> None:
    gone, stays = terminals(), terminals()
    ports = Ports({"gone": settings(gone.path), "stays": settings(stays.path)})
    until(ports, lambda seen: kinds(seen).count(Opened) == 2)
    gone.close()
    stays.write(b"still here")
    seen = until(ports, lambda seen: Closed in kinds(seen) and bool(received(seen, "stays")))
    assert [name for name, event in seen if isinstance(event, Closed)] == ["gone"]
    ports.shut()


def test_waits_grow_while_a_port_is_missing_and_start_anew_when_it_appears(
    tmp_path: Path, terminals: Callable[..., PseudoTerminal]
) -> None:
    link = tmp_path / "board.tty"
    ports = Ports({"b": settings(link)})
    tries, now_s = [], 0.0
    while now_s < 60.0:
        ports.tick(now_s)
        tries += [now_s for _ in ports.poll(0.0)]
        now_s += 0.05
    waits = [b - a for a, b in zip(tries, tries[1:], strict=False)]
    assert waits[0] < 0.4
    assert 7.0 < waits[-1] < 13.0
    assert all(later > 1.2 * earlier for earlier, later in zip(waits[:4], waits[1:5], strict=True))
    terminals(link)
    ports.tick(now_s)
    assert kinds(ports.poll(0.0)) == [Opened]
    ports.shut()


def test_the_same_trouble_is_marked_as_the_same(tmp_path: Path) -> None:
    ports = Ports({"b": settings(tmp_path / "none.tty")})
    ports.tick(0.0)
    ((_, first),) = ports.poll(0.0)
    ports.tick(100.0)
    ((_, second),) = ports.poll(0.0)
    assert isinstance(first, Closed)
    assert isinstance(second, Closed)
    assert "plug the board in" in first.reason
    assert (first.waiting, second.waiting) == (False, True)
    ports.shut()


def test_the_same_device_under_two_names_is_opened_once(
    tmp_path: Path,
    terminals: Callable[..., PseudoTerminal],
) -> None:
    board = terminals(tmp_path / "by-id")
    ports = Ports({"a": settings(board.path), "b": settings(tmp_path / "by-id")})
    ports.tick(0.0)
    (_, opened), (_, refused) = ports.poll(0.0)
    assert isinstance(opened, Opened)
    assert isinstance(refused, Closed)
    assert "held by this very program" in refused.reason
    ports.shut()


def test_a_name_that_points_elsewhere_is_followed_at_the_next_tick(
    tmp_path: Path, terminals: Callable[..., PseudoTerminal]
) -> None:
    """As udev does with by-id, when a board is plugged into another socket."""
    link, now_s = tmp_path / "by-id", 0.0
    boards = [terminals(), terminals()]
    link.symlink_to(boards[0].path)
    ports = Ports({"b": settings(link)})
    ports.tick(now_s)
    assert kinds(ports.poll(0.0)) == [Opened]
    for _ in range(6):
        ports.close("b", now_s)  # waits grow
        now_s += 100.0
        ports.tick(now_s)
        assert kinds(ports.poll(0.0)) == [Opened]
    boards[0].close()
    assert kinds(until(ports, bool)) == [Closed]
    link.unlink()
    for _ in range(3):
        now_s += 0.1
        ports.tick(now_s)
    ports.poll(0.0)
    link.symlink_to(boards[1].path)
    now_s += 0.1
    ports.tick(now_s)
    assert kinds(ports.poll(0.0)) == [Opened]
    boards[1].write(b"here")
    assert received(until(ports, bool), "b") == b"here"
    ports.shut()


def test_a_board_that_was_asked_for_long_is_asked_again_soon(
    terminals: Callable[..., PseudoTerminal],
) -> None:
    ports, now_s = Ports({"b": settings(terminals().path)}), 0.0
    for _ in range(8):
        ports.tick(now_s)
        assert kinds(ports.poll(0.0)) == [Opened]
        ports.close("b", now_s, again_soon=True)
        now_s += 0.31
    ports.shut()


def test_a_board_that_takes_no_bytes_is_given_up(terminals: Callable[..., PseudoTerminal]) -> None:
    board = terminals()
    ports = Ports({"b": settings(board.path)})
    until(ports, bool)
    for _ in range(60):
        ports.write("b", b"?" * 1024)
    seen = until(ports, lambda seen: Closed in kinds(seen))
    assert any("takes no bytes" in e.reason for _, e in seen if isinstance(e, Closed))
    ports.shut()


def test_a_file_is_no_port(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"not a terminal")
    ports = Ports({"b": settings(tmp_path / "file")})
    ports.tick(0.0)
    ((_, event),) = ports.poll(0.0)
    assert isinstance(event, Closed)
    ports.shut()


def test_closing_by_hand_reopens_after_the_wait(terminals: Callable[..., PseudoTerminal]) -> None:
    board = terminals()
    ports = Ports({"b": settings(board.path)})
    ports.tick(0.0)
    assert kinds(ports.poll(0.0)) == [Opened]
    ports.close("b", 0.0)
    ports.tick(0.1)
    assert ports.poll(0.0) == []
    ports.tick(0.4)
    assert kinds(ports.poll(0.0)) == [Opened]
    ports.shut()


def test_any_descriptor_can_be_watched_beside_the_ports(
    terminals: Callable[..., PseudoTerminal],
) -> None:
    ports = Ports({"b": settings(terminals().path)})
    read, write = os.pipe()
    masks: list[int] = []
    ports.watch(read, False, masks.append)
    os.write(write, b"x")
    until(ports, lambda _: bool(masks))
    ports.unwatch(read)
    ports.unwatch(read)
    for fd in (read, write):
        os.close(fd)
    ports.shut()
