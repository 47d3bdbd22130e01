"""Powercut: what a disk holds when the power goes and it had promised nothing it was not asked for.

In: the disk as it was, and QEMU's log of the writes since (blklogwrites, the format of Linux's
dm-log-writes). Out: the disk with all that was flushed, and nothing of what came after.
Never: is kinder than a real disk: killing QEMU alone keeps every write, flushed or not.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

MAGIC = 0x6A736677736872
SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
FLUSH, FUA, DISCARD = 1, 2, 4


class Write(NamedTuple):
    """One entry: where on the disk, how long, what kind, where its data are in the log."""

    place: int
    length: int
    flags: int
    data: int


class Cut(NamedTuple):
    """How many writes reached the disk, and how many were lost with the power."""

    kept: int
    lost: int


def after_cut(disk: Path, log: Path) -> Cut:
    """Brings `disk`, a copy from before the log began, to its last flush.

    Raises `ValueError` if this is no log of QEMU's.
    """
    writes = list(_writes(log))
    flushed = max((i + 1 for i, each in enumerate(writes) if each.flags & (FLUSH | FUA)), default=0)
    with disk.open("r+b") as to, log.open("rb") as source:
        for each in writes[:flushed]:
            to.seek(each.place)
            if each.flags & DISCARD:
                to.write(bytes(each.length))
            elif each.length:
                source.seek(each.data)
                to.write(source.read(each.length))
    return Cut(flushed, len(writes) - flushed)


def _writes(log: Path) -> Iterator[Write]:
    """In the order of time. The count in the log's head is old: the end is an entry of zeros."""
    size = log.stat().st_size
    with log.open("rb") as file:
        magic, version, _, sector = SUPER.unpack(file.read(SUPER.size))
        if (magic, version) != (MAGIC, 1):
            raise ValueError(f"{log} is no log of blklogwrites")
        place = sector
        while place + sector <= size:
            file.seek(place)
            at, sectors, flags, _ = ENTRY.unpack(file.read(ENTRY.size))
            if not (sectors or flags):
                return
            data = 0 if flags & DISCARD else sectors * sector
            if place + sector + data > size:
                return
            yield Write(at * sector, sectors * sector, flags, place + sector)
            place += sector + data


def copied(disk: Path, to: Path) -> Path:
    """A sparse copy."""
    with disk.open("rb") as source, to.open("wb") as target:
        end = source.seek(0, os.SEEK_END)
        place = 0
        while place < end:
            try:
                place = os.lseek(source.fileno(), place, os.SEEK_DATA)
            except OSError:  # ENXIO: only a hole is left
                break
            hole = os.lseek(source.fileno(), place, os.SEEK_HOLE)
            source.seek(place)
            target.seek(place)
            target.write(source.read(hole - place))
            place = hole
        target.truncate(end)
    return to
