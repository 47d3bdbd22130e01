"""`kill -9` in the moment in which an alert is with the subscriber and not yet on the disk: no name
and number ever stand for two contents, and the episode goes on under its name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.alarms.annunciator import UNRECORDED
from edge_agent.alarms.asset_state import AssetState
from edge_agent.broker.outbox import FILE_NAME
from edge_agent.broker.store import Limits, Store
from tests import programs
from tests.chaos.ledger import Event, Ledger
from tests.conftest import ROOT, Mosquitto
from tests.faulty_disk import MISSING, FaultyDisk
from tests.subscriber import Subscriber
from tests.test_service import BASE, PUMP, configure, wait_for

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(bool(MISSING), reason=MISSING),
]


def alarms(subscriber: Subscriber, kind: str = "") -> list[Event]:
    return [event for event in subscriber.events(kind) if event["kind"] != "gap"]


def recorded(folder: Path) -> int:
    """The episode that the disk knows of. The file is the agent's alone: a copy is looked at."""
    with tempfile.TemporaryDirectory() as scratch:
        for file in (folder / "state").glob(f"{FILE_NAME}*"):
            shutil.copyfile(file, Path(scratch) / file.name)
        store = Store(Path(scratch) / FILE_NAME, Limits())
        noted = store.notes().get("asset/pump", b"")
        store.close()
    return AssetState.model_validate_json(noted).annunciator.told_number


def test_what_was_told_and_not_recorded_is_told_anew_under_other_numbers(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    config = configure(tmp_path, mosquitto.port, PUMP)
    (tmp_path / "state").mkdir()
    disk = FaultyDisk(tmp_path / "state", tmp_path / "trouble")
    subscriber = Subscriber(mosquitto.port, f"{BASE}/#")

    def live(before: Callable[[], object], told: Callable[[], object]) -> None:
        """An agent, killed when something was told after the disk has stopped answering."""
        scores = len(subscriber.messages)
        with (tmp_path / "agent.log").open("a") as log:
            agent = subprocess.Popen(
                [sys.executable, "-m", "edge_agent", "run", "--config", config],
                cwd=ROOT, env=disk.environment(), stderr=log,
            )  # fmt: skip
        subscriber.until(
            lambda: any(m.topic.endswith("/score") for m in subscriber.messages[scores:])
        )
        wait_for(before)
        disk.fails("HANG")
        subscriber.until(told)
        agent.kill()
        agent.wait()
        disk.heals()

    with programs.board(tmp_path / "b.tty", "--seed", 7, "--fault", "bearing:5:14"):
        live(lambda: True, lambda: alarms(subscriber, "begin"))
        assert recorded(tmp_path) == 0
        live(lambda: recorded(tmp_path), lambda: alarms(subscriber, "end"))
        with programs.agent(config):
            subscriber.until(lambda: len(alarms(subscriber, "end")) == 2)
        with programs.agent(config):  # an end that was none: numbers go on as they were
            subscriber.until(lambda: subscriber.latest(f"{BASE}/status") == "online")
    subscriber.close()
    told = [(event["kind"], event["seq"]) for event in alarms(subscriber)]
    assert list(dict.fromkeys(told)) == [
        ("begin", 1), ("begin", UNRECORDED + 1), ("end", UNRECORDED + 2),
        ("end", 2 * UNRECORDED + 2),
    ]  # fmt: skip
    assert len({event["event_id"] for event in alarms(subscriber)}) == 1
    assert Ledger().judge(alarms(subscriber)).told_anew == 0
