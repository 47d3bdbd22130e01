"""Restamp: what a stored message says of time, when the clock was wrong as it was stored.

In: a payload, the stamp that it was stored with, the stamp of now. Out: the payload with its times
as they were by the clock of now, or a word that they can't be trusted; the age of a row.
Never: reads a clock, changes a payload whose clock was right, guesses at an earlier boot's clock.

A gateway without a battery for its clock begins in 1970 or where it was switched off, and is set
right some minutes later. The monotonic clock of one boot only goes on, so what lies between it and
the wall clock says by how much a time of the same boot was wrong.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

# This software is younger, so a clock that says less is wrong: 2024-01-01T00:00:00Z.
BUILT_S = 1_704_067_200.0
# Less is the clock being steered, not set.
STEP_SECONDS = 1.0
# A member of a JSON object that is a time: quotes within a text are escaped, so no text matches.
TIME = re.compile(rb'("\w+":")(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})(Z")')
LAST = re.compile(rb"\}\s*$")
NOT_SYNCED = b',"clock_synced":false}'


class Stamp(NamedTuple):
    """When something was stored: in which boot, by the wall clock (Unix seconds), and how far that
    was ahead of the monotonic clock (`offset_s`)."""

    boot_id: str = ""
    wall_s: float = 0.0
    offset_s: float = 0.0

    @property
    def believable(self) -> bool:
        """Whether the wall clock may have been right."""
        return self.wall_s >= BUILT_S

    @property
    def monotonic_s(self) -> float:
        """By the clock that only goes on."""
        return self.wall_s - self.offset_s


def age_seconds(stored: Stamp, now: Stamp) -> float:
    """How long ago that was, at the least: another boot's row is as old as this boot, and older
    only if both wall clocks may have been right."""
    if stored.boot_id and stored.boot_id == now.boot_id:
        return max(0.0, now.monotonic_s - stored.monotonic_s)
    at_least_seconds = now.monotonic_s if stored.boot_id and now.boot_id else 0.0
    if stored.believable and now.believable:
        at_least_seconds = max(at_least_seconds, now.wall_s - stored.wall_s)
    return at_least_seconds


def restamped(payload: bytes, stored: Stamp, now: Stamp) -> bytes:
    """The payload as it is to be sent: flat JSON, or anything else unchanged."""
    same_boot = bool(stored.boot_id) and stored.boot_id == now.boot_id
    step_seconds = now.offset_s - stored.offset_s if same_boot else 0.0
    wall_s = stored.wall_s
    if abs(step_seconds) > STEP_SECONDS:
        payload = shifted(payload, step_seconds)
        wall_s += step_seconds
    return payload if wall_s >= BUILT_S else doubted(payload)


def shifted(payload: bytes, seconds: float) -> bytes:
    """Every time in it so much later; one that no calendar has stays as it is."""

    def later(found: re.Match[bytes]) -> bytes:
        before, text, after = found.groups()
        return before + _shifted(text.decode("ascii"), seconds).encode("ascii") + after

    return TIME.sub(later, payload)


def doubted(payload: bytes) -> bytes:
    """The same, saying that its clock was not set."""
    if not payload.startswith(b"{") or NOT_SYNCED[1:-1] in payload or not TIME.search(payload):
        return payload
    return LAST.sub(NOT_SYNCED, payload)


def _shifted(text: str, seconds: float) -> str:
    try:
        then = datetime.fromisoformat(text).replace(tzinfo=UTC) + timedelta(seconds=seconds)
    except (ValueError, OverflowError):
        return text
    return then.isoformat(timespec="milliseconds").removesuffix("+00:00")
