"""Full: the disk of a live gateway is full, broken, read-only or silent, and then well again.

In: the agent with `faulty_disk` below its state folder. Out: a row a trouble. Never: takes arrival
afterwards for enough: alerts have to go out while the disk is bad, health has to say so, and what
comes while the broker is away as well has to arrive when it is back.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from typing import Any, get_args

from edge_agent.demo.boards import SimulatedBoard
from tests.chaos import rig
from tests.chaos.ledger import Ledger, key
from tests.chaos.plant import BASE, boards, configure, faults, judging_since, untold
from tests.chaos.rig import Listener, Setting
from tests.chaos.row import Row
from tests.faulty_disk import FaultyDisk, Trouble

# It does not say that it is bad, so only the watchdog can know.
SILENT: Trouble = "HANG"
SHORT: tuple[Trouble, ...] = ("ENOSPC",)
HEALTH = f"{BASE}/health"
# With this much room between, whatever is heard was not on its way before.
MOMENT_SECONDS = 1.0
AWAY_SECONDS = 3.0
HEALTH_SECONDS = 30.0


class Gateway:
    """The agent, watched."""

    def __init__(self, setting: Setting, name: str, plant: list[SimulatedBoard]) -> None:
        self.folder = setting.folder / name
        self.folder.mkdir()
        (self.folder / "state").mkdir()
        for board in plant:
            (self.folder / board.link.name).symlink_to(board.link)
        self.disk = FaultyDisk(self.folder / "state", self.folder / "trouble")
        self.broken: list[str] = []
        self.figures: dict[str, float] = {}

    def suffer(self, name: Trouble, stack: ExitStack, bad_seconds: float) -> Listener:
        """From the first score to the last; what was heard."""
        broker = stack.enter_context(rig.broker(self.folder, rig.LASTING))
        heard = stack.enter_context(rig.listener(broker.port, f"{BASE}/#"))
        config = configure(self.folder, broker.port, "[health]\ninterval_seconds = 1\n")
        log = stack.enter_context(config.with_suffix(".log").open("w"))
        agent = rig.python(
            "-m", "edge_agent", "run", "--config", config,
            env=self.disk.environment(), stderr=log,
        )  # fmt: skip
        stack.callback(rig.end, agent)
        rig.until(lambda: _health(heard).get("outbox_ok") == 1 and heard.events(), "an alert")
        self.disk.fails(name)
        bad_s = time.monotonic()
        time.sleep(bad_seconds)
        self._look(name, heard, bad_s)
        broker.kill()
        time.sleep(AWAY_SECONDS)
        broker.start()
        heard.ready()
        time.sleep(2 * MOMENT_SECONDS)
        self.disk.heals()
        well_s = time.monotonic() + MOMENT_SECONDS
        self._expect(lambda: _health(heard, well_s).get("outbox_ok") == 1, "health is well again")
        self._expect(lambda: _settled(heard, well_s), "all has arrived")
        if agent.poll() is not None:
            self.broken.append(f"the agent has ended with {agent.returncode}")
        return heard

    def _look(self, name: Trouble, heard: Listener, bad_s: float) -> None:
        """While the disk is bad."""
        self._expect(lambda: _live(heard, bad_s + MOMENT_SECONDS), "an alert goes out all the same")
        self.figures["alerts while it was bad"] = _live(heard, bad_s + MOMENT_SECONDS)
        if name != SILENT:
            self._expect(lambda: _health(heard).get("outbox_ok") == 0, "health says it")

    def _expect(self, wanted: Any, what: str) -> None:
        began_s = time.monotonic()
        if not rig.within(wanted, HEALTH_SECONDS, 0.1):
            self.broken.append(f"not so: {what}")
        self.figures[f"s until {what}"] = time.monotonic() - began_s


def trouble(setting: Setting) -> list[Row]:
    """Each for 20 s; or one for 2 s."""
    names = get_args(Trouble) if setting.long else SHORT
    with boards(setting.folder) as plant:
        return [_row(setting, name, plant) for name in names]


def _row(setting: Setting, name: Trouble, plant: list[SimulatedBoard]) -> Row:
    began_s, gateway = time.monotonic(), Gateway(setting, name, plant)
    setting.say(name)
    with ExitStack() as stack:
        heard = gateway.suffer(name, stack, setting.either(20, 2))
        events, since_s = heard.events(), judging_since(heard.heard)
        told_nothing = untold(plant, [(since_s, time.monotonic())], events)
    verdict = Ledger().judge(events)
    gateway.figures["faults"] = sum(fault.on_s > since_s for fault in faults(plant))
    return Row(
        f"disk: {name}", 1, len({key(event) for event in events}), len(told_nothing),
        verdict.doubled, (*gateway.broken, *verdict.broken, *told_nothing), gateway.figures,
        f"for {AWAY_SECONDS:.0f} s of it the broker was away, too", time.monotonic() - began_s,
    )  # fmt: skip


def _health(heard: Listener, after_s: float = 0.0) -> dict[str, Any]:
    """The newest, if it came after that moment."""
    newest = next((h for h in reversed(heard.heard) if h.topic == HEALTH), None)
    found: dict[str, Any] = json.loads(newest.payload) if newest and newest.at_s > after_s else {}
    return found


def _live(heard: Listener, after_s: float) -> int:
    """Alerts that came after that moment."""
    return sum(h.at_s > after_s and h.topic.endswith("/event") for h in heard.heard)


def _settled(heard: Listener, after_s: float) -> bool:
    nothing_waits = _health(heard, after_s).get("queue_depth") == 0
    return nothing_waits and not Ledger().judge(heard.events()).broken
