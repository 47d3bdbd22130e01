"""Machine: what the kernel says of this process and what it runs on.

In: files of /proc and /sys. Out: numbers, or None where there is no such thing. Never: fails for
what is not there (a machine without a thermometer has no temperature), writes.
"""

from __future__ import annotations

import ctypes
import os
import platform
from pathlib import Path

from edge_agent.versions import version_of

MACHINE_ID = Path("/etc/machine-id")
TEMPERATURE = Path("/sys/class/thermal/thermal_zone0/temp")
THROTTLED = Path("/sys/devices/platform/soc/soc:firmware/get_throttled")
PROCESS = Path("/proc/self")
# Bits of a Raspberry Pi's firmware: now, and since the machine was started.
UNDERVOLTAGE, CAPPED_OR_THROTTLED, SEEN_SHIFT = 0x1, 0x2 | 0x4, 16
# Written in the first minutes is what a start writes, and no day is like that.
SETTLED_SECONDS = 600.0
DAY_SECONDS = 86_400.0


def software_version() -> str:
    """The version of this package, `unknown` when it runs from a plain folder."""
    return version_of("otolith") or "unknown"


def machine_id8() -> str:
    """Eight digits that tell two machines with one configuration apart."""
    return _text(MACHINE_ID)[:8] or platform.node()[:8]


def rss_bytes() -> int | None:
    """Memory that is ours and in use."""
    pages = _text(PROCESS / "statm").split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else None


def give_back() -> None:
    """Pages that are free but still ours go back to the kernel: what a burst has touched would
    otherwise count for months. A C library without the call keeps them."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def open_descriptors() -> int | None:
    """Files, sockets and ports that are open."""
    count = _entries(PROCESS / "fd")
    return None if count is None else count - 1  # the listing itself is one


def threads() -> int | None:
    """Ours, and those of the libraries."""
    return _entries(PROCESS / "task")


def written_bytes(process: Path = PROCESS) -> int | None:
    """What this process has made the disk write."""
    for line in _text(process / "io").splitlines():
        name, _, value = line.partition(": ")
        if name == "write_bytes" and value.isdigit():
            return int(value)
    return None


def written_bytes_per_day(written: int | None, uptime_s: float) -> int | None:
    """At this pace; None until it is one."""
    if written is None or uptime_s < SETTLED_SECONDS:
        return None
    return round(written * DAY_SECONDS / uptime_s)


def free_bytes(folder: Path) -> int | None:
    """Room for us where that folder is."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def temperature_c(file: Path = TEMPERATURE) -> float | None:
    """Of the processor."""
    text = _text(file)
    return int(text) / 1000 if text.lstrip("-").isdigit() else None


def power(file: Path = THROTTLED) -> dict[str, int]:
    """A Raspberry Pi's word on its supply: 1 for too little voltage, or a processor that is slowed
    down, now or (`seen`) since it was started. Empty elsewhere."""
    try:
        bits = int(_text(file), 16)
    except ValueError:
        return {}
    flags = {"undervoltage": UNDERVOLTAGE, "throttled": CAPPED_OR_THROTTLED}
    now = {name: int(bool(bits & mask)) for name, mask in flags.items()}
    seen = {f"{name}_seen": int(bool(bits >> SEEN_SHIFT & mask)) for name, mask in flags.items()}
    return now | seen


def _entries(folder: Path) -> int | None:
    try:
        return len(os.listdir(folder))
    except OSError:
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
