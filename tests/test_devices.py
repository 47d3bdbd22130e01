"""Who holds a port, which names last, and one line that helps: on real ptys and processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from firmware_bridge import devices
from firmware_bridge.devices import holders, lasting_name, serial_devices, why_not
from firmware_bridge.port import Device, PortError
from firmware_bridge.simulator import PseudoTerminal

LOCKING = "import serial; s = serial.Serial({path!r}, exclusive=True)"
EXCLUSIVE = "import fcntl, os, termios; f = os.open({path!r}, 2); fcntl.ioctl(f, termios.TIOCEXCL)"


@pytest.fixture
def board() -> Iterator[PseudoTerminal]:
    made = PseudoTerminal(None)
    yield made
    made.close()


@contextmanager
def holding(script: str, path: str) -> Iterator[int]:
    """A process that opens the port in its own way; its pid."""
    code = script.format(path=path) + "; print('open', flush=True); input()"
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout
    assert child.stdout.readline() == "open\n"
    try:
        yield child.pid
    finally:
        child.communicate("\n")


def refusal(path: str) -> str:
    with pytest.raises(PortError) as caught:
        Device(path, 921_600)
    return str(caught.value)


def test_the_holder_of_a_locked_port_is_named(board: PseudoTerminal) -> None:
    with holding(LOCKING, board.path) as pid:
        ((found, command),) = holders(board.path)
        assert found == pid
        assert "import serial" in command
        assert f"{board.path} is held by process {pid} (" in refusal(board.path)


def test_a_symlink_is_held_as_its_device_is(board: PseudoTerminal, tmp_path: Path) -> None:
    (tmp_path / "by-id").symlink_to(board.path)
    with holding(LOCKING, board.path) as pid:
        assert f"process {pid}" in refusal(str(tmp_path / "by-id"))


def test_the_holder_of_a_port_without_a_lock_is_found_among_the_open_files(
    board: PseudoTerminal,
) -> None:
    with holding(EXCLUSIVE, board.path) as pid:
        # The simulator's own end is open, too: it is the board.
        assert {holder.pid for holder in holders(board.path)} == {pid, os.getpid()}


def test_a_port_that_this_program_holds_twice_is_said_to_be(board: PseudoTerminal) -> None:
    device = Device(board.path, 921_600)
    assert "this very program: is the same device configured twice?" in refusal(board.path)
    device.close()
    Device(board.path, 921_600).close()


def test_a_holder_that_may_not_be_seen_is_said_to_be_so(tmp_path: Path) -> None:
    """/proc of a sandbox has nobody else in it."""
    assert holders("/dev/null", tmp_path) == []
    (tmp_path / "locks").write_text("nonsense\n1: FLOCK ADVISORY WRITE -1 00:01:2 0 EOF\n\n")
    (tmp_path / "4711" / "fd").mkdir(parents=True)
    assert holders("/dev/null", tmp_path) == []
    (tmp_path / "4711" / "fd" / "3").symlink_to("/dev/null")
    assert holders("/dev/null", tmp_path) == [(4711, "?")]


def test_the_search_for_a_holder_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for pid in range(100, 200):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        for fd in range(10):
            (tmp_path / str(pid) / "fd" / str(fd)).symlink_to("/dev/null")
    monkeypatch.setattr(devices, "MAX_SEARCH_SECONDS", 100.0)
    assert len(holders("/dev/null", tmp_path)) == 100
    monkeypatch.setattr(devices, "MAX_LINKS", 55)
    assert len(holders("/dev/null", tmp_path)) == 5


def test_what_is_not_there_is_said_with_what_is(tmp_path: Path) -> None:
    assert "none does not exist: plug the board in, or correct the path; " in refusal(
        str(tmp_path / "none")
    )


def test_a_file_is_no_serial_port(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert "file can't be used (" in refusal(str(tmp_path / "file"))


def test_no_permission_names_the_group_and_the_command(board: PseudoTerminal) -> None:
    denied = PermissionError(13, "Permission denied")
    os.chmod(board.path, 0o660)
    group, user = devices.group_of(board.path), devices.user_name()
    assert f"sudo usermod -aG {group} {user}" in why_not(board.path, denied)
    os.chmod(board.path, 0o600)
    assert f"sudo ls -l {board.path}" in why_not(board.path, denied)


def test_what_systemd_denies_is_not_a_matter_of_groups() -> None:
    denied = PermissionError(1, "Operation not permitted")
    assert "add its DeviceAllow= to the unit" in why_not("/dev/ttyS0", denied)


def test_a_device_has_one_name_and_it_is_the_one_that_lasts(
    board: PseudoTerminal, tmp_path: Path
) -> None:
    """A tree as udev makes it, with ptys for devices."""
    other = PseudoTerminal(None)
    for folder in ("by-id", "by-path"):
        (tmp_path / "serial" / folder).mkdir(parents=True)
    (tmp_path / "ttyUSB0").symlink_to(board.path)
    (tmp_path / "ttyUSB1").symlink_to(other.path)
    (tmp_path / "ttyUSB2").write_bytes(b"no device")
    (tmp_path / "tty7").symlink_to(other.path)
    by_id = tmp_path / "serial" / "by-id" / "usb-Otolith_0042-if00"
    by_id.symlink_to(board.path)
    (tmp_path / "serial" / "by-path" / "pci-1").symlink_to(board.path)
    by_path = tmp_path / "serial" / "by-path" / "pci-2"
    by_path.symlink_to(other.path)
    assert serial_devices(tmp_path) == [str(by_id), str(by_path)]
    assert lasting_name(str(tmp_path / "ttyUSB0"), tmp_path) == str(by_id)
    assert lasting_name(str(tmp_path / "ttyUSB1"), tmp_path) == str(by_path)
    assert lasting_name(str(by_id), tmp_path) is None
    by_path.unlink()
    assert serial_devices(tmp_path) == [str(by_id), str(tmp_path / "ttyUSB1")]
    assert lasting_name(str(tmp_path / "ttyUSB1"), tmp_path) is None
    other.close()


@pytest.mark.parametrize("baud", [-5, 12_000_000_001])
def test_a_rate_that_no_device_knows_is_refused_in_words(board: PseudoTerminal, baud: int) -> None:
    with pytest.raises(PortError, match=f"can't do {baud} baud"):
        Device(board.path, baud)
