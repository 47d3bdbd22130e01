"""Devices: the serial ports of this machine, their lasting names, and who holds one.

In: a path. Out: names, processes, one line that says what to do.
Never: opens a device, waits for one, looks at more than `MAX_LINKS` open files of others.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DEV = Path("/dev")
PROC = Path("/proc")
UDEV = Path("/run/udev/data")
# The kernel numbers these in the order of plugging in: after a reboot they may be another's.
NUMBERED = ("ttyUSB", "ttyACM")
ON_BOARD = ("ttyAMA", "serial")
MAX_LINKS = 20_000
MAX_SEARCH_SECONDS = 0.05
MAX_COMMAND_CHARACTERS = 80
NAMES_SHOWN = 4


class Holder(NamedTuple):
    """A process that has a device open."""

    pid: int
    command: str


def holders(path: str, proc: Path = PROC) -> list[Holder]:
    """Who has locked the device, or else who has it open, as far as this user may see it (a
    service in a sandbox sees only itself)."""
    pids = _lockers(path, proc) or _openers(path, proc)
    return [Holder(pid, _command(proc / str(pid))) for pid in pids]


def serial_devices(dev: Path = DEV) -> list[str]:
    """Every serial port, each by the name that lasts longest: by-id, by-path, the kernel's."""
    named: dict[str, str] = {}
    for folder in ("by-id", "by-path"):
        for link in _entries(dev / "serial" / folder):
            named.setdefault(os.path.realpath(link), str(link))
    for node in _entries(dev):
        if node.name.startswith((*NUMBERED, *ON_BOARD)) and node.is_char_device():
            named.setdefault(os.path.realpath(node), str(node))
    return sorted(named.values())


def lasting_name(path: str, dev: Path = DEV) -> str | None:
    """A name for a numbered device that will still be its own after the next plugging in."""
    if not Path(path).name.startswith(NUMBERED):
        return None
    node, names = os.path.realpath(path), serial_devices(dev)
    return next((n for n in names if n != path and os.path.realpath(n) == node), None)


def is_probed_by_modem_manager(path: str, proc: Path = PROC, udev: Path = UDEV) -> bool:
    """Whether ModemManager runs and may send its questions to this USB device."""
    if not Path(os.path.realpath(path)).name.startswith(NUMBERED):
        return False
    names = (_text(process / "comm") for process in _entries(proc) if process.name.isdigit())
    # The kernel cuts names at 15 characters; ModemManager has 12.
    if "ModemManager" not in (name.strip() for name in names):
        return False
    try:
        device = os.stat(path).st_rdev
    except OSError:
        return False
    told = _text(udev / f"c{os.major(device)}:{os.minor(device)}")
    return "E:ID_MM_DEVICE_IGNORE=1" not in told.splitlines()


def group_of(path: str) -> str | None:
    """The group that may open the device, None if nobody but its owner may."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not status.st_mode & 0o060:
        return None
    try:
        return grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        return str(status.st_gid)


def user_name() -> str:
    """Whose permissions we have."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def held_by(path: str) -> str:
    """Who holds the device, or how to find out."""
    found = holders(path)
    if not found:
        return f"held by a program that {user_name()} may not see: `sudo fuser -v {path}` names it"
    if any(holder.pid == os.getpid() for holder in found):
        return "held by this very program: is the same device configured twice?"
    told = ", ".join(f"process {holder.pid} ({holder.command})" for holder in found)
    return f"held by {told}: stop that first"


def why_not(path: str, error: OSError) -> str:
    """Why a device can't be opened: one line that says what to do."""
    number = error.errno
    if isinstance(error, FileNotFoundError) or number in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return f"{path} does not exist: plug the board in, or correct the path; {_there_is()}"
    if number == errno.EPERM:
        do = "add its DeviceAllow= to the unit (systemctl edit edge-agent) and restart the agent"
        return f"{path}: systemd does not allow the service this kind of port: {do}"
    if isinstance(error, PermissionError) or number == errno.EACCES:
        group, user = group_of(path), user_name()
        cure = (
            f"sudo usermod -aG {group} {user}, and log in anew" if group else f"sudo ls -l {path}"
        )
        return f"{path}: permission denied for {user}: {cure}"
    if number in (errno.EAGAIN, errno.EBUSY):
        return f"{path} is {held_by(path)}"
    told = os.strerror(number) if number else str(error)
    return f"{path} can't be used ({told}): name a serial port; {_there_is()}"


def _there_is() -> str:
    names = serial_devices()
    more = f" and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else ""
    return f"there is {', '.join(names[:NAMES_SHOWN])}{more}" if names else "no serial port is here"


def _lockers(path: str, proc: Path) -> list[int]:
    """Processes whose flock the kernel lists for this device: `1: FLOCK ADVISORY WRITE pid
    major:minor:inode 0 EOF`."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    lines = _text(proc / "locks").splitlines()
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    fields = [line.split() for line in lines]
    return [int(f[4]) for f in fields if f[1:2] == ["FLOCK"] and f[5] == file and f[4].isdigit()]


def _openers(path: str, proc: Path) -> list[int]:
    """At most `MAX_LINKS` open files are looked at, for `MAX_SEARCH_SECONDS`."""
    target, left = os.path.realpath(path), MAX_LINKS
    end_s, found = time.monotonic() + MAX_SEARCH_SECONDS, list[int]()
    for process in _entries(proc):
        if not process.name.isdigit():
            continue
        links = list(_entries(process / "fd"))
        left -= len(links)
        if left < 0 or time.monotonic() > end_s:
            break
        if any(_link(link) == target and _is_here(link, target) for link in links):
            found.append(int(process.name))
    return found


def _is_here(link: Path, target: str) -> bool:
    """Terminals of a container have the names of ours, and are others."""
    if not target.startswith("/dev/pts/"):
        return True
    try:
        return os.stat(link).st_dev == os.stat(target).st_dev
    except OSError:
        return False


def _entries(folder: Path) -> Iterator[Path]:
    """What is in a folder, nothing if it may not be read or has just gone."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    yield from (folder / name for name in names)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _command(process: Path) -> str:
    words = _text(process / "cmdline").replace("\0", " ").strip()
    return words[:MAX_COMMAND_CHARACTERS] or _text(process / "comm").strip() or "?"
