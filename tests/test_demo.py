"""The demo, as a newcomer runs it: the whole product in half a minute."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from edge_agent.demo import judge
from edge_agent.demo.broker import Received
from tests.conftest import ROOT
from tests.programs import run

MAX_SECONDS = 45.0
MAX_DELAY_SECONDS = 3.0


def test_a_fault_is_alerted_once_and_named() -> None:
    begin = time.monotonic()
    lines = run("edge_agent", "demo", "--json")
    assert time.monotonic() - begin < MAX_SECONDS
    last = lines[-1]
    assert last["ok"] is True
    assert last["named"] == last["expected"] == "pump y"
    assert 0 <= last["delay_s"] <= MAX_DELAY_SECONDS
    topics = [line["topic"] for line in lines[:-1]]
    assert last["messages"] == len(topics)
    events = [json.loads(line["payload"]) for line in lines[:-1] if "/event" in line["topic"]]
    kinds = [event["kind"] for event in events if event["kind"] != "gap"]
    assert kinds[0] == "begin"
    assert kinds[-1] == "end"
    assert "otolith/demo/mast/score" in topics


def test_the_last_line_tells_a_person_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", "demo"], cwd=ROOT, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1].startswith("OK: bearing fault injected at ")
    assert "named: pump y, expected: pump y" in done.stdout
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert "a picture of " in done.stdout


def event(channel: str, kind: str = "begin", unix_s: float = 11.0) -> Received:
    """An event of the pump."""
    fields = {"kind": kind, "asset": "pump", "top1_ch": channel, "why": "", "severity": 1}
    return Received("otolith/demo/pump/event", json.dumps(fields).encode(), unix_s)


def test_the_verdict_is_no_without_alert_with_the_wrong_name_or_too_early() -> None:
    fault = [{"fault": "bearing", "state": "on", "unix_s": 10.0}]
    assert judge([event("y")], fault).ok
    assert not judge([], fault).ok
    assert not judge([event("x")], fault).ok
    assert not judge([event("y", unix_s=9.0)], fault).ok
    assert not judge([event("y")], []).ok
    assert not judge([event("y"), event("y", unix_s=12.0)], fault).ok
