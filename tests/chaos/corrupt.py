"""Corrupt: bytes of the outbox's file that are not what was written, anywhere in it.

In: `damaged_store`, a seed a damage. Out: a row. Never: blames the gateway for what the disk has
taken: what counts is that it starts, tells nothing that was never put, and keeps what is new.
"""

from __future__ import annotations

import sqlite3
import time

from tests.chaos.rig import Setting
from tests.chaos.row import Row
from tests.damaged_store import NEW, ROWS, Left, corruption

NOTE = "alerts are those that came after the damage; every other time under a running outbox"


def trouble(setting: Setting) -> list[Row]:
    """500 damages, or 30."""
    times, began_s = setting.either(500, 30), time.monotonic()
    lefts, broken = list[Left](), list[str]()
    for number in range(times):
        seed = setting.seed * 1000 + number
        try:
            lefts += corruption(1, seed, running=bool(number % 2))
        except (AssertionError, OSError, ValueError, sqlite3.Error) as error:
            broken.append(f"seed {seed}: {error!r}"[:200])
        setting.say(f"{number + 1} of {times} damages")
    figures = {
        "rows still readable": sum(left.rows for left in lefts) / (ROWS * max(len(lefts), 1)),
        "set aside": sum(left.set_aside for left in lefts),
        "rows told apart": sum(left.damaged_rows for left in lefts),
    }
    return [
        Row(
            "damaged outbox", times, times * len(NEW), len(broken) * len(NEW),
            broken=tuple(broken), figures=figures, note=NOTE, seconds=time.monotonic() - began_s,
        )
    ]  # fmt: skip
