"""Publisher kills: outbox and connection alone, many kills a minute, at far more alerts a second.

In: numbered alerts. Out: a row. Never: believes the store alone: what the child has said to be on
the disk has to arrive, too.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from edge_agent.config import MqttSettings
from tests.chaos import rig
from tests.chaos.ledger import Ledger
from tests.chaos.publishing import PADDING, alert
from tests.chaos.rig import Listener, Setting
from tests.chaos.row import Row
from tests.publishers import Agent

LIFE_SECONDS = 0.6
# A killed publisher's last words may still be on their way: its numbers are not used again.
SPARE_NUMBERS = 100_000


def trouble(setting: Setting) -> list[Row]:
    """200 kills, or 6; every third publisher finds no broker."""
    kills, began_s = setting.either(200, 6), time.monotonic()
    chance, ledger = random.Random(f"publisher {setting.seed}"), Ledger()
    with (
        rig.broker(setting.folder) as broker,
        rig.listener(broker.port, "gw/#") as heard,
    ):
        for number in range(kills):
            away = number % 3 == 2
            if away:
                broker.kill()
            safe = _life(
                setting.folder, broker.port, (number + 1) * SPARE_NUMBERS,
                chance.uniform(0.0, LIFE_SECONDS),
            )  # fmt: skip
            ledger.expect(rig.stored_alerts(setting.folder / "state"))
            ledger.expect(json.loads(alert(n, padding=PADDING).payload) for n in safe)
            if away:
                broker.start()
                heard.ready()
            setting.say(f"{number + 1} of {kills} kills, {len(heard.heard):,} messages")
        _drained(setting.folder, broker.port, lambda: not ledger.judge(heard.events()).lost)
        verdict, broken = ledger.judge(heard.events()), disorder(heard)
    return [
        Row(
            "kill -9 of the publisher", kills, len(ledger.expected), len(verdict.lost),
            verdict.doubled, broken, {"doubled a kill": verdict.doubled / kills},
            "a third of the time without a broker", time.monotonic() - began_s,
        )
    ]  # fmt: skip


def _life(folder: Path, port: int, first: int, seconds: float) -> range:
    """Of one publisher; the numbers that it has said to be on the disk."""
    child = rig.python(
        "-m", "tests.chaos.publishing", folder / "state", port, first,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    assert child.stdout
    newest = child.stdout.readline()  # it lives
    time.sleep(seconds)
    child.kill()
    out, _ = child.communicate()
    *_, newest = (newest + out).splitlines()
    return range(first, int(newest) + 1)


def _drained(folder: Path, port: int, arrived: Callable[[], bool]) -> None:
    """One that is not killed brings what is left."""
    agent = Agent(folder / "state", MqttSettings(port=port))

    def done() -> bool:
        agent.step()
        return not agent.outbox.depth() and arrived()

    rig.within(done, pause_seconds=0.0)
    agent.close()


def disorder(heard: Listener) -> tuple[str, ...]:
    """Where an alert of an asset overtook an older one; what comes again does not count."""
    broken, newest = list[str](), dict[str, int]()
    seen: set[str] = set()
    for event in heard.events():
        asset, number = event["asset"], event["n"]
        if event["event_id"] not in seen and number < newest.get(asset, 0):
            broken.append(f"{asset}: {number} after {newest[asset]}")
        seen.add(event["event_id"])
        newest[asset] = max(number, newest.get(asset, 0))
    return tuple(broken)
