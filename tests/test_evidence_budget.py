"""How much evidence a day may bring: recordings end with the budget, cases do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edge_agent.boards.evidence import Evidence
from edge_agent.boards.evidence.budget import DAY_SECONDS, Budget
from firmware_bridge.codec import DELIMITER

WIRE = b"w" * 9_999 + DELIMITER
FACTS = {"ts": "2026-01-01T00:00:00.000Z", "why": "y carries it"}


def keeping(folder: Path, daily_bytes: int) -> Evidence:
    evidence = Evidence(folder, 10_000_000, ["b"], after_seconds=2.0, daily_bytes=daily_bytes)
    evidence.tails["b"].begin(b"{}")
    for second in range(5):
        evidence.tails["b"].take(WIRE, float(second))
    return evidence


def documents(folder: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def recordings(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.rec")}


def alarm(evidence: Evidence, name: str, now_s: float) -> None:
    evidence.keep(name, "pump", "b", now_s, FACTS)
    for step in range(4):
        evidence.tails["b"].take(WIRE, now_s + step)
        evidence.tick(now_s + step)


def test_beyond_the_budget_an_alarm_is_kept_as_facts_and_that_is_said_once(tmp_path: Path) -> None:
    evidence = keeping(tmp_path, 150_000)
    for n in range(6):
        alarm(evidence, f"s-pump-{n}", 5.0 + 4 * n)
        evidence.ended(f"s-pump-{n}", "2026-01-01T00:01:00.000Z")
    notices = [*evidence.notices(), *evidence.notices()]
    evidence.close()
    found = documents(tmp_path)
    assert sorted(found) == [f"s-pump-{n}" for n in range(6)]
    assert all(case["why"] == "y carries it" and case["ended"] for case in found.values())
    kept = recordings(tmp_path)
    assert kept < set(found)
    assert "s-pump-0" in kept
    assert evidence.unrecorded == 6 - len(kept)
    assert len(notices) == 1
    assert "raise storage.evidence_daily_bytes" in notices[0]


def test_what_operators_ask_for_is_always_recorded(tmp_path: Path) -> None:
    evidence = keeping(tmp_path, 0)
    alarm(evidence, "s-pump-1", 5.0)
    capture = evidence.capture("b", 9.0, 3.0, "2026-01-01T00:00:00.000Z")
    for step in range(6):
        evidence.tails["b"].take(WIRE, 10.0 + step)
        evidence.tick(10.0 + step)
    missed = evidence.missed("pump", "b", 16.0, "it rattled", "2026-01-01T00:00:00.000Z")
    evidence.verdict("s-pump-1", "confirmed", "", "2026-01-01T00:00:00.000Z")
    evidence.close()
    assert recordings(tmp_path) == {capture, missed}
    case = documents(tmp_path)["s-pump-1"]
    assert (case["verdict"], case["why"]) == ("confirmed", "y carries it")


def test_facts_without_a_recording_wait_for_the_end_but_not_for_ever(tmp_path: Path) -> None:
    evidence = keeping(tmp_path, 0)
    evidence.keep("s-pump-1", "pump", "b", 5.0, FACTS)
    evidence.tick(6.0)
    evidence.tick(66.0)
    evidence.close()
    assert "ended" not in documents(tmp_path)["s-pump-1"]


def test_a_new_day_is_a_new_budget() -> None:
    budget = Budget(100)
    budget.tick(50.0)
    assert budget.allows(100)
    budget.spend(100)
    assert not budget.allows(1)
    assert budget.notice()
    budget.tick(50.0 + DAY_SECONDS - 1)
    assert not budget.allows(1)
    assert budget.notice() is None
    budget.tick(50.0 + DAY_SECONDS)
    assert budget.allows(100)
    assert budget.notice() is None
    assert budget.unrecorded == 2
