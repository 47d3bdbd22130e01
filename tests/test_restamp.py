"""Times of messages that were stored while the clock was wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_agent.broker.clock import Clock
from edge_agent.broker.drain import Drain
from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.payloads import DriftEvent, Event, GapEvent
from edge_agent.broker.restamp import BUILT_S, Stamp, age_seconds, restamped
from tests.conftest import ROOT

DAY = 86_400.0
BOOT = "boot-1"
# The clock began in 1970, and somebody set it right 120 s after the boot.
NOW_S = 1_795_000_000.0
YEARS_S = NOW_S - 120.0
BORN_1970 = Stamp(BOOT, 60.0, 0.0)
SET_RIGHT = Stamp(BOOT, NOW_S, YEARS_S)


def text(wall_s: float) -> str:
    return (
        datetime.fromtimestamp(wall_s, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


def payload(wall_s: float) -> bytes:
    """As an event has them: texts that look like times but are words stay what they are."""
    content = {
        "event_id": "s-pump-7", "ts": text(wall_s), "mono_ms": 60_000,
        "first_over": text(wall_s - 2), "label": "1970-01-01", "replayed": False,
        "why": 'since "ts":"1970-01-01T00:00:00.000Z" nothing',
    }  # fmt: skip
    return json.dumps(content, separators=(",", ":")).encode()


def times(sent: bytes) -> tuple[str, str]:
    found = json.loads(sent)
    return found["ts"], found["first_over"]


def test_what_was_born_in_1970_is_told_when_it_happened() -> None:
    sent = restamped(payload(60.0), BORN_1970, SET_RIGHT)
    assert times(sent) == (text(60.0 + YEARS_S), text(58.0 + YEARS_S))
    before, after = json.loads(payload(60.0)), json.loads(sent)
    for name in ("ts", "first_over"):
        del before[name], after[name]
    assert after == before


@pytest.mark.parametrize("days", [-1.0, 1.0])
def test_a_step_of_a_day_is_taken_back(days: float) -> None:
    stored, now = Stamp(BOOT, NOW_S, 1e9), Stamp(BOOT, NOW_S + days * DAY + 5, 1e9 + days * DAY)
    assert times(restamped(payload(NOW_S), stored, now))[0] == text(NOW_S + days * DAY)


@pytest.mark.parametrize("step_seconds", [0.0, 0.9, -1.0])
def test_a_clock_that_is_steered_changes_nothing(step_seconds: float) -> None:
    stored, now = Stamp(BOOT, NOW_S, 1e9), Stamp(BOOT, NOW_S, 1e9 + step_seconds)
    assert restamped(payload(NOW_S), stored, now) == payload(NOW_S)


def test_another_boot_s_wrong_clock_can_only_be_doubted() -> None:
    sent = restamped(payload(60.0), BORN_1970, SET_RIGHT._replace(boot_id="boot-2"))
    assert times(sent) == times(payload(60.0))
    assert json.loads(sent)["clock_synced"] is False
    right = Stamp("boot-0", NOW_S - DAY, 5.0)
    assert restamped(payload(NOW_S - DAY), right, SET_RIGHT) == payload(NOW_S - DAY)
    # A clock that is wrong to this moment is no better.
    assert b'"clock_synced":false}' in restamped(payload(60.0), BORN_1970, BORN_1970)
    for fact in (Event, GapEvent, DriftEvent):
        assert "clock_synced" in fact.model_fields


@pytest.mark.parametrize(
    "content",
    [b"", b"\x89PNG\r\n", b"{", b'{"ts":"9999-99-99T99:99:99.999Z"}',
     b'["1970-01-01T00:00:00.000Z"]', b'{"ts":"0001-01-01T00:00:00.000Z"}'],
)  # fmt: skip
def test_what_has_no_time_in_it_stays_as_it_is(content: bytes) -> None:
    past = Stamp(BOOT, NOW_S, YEARS_S + 365 * DAY)
    assert restamped(content, past, SET_RIGHT) == content


def test_the_time_zone_of_the_machine_changes_nothing() -> None:
    code = (
        "import sys; from edge_agent.broker.restamp import Stamp, restamped\n"
        f"sent = restamped(sys.stdin.buffer.read(), {BORN_1970!r}, {SET_RIGHT!r})\n"
        "sys.stdout.buffer.write(sent)"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True,
            env={**os.environ, "TZ": zone}, input=payload(60.0),
        ).stdout
        for zone in ("UTC", "America/New_York", "Australia/Lord_Howe")
    }  # fmt: skip
    assert told == {restamped(payload(60.0), BORN_1970, SET_RIGHT)}


def test_ages_by_the_clock_that_can_tell() -> None:
    now = Stamp(BOOT, NOW_S, NOW_S - 1000.0)
    same_boot = Stamp(BOOT, 60.0, 60.0 - 400.0)
    assert age_seconds(same_boot, now) == 600.0
    assert age_seconds(Stamp("other", NOW_S - 5000.0, 7.0), now) == 5000.0
    # At least as long as this boot lasts, whatever the other one's clock said.
    assert age_seconds(Stamp("other", 60.0, 7.0), now) == 1000.0
    assert age_seconds(Stamp("other", NOW_S + 9 * DAY, 7.0), now) == 1000.0
    assert age_seconds(Stamp("", BUILT_S - 1.0, 0.0), now) == 0.0


class Wall:
    """A clock that can be set; the monotonic one goes on by itself."""

    def __init__(self) -> None:
        self.ahead_s, self.monotonic_s = 0.0, 60.0

    def clock(self, boot_id: str = BOOT) -> Clock:
        return Clock(boot_id, lambda: self.monotonic_s + self.ahead_s, lambda: self.monotonic_s)


def sent_by(outbox: Outbox) -> list[dict[str, Any]]:
    """What the drain would send now."""
    drain = Drain(outbox, 1000)
    drain.begin()
    told = []
    while row := drain.next():
        told.append(json.loads(drain.as_sent(row).payload))
        drain.sent(row, 0)
    return told


@pytest.mark.parametrize("flushed", [True, False])
def test_stored_in_1970_and_sent_after_the_clock_was_set(tmp_path: Path, flushed: bool) -> None:
    wall = Wall()
    outbox = Outbox(tmp_path, clock=wall.clock())
    outbox.put(Message("gw/pump/event", payload(60.0), alert=True))
    assert not flushed or outbox.flush()
    wall.ahead_s, wall.monotonic_s = YEARS_S, 120.0
    (told,) = sent_by(outbox)
    assert (told["ts"], told["replayed"]) == (text(60.0 + YEARS_S), True)
    outbox.close()
    # Nothing was rewritten on the disk; the next boot can only doubt it.
    later = Outbox(tmp_path, clock=wall.clock("boot-2"))
    (told,) = sent_by(later)
    assert (told["ts"], told["clock_synced"]) == (text(60.0), False)
    later.close()


def test_days_between_calendars() -> None:
    """Against the calendar of the standard library, leap days and all."""
    for years in range(0, 120, 7):
        then = datetime(1970, 2, 28, 23, 59, 59, 999_000, UTC)
        step = timedelta(days=365.25 * years + 0.5)
        now = Stamp(BOOT, NOW_S, step.total_seconds())
        sent = restamped(payload(then.timestamp()), Stamp(BOOT, then.timestamp(), 0.0), now)
        expected = text((then + step).timestamp()) if years else text(then.timestamp() + DAY / 2)
        assert times(sent)[0] == expected
