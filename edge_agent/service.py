"""Service: the loop that keeps the gateway alive.

In: a configuration, and an event that ends it. Out: messages at the broker, an exit code.
Never: waits for anything but its selector, ends for a board, a broker or a bundle that is bad.

    ports -> sessions (link, pipelines) -> facts -> reports -> publisher -> broker
                                                                  `-> outbox (its own thread)
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress

from edge_agent.alarms.asset_state import Now
from edge_agent.alarms.operators import Operators
from edge_agent.alarms.panel import Desk
from edge_agent.alarms.remote import Remote
from edge_agent.alarms.reports import Reports
from edge_agent.assets import load_assets, site_of
from edge_agent.boards.evidence import Evidence
from edge_agent.boards.evidence.keeping import FOLDER
from edge_agent.boards.ports import Closed, PortEvent, Ports
from edge_agent.boards.recorder import Recorder
from edge_agent.boards.session import BoardSession, SamplesObserver
from edge_agent.broker.announcements import KEY, Announcements
from edge_agent.broker.incoming import Incoming
from edge_agent.broker.messages import Message, Messages, Run
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.publisher import Identity, Publisher
from edge_agent.broker.store import Limits, Note
from edge_agent.config import Config
from edge_agent.health import HealthMeter, boot_id, info, machine_id8, software_version
from edge_agent.journal import Journal
from edge_agent.judging.pipeline import Fact
from edge_agent.notify import Notify
from edge_agent.reload import applied, changes, sentence
from firmware_bridge.link import Link

EXIT_OK, EXIT_IO = 0, 74
STORE_ID = "store_id"
TICK_SECONDS = 0.1
STATUS_SECONDS = 1.0
# Waking up costs more than what there is to do: ports are read together while nobody waits.
REST_SECONDS = 0.1
MIN_REST_SECONDS = 0.002
GOODBYE_SECONDS = 2.0


class Service:
    """One run of the agent. `observe` is called with every fact after it was reported,
    `observe_samples` with an asset's name and each batch before it is judged; `reread` gives the
    configuration as it is now, for a reload.

    Raises `OSError` if the state folder or the outbox can't be used.
    """

    def __init__(
        self,
        config: Config,
        observe: Callable[[Fact], None] | None = None,
        observe_samples: SamplesObserver | None = None,
        reread: Callable[[], Config] | None = None,
    ) -> None:
        self._reread = reread
        self.reload_asked = threading.Event()
        self._config, self._observe, self._observe_samples = config, observe, observe_samples
        self._journal = Journal()
        self._notify = Notify()
        self._boot_id = boot_id()
        self._run_id = uuid.uuid4().hex[:12]
        self.assets = load_assets(config)
        for asset in self.assets.values():
            if asset.refusal:
                self._journal.error(f"{asset.name}: refused: {asset.refusal}")
        storage = config.storage
        self._evidence = Evidence(
            storage.state_dir / FOLDER, storage.evidence_limit_bytes, config.boards
        )
        self._sessions = {name: self._session(name) for name in config.boards}
        self._complaint: str | None = None
        self._health_due_s = self._status_due_s = 0.0

    def run(self, stop: threading.Event | None = None) -> int:
        """Runs until `stop` is set; gives the exit code."""
        stop = stop or threading.Event()
        config, assets = self._config, self.assets.values()
        self._outbox = self._open_outbox()
        self._messages = Messages(config.base_topic, self._run())
        self._announcements = Announcements(config, software_version(), assets, self._messages)
        self._ports = Ports(config.boards)
        remote = Remote(config.base_topic)
        self._publisher = self._open_publisher((*remote.topics, *self._announcements.topics))
        desk = Desk(self._messages, self._publisher, self._outbox, self._journal, self._now)
        self._reports = Reports(assets, desk, self._evidence, config.mqtt.score_interval_seconds)
        self._meter = HealthMeter(
            self._sessions.values(), self.assets.values(), self._outbox, self._publisher,
            remote, self._evidence, self._config.storage.state_dir,
        )  # fmt: skip
        self._operators = Operators(
            remote, self._reports.panels, desk, self._evidence, self.reload,
            self._meter.line,
        )  # fmt: skip
        try:
            self._forget_gone()
            self._notify.ready()
            return self._loop(stop)
        finally:
            self._close()

    def _run(self) -> Run:
        """This run's names; the store's own is made with it, and goes with it."""
        store_id = self._outbox.notes.get(STORE_ID, b"").decode("ascii", "replace")
        if not store_id:
            store_id = uuid.uuid4().hex[:8]
            self._outbox.note(Note(STORE_ID, store_id.encode()))
        return Run(self._config.gateway.id, self._run_id, self._boot_id, store_id)

    def _now(self) -> Now:
        return Now(self._boot_id, time.time(), time.monotonic())

    def reload(self) -> str:
        """Reads the configuration anew; what came of it in one line. All that can change in a
        running service does, or nothing. Raises `ValueError` or `OSError` if it can't be used."""
        if self._reread is None:
            raise ValueError("this agent was not started from a file")
        self._notify.reloading()
        try:
            told = self._take_over(self._reread())
        except (OSError, ValueError) as error:
            self._journal.error(f"not reloaded, nothing has changed: {error}")
            raise
        finally:
            self._notify.ready()
        self._journal.info(told)
        return told

    def _take_over(self, new: Config) -> str:
        changed, config = changes(self._config, new), applied(self._config, new)
        rules = {
            name: asset.pipeline.rules(site_of(config.assets[name], asset.pipeline.manifest))
            for name, asset in self.assets.items()
            if asset.pipeline
        }
        # From here on nothing can go wrong.
        self._config = config
        for name, panel in self._reports.panels.items():
            panel.asset.settings = config.assets[name]
            panel.revise(config.assets[name], rules.get(name))
        self._reports.interval_seconds = config.mqtt.score_interval_seconds
        self._outbox.limit(_limits(config))
        return sentence(changed)

    def _received(self, incoming: Incoming) -> None:
        """From the broker."""
        if self._announcements.begun_anew(incoming):
            for message in self._announcements.current():
                self._publisher.tell(message)
        else:
            self._operators.received(incoming, time.monotonic())

    def _forget_gone(self) -> None:
        """Takes back what earlier runs have announced and is no more."""
        messages, note = self._announcements.gone(self._outbox.notes.get(KEY, b""))
        for message in messages:
            self._publisher.offer(message)
        self._outbox.note(note)

    def _loop(self, stop: threading.Event) -> int:
        poll, sessions, monotonic = self._ports.poll, self._sessions, time.monotonic
        due_s = monotonic()
        while not stop.is_set():
            now_s = monotonic()
            if now_s >= due_s:
                self._meter.late(now_s - due_s)
                due_s = now_s + TICK_SECONDS
                if not self._outbox.is_alive():
                    self._journal.error("the outbox's writer has died: this is a bug")
                    return EXIT_IO
                self._tick(now_s)
            for board, event in poll(due_s - now_s):
                if type(event) is bytes:
                    self._judge(sessions[board], event, monotonic())
                else:
                    self._port_changed(sessions[board], event, monotonic())
            rest_seconds = self._rest_seconds(monotonic(), due_s)
            if rest_seconds > MIN_REST_SECONDS:
                time.sleep(rest_seconds)
        return EXIT_OK

    def _rest_seconds(self, now_s: float, due_s: float) -> float:
        """How long the ports may fill up before anybody would notice."""
        if not self._publisher.idle():
            return 0.0
        rests = (session.rest_seconds(now_s) for session in self._sessions.values())
        return min(REST_SECONDS, due_s - now_s, *rests)

    def _judge(self, session: BoardSession, chunk: bytes, now_s: float) -> None:
        for fact in session.received(chunk, now_s):
            self._reports.take(fact)
            if self._observe:
                self._observe(fact)
        out = session.link.outgoing()
        if out:
            self._ports.write(session.name, out)
        if session.changed:
            self._settle(session)

    def _port_changed(self, session: BoardSession, event: PortEvent, now_s: float) -> None:
        if isinstance(event, Closed):
            session.closed(event.reason)
        else:
            session.opened(now_s)
            self._ports.write(session.name, session.link.outgoing())
        self._settle(session)

    def _tick(self, now_s: float) -> None:
        self._notify.alive(now_s)
        self._ports.tick(now_s)
        for session in self._sessions.values():
            session.tick(now_s)
            out = session.link.outgoing()
            if out:
                self._ports.write(session.name, out)
            if session.lost:
                session.lost = False
                self._ports.close(session.name, now_s, again_soon=session.link.unanswered)
                session.rest()
            if session.changed:
                self._settle(session)
        self._publisher.tick(now_s)
        self._outbox.tick(now_s)
        self._evidence.tick(now_s)
        if self._evidence.problem != self._complaint:
            self._complaint = self._evidence.problem
            self._journal.warning(self._complaint or "evidence is kept again")
        self._reports.tick(now_s)
        if self.reload_asked.is_set():
            self.reload_asked.clear()
            with suppress(OSError, ValueError):  # the journal has it
                self.reload()
        if now_s >= self._status_due_s:
            self._status_due_s = now_s + STATUS_SECONDS
            self._notify.status(self._meter.line())
        if now_s >= self._health_due_s:
            self._health_due_s = now_s + self._config.health.interval_seconds
            boards = self._meter.boards()
            self._publisher.tell(self._messages.health(self._meter.measure(now_s, boards)))
            for board in boards:
                self._publisher.tell(self._messages.board(board.board, board))

    def _settle(self, session: BoardSession) -> None:
        """Something about the board has changed that others must know."""
        session.changed = False
        if session.streaming:
            self._ports.settled(session.name)
        if self._reports.statuses():
            self._publisher.tell(self._about())

    def _session(self, name: str) -> BoardSession:
        config = self._config
        assets = [asset for asset in self.assets.values() if asset.settings.board == name]
        recorder, settings = None, config.recorder
        if settings:
            recorded = settings.boards or tuple(config.boards)
            recorder = Recorder(name, settings, len(recorded)) if name in recorded else None
        link = Link(config.boards[name].uid)
        return BoardSession(
            name, link, assets, recorder, self._journal, self._observe_samples,
            self._evidence.tails[name],
        )  # fmt: skip

    def _open_outbox(self) -> Outbox:
        outbox = Outbox(self._config.storage.state_dir, _limits(self._config))
        if outbox.set_aside:
            self._journal.error(f"the outbox was damaged: set aside as {outbox.set_aside}")
        return outbox

    def _open_publisher(self, topics: tuple[str, ...]) -> Publisher:
        config = self._config
        name = config.mqtt.client_id or f"otolith-{config.gateway.id}-{machine_id8()}"
        identity = Identity(name, self._messages.gateway_status("offline"))
        return Publisher(
            config.mqtt, identity, self._outbox, self._ports, self._journal, self._greeting,
            topics=topics, received=self._received,
        )  # fmt: skip

    def _greeting(self) -> list[Message]:
        """All that is retained; that the gateway is online comes last, when the rest is true."""
        online = self._messages.gateway_status("online")
        return [
            self._about(), *self._announcements.current(), *self._reports.retained(), online,
        ]  # fmt: skip

    def _about(self) -> Message:
        about = info(self._config.gateway.id, self._run_id, self.assets.values())
        return self._messages.info(about)

    def _close(self) -> None:
        """Boards fall silent, what is on its way arrives if it can, `stopped` is the last word."""
        self._notify.stopping()
        now_s = time.monotonic()
        for session in self._sessions.values():
            session.link.stop(now_s)
            self._ports.write(session.name, session.link.outgoing())
        self._publisher.tell(self._messages.gateway_status("stopped"))
        deadline_s = now_s + GOODBYE_SECONDS
        self._ports.poll(TICK_SECONDS)
        while not self._publisher.idle() and time.monotonic() < deadline_s:
            self._ports.poll(TICK_SECONDS)
        self._publisher.close()
        for session in self._sessions.values():
            session.rest()
        self._ports.shut()
        self._reports.close()
        self._evidence.close()
        self._outbox.close()
        self._notify.close()


def _limits(config: Config) -> Limits:
    return Limits(config.storage.outbox_limit_bytes, config.storage.outbox_limit_rows)
