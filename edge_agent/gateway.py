"""Gateway: the parts of one run of the agent, put together, and what they say as a whole.

In: a configuration, assets and sessions. Out: the parts, open; what is retained about the gateway.
Never: runs anything: the loop is the service's.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping

from edge_agent.alarms.asset_state import Now
from edge_agent.alarms.operators import Operators
from edge_agent.alarms.panel import Desk
from edge_agent.alarms.remote import Remote
from edge_agent.alarms.reports import Reports
from edge_agent.assets import Asset
from edge_agent.boards.evidence import Evidence
from edge_agent.boards.ports import Ports
from edge_agent.boards.session import BoardSession
from edge_agent.broker.announcements import KEY, Announcements
from edge_agent.broker.clock import Clock, this_boot
from edge_agent.broker.incoming import Incoming
from edge_agent.broker.messages import Message, Messages, Run
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.publisher import Identity, Publisher
from edge_agent.broker.store import DAY_SECONDS, Limits, Note
from edge_agent.config import Config
from edge_agent.door.keeper import Answer, Keeper
from edge_agent.health import HealthMeter, info, machine_id8, software_version
from edge_agent.health.clock_state import synchronised
from edge_agent.health.exporter import Exporter
from edge_agent.health.status import Status, status
from edge_agent.journal import Journal

STORE_ID = "store_id"
POLL_SECONDS = 0.1
GOODBYE_SECONDS = 2.0


class Gateway:
    """`reload` and `visited` are what operators and visitors ask the service for.

    Raises `OSError` if the outbox can't be used, or another agent runs on the state folder.
    """

    def __init__(
        self, config: Config, assets: Mapping[str, Asset], sessions: Mapping[str, BoardSession],
        evidence: Evidence, journal: Journal, reload: Callable[[], str], visited: Answer,
    ) -> None:  # fmt: skip
        self._config, self._assets, self._sessions = config, assets, sessions
        self._evidence, self._journal = evidence, journal
        self.run_id, self._boot_id = uuid.uuid4().hex[:12], this_boot()
        self.ports = Ports(config.boards)
        self.door = self._open_door(visited)
        self.outbox = self._open_outbox()
        self.messages = Messages(config.base_topic, self._run())
        self._announcements = Announcements(
            config, software_version(), assets.values(), self.messages
        )
        remote = Remote(config.base_topic)
        self.publisher = self._open_publisher((*remote.topics, *self._announcements.topics))
        desk = Desk(self.messages, self.publisher, self.outbox, journal, self._now)
        self.reports = Reports(assets.values(), desk, evidence, config.mqtt.score_interval_seconds)
        self.meter = HealthMeter(
            sessions.values(), assets.values(), self.outbox, self.publisher, remote, evidence,
            config.storage.state_dir,
        )  # fmt: skip
        self._operators = Operators(
            remote, self.reports.panels, desk, evidence, reload, self.meter.line
        )
        self.exporter = Exporter(config.health, self.ports, journal, self.status)
        self._forget_gone()

    def status(self) -> Status:
        """How everything is."""
        problems = list(self._journal.problems)
        return status(self._config, self.meter, self.reports.panels, problems)

    def about(self) -> Message:
        """What runs here."""
        return self.messages.info(info(self._config.gateway.id, self.run_id, self._assets.values()))

    def tell_anew(self) -> None:
        """What runs here is not what was said of it."""
        for message in (self.about(), *self._announcements.current()):
            self.publisher.tell(message)

    def close(self) -> None:
        """Boards fall silent, what is on its way arrives if it can, `stopped` is the last word."""
        now_s = time.monotonic()
        for session in self._sessions.values():
            session.link.stop(now_s)
            self.ports.write(session.name, session.link.outgoing(time.monotonic()))
        self.publisher.tell(self.messages.gateway_status("stopped"))
        deadline_s = now_s + GOODBYE_SECONDS
        self.ports.poll(POLL_SECONDS)
        while not self.publisher.idle() and time.monotonic() < deadline_s:
            self.ports.poll(POLL_SECONDS)
        self.publisher.close()
        for session in self._sessions.values():
            session.rest()
        self.door.close()
        self.exporter.close()
        self.ports.shut()
        self.reports.close()
        self._evidence.close()
        self.outbox.close()

    def _greeting(self) -> list[Message]:
        """All that is retained; that the gateway is online comes last, when the rest is true."""
        online = self.messages.gateway_status("online")
        boards = [(one.name, one.calibrated.health) for one in self._sessions.values()]
        compasses = [self.messages.compass(name, health) for name, health in boards if health]
        return [
            self.about(), *self._announcements.current(), *compasses, *self.reports.retained(),
            online,
        ]  # fmt: skip

    def _received(self, incoming: Incoming) -> None:
        """From the broker."""
        if self._announcements.begun_anew(incoming):
            for message in self._announcements.current():
                self.publisher.tell(message)
        else:
            self._operators.received(incoming, time.monotonic())

    def _forget_gone(self) -> None:
        """Takes back what earlier runs have announced and is no more."""
        messages, note = self._announcements.gone(self.outbox.notes.get(KEY, b""))
        for message in messages:
            self.publisher.offer(message)
        self.outbox.note(note)

    def _now(self) -> Now:
        return Now(self._boot_id, time.time(), time.monotonic())

    def _run(self) -> Run:
        """This run's names; the store's own is made with it, and goes with it."""
        store_id = self.outbox.notes.get(STORE_ID, b"").decode("ascii", "replace")
        if not store_id:
            store_id = uuid.uuid4().hex[:8]
            self.outbox.note(Note(STORE_ID, store_id.encode()))
        return Run(self._config.gateway.id, self.run_id, self._boot_id, store_id)

    def _open_door(self, visited: Answer) -> Keeper:
        folder = self._config.storage.state_dir
        door = Keeper(folder, self.ports, self._evidence.tails, visited)
        if door.problem:
            self._journal.warning(door.problem)
        return door

    def _open_outbox(self) -> Outbox:
        clock = Clock(synchronised=synchronised)
        return Outbox(self._config.storage.state_dir, limits_of(self._config), clock)

    def _open_publisher(self, topics: tuple[str, ...]) -> Publisher:
        config = self._config
        name = config.mqtt.client_id or f"otolith-{config.gateway.id}-{machine_id8()}"
        identity = Identity(name, self.messages.gateway_status("offline"))
        return Publisher(
            config.mqtt, identity, self.outbox, self.ports, self._journal, self._greeting,
            topics=topics, received=self._received,
        )  # fmt: skip


def limits_of(config: Config) -> Limits:
    """What the outbox may hold."""
    storage = config.storage
    return Limits(
        storage.outbox_limit_bytes, storage.outbox_limit_rows,
        storage.outbox_telemetry_days * DAY_SECONDS, storage.outbox_alert_days * DAY_SECONDS,
    )  # fmt: skip
