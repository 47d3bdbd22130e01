"""Damaged store: one file of the outbox, damaged in every way that a seed can think of.

In: how many times, and where. Out: for each damage what was left, or an `AssertionError` with the
seed: the outbox must open, yield nothing that differs from what was put, and go on working.
Never: damages anything outside of the folder that it is given.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import FILE_NAME, Outbox
from edge_agent.broker.store import Note, Row

ROWS = 200
NOTES = {f"asset/a{n}": b"note %d " % n * 20 for n in range(4)}
NEW = range(ROWS + 1, ROWS + 6)
LOG_NAME = FILE_NAME + "-wal"
MEMORY = Path("/dev/shm")


class Left(NamedTuple):
    """What came of one damage: rows that were still there, whether the file was set aside, rows
    that were told apart by their CRC."""

    rows: int
    set_aside: bool
    damaged_rows: int


@cache
def message(number: int) -> Message:
    """The message with a number; the same for the same number, of 300 to 2,700 bytes."""
    padding = bytes((number * 7 + place) % 251 for place in range(300 + number % 25 * 100))
    return Message(
        f"gw/a{number % 4}/event", padding, 1, False, f"key{number}", number % 3 > 0,
        "application/json" if number % 2 else "text/plain", number % 5,
    )  # fmt: skip


def corruption(times: int, first_seed: int = 0, running: bool = False) -> list[Left]:
    """Damages a store `times` times, each time in another way: while nobody has it open, or under
    an outbox that is `running`."""
    # In memory where that is possible: what counts is what is read, not that it is synced.
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as scratch:
        whole, folder = Path(scratch) / "whole", Path(scratch) / "damaged"
        _make(whole)
        return [_once(whole, folder, first_seed + n, running) for n in range(times)]


def _make(folder: Path) -> None:
    """Rows in the file and rows in the log: copied while it is open, as a power cut leaves it."""
    folder.mkdir()
    open_folder = folder.with_name("open")
    outbox = Outbox(open_folder)
    for number in range(1, ROWS + 1):
        outbox.put(message(number))
        if number == ROWS // 2:
            outbox.close()
            outbox = Outbox(open_folder)
    for key, value in NOTES.items():
        outbox.note(Note(key, value))
    assert outbox.flush()
    for name in (FILE_NAME, LOG_NAME):
        shutil.copyfile(open_folder / name, folder / name)
    outbox.close()


def _once(whole: Path, folder: Path, seed: int, running: bool) -> Left:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    outbox = Outbox(folder) if running else None
    done = damage(folder, random.Random(seed))
    try:
        return _use(folder, outbox)
    except BaseException:
        sys.stderr.write(f"seed {seed}: {done}\n")
        raise


def damage(folder: Path, dice: random.Random) -> str:
    """One to 64 bytes anywhere in the file or its log, or its end cut off; says what was done."""
    path = folder / dice.choice((FILE_NAME, FILE_NAME, LOG_NAME))
    content = bytearray(path.read_bytes())
    kind = dice.choice(("bytes", "bytes", "bits", "zeros", "cut"))
    start = dice.randrange(len(content))
    length = min(dice.randint(1, 64), len(content) - start)
    if kind == "cut":
        del content[start:]
    elif kind == "zeros":
        content[start : start + length] = bytes(length)
    elif kind == "bits":
        content[start] ^= 1 << dice.randrange(8)
    else:
        content[start : start + length] = dice.randbytes(length)
    with path.open("r+b") as file:  # the same file, for whoever has it open
        file.write(content)
        file.truncate()
    return f"{kind} {start}+{length} of {path.name}"


def _use(folder: Path, running: Outbox | None) -> Left:
    """As a service would, twice."""
    outbox = running or Outbox(folder)
    rows = outbox.pending(0, 10_000)
    _check(rows)
    assert all(NOTES.get(key) == value for key, value in outbox.notes.items())
    for row in rows[::2]:
        outbox.acknowledge(row.id, row.message.topic)
    for number in NEW:
        outbox.put(message(number), note=Note("new", b"%d" % number))
    outbox.tick(1.0)
    assert outbox.flush(30.0), outbox.problem
    again = outbox.pending(0, 10_000)
    _check(again)
    expected = [row.message.key for row in rows[1::2]] + [f"key{number}" for number in NEW]
    found = [row.message.key for row in again]
    if not running:  # else it may be noticed only now
        assert found == expected
    assert outbox.problem is None or running
    left = Left(len(rows), outbox.set_aside is not None, outbox.damaged_rows)
    outbox.close()
    outbox = Outbox(folder)
    after = outbox.pending(0, 10_000)
    _check(after)
    if not running:
        assert [row.message.key for row in after] == expected
        assert outbox.notes["new"] == b"%d" % NEW[-1]
    outbox.close()
    return left


def _check(rows: list[Row]) -> None:
    """Nothing but what was put, each once."""
    for row in rows:
        assert row.message == message(int(row.message.key.removeprefix("key"))), row.id
    assert len({row.message.key for row in rows}) == len(rows)
    assert [row.id for row in rows] == sorted(row.id for row in rows)
