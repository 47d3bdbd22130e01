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

from edge_agent.assets import load_assets
from edge_agent.config import Config
from edge_agent.health import HealthMeter, boot_id, info, machine_id8
from edge_agent.journal import Journal
from edge_agent.messages import Message, Messages
from edge_agent.mqtt import Identity, Publisher
from edge_agent.notify import Notify
from edge_agent.outbox import Limits, Outbox
from edge_agent.pipeline import Fact
from edge_agent.ports import Closed, PortEvent, Ports
from edge_agent.recorder import Recorder
from edge_agent.reports import Reports
from edge_agent.session import BoardSession, SamplesObserver
from firmware_bridge.link import Link

EXIT_OK, EXIT_IO = 0, 74
TICK_SECONDS = 0.1
STATUS_SECONDS = 1.0
# Waking up costs more than what there is to do: ports are read together while nobody waits.
REST_SECONDS = 0.1
MIN_REST_SECONDS = 0.002
GOODBYE_SECONDS = 2.0


class Service:
    """One run of the agent. `observe` is called with every fact after it was reported,
    `observe_samples` with an asset's name and each batch before it is judged.

    Raises `OSError` if the state folder or the outbox can't be used.
    """

    def __init__(
        self,
        config: Config,
        observe: Callable[[Fact], None] | None = None,
        observe_samples: SamplesObserver | None = None,
    ) -> None:
        self._config, self._observe, self._observe_samples = config, observe, observe_samples
        self._journal = Journal()
        self._notify = Notify()
        self._messages = Messages(config.base_topic, uuid.uuid4().hex[:12], boot_id())
        self.assets = load_assets(config)
        for asset in self.assets.values():
            if asset.refusal:
                self._journal.error(f"{asset.name}: refused: {asset.refusal}")
        self._sessions = {name: self._session(name) for name in config.boards}
        self._health_due_s = self._status_due_s = 0.0

    def run(self, stop: threading.Event | None = None) -> int:
        """Runs until `stop` is set; gives the exit code."""
        stop = stop or threading.Event()
        self._outbox = self._open_outbox()
        self._ports = Ports(self._config.boards)
        self._publisher = self._open_publisher()
        self._reports = Reports(
            self.assets.values(), self._messages, self._publisher, self._journal,
            self._config.mqtt.score_interval_seconds,
        )  # fmt: skip
        self._meter = HealthMeter(
            self._sessions.values(), self.assets.values(), self._outbox, self._publisher,
            self._config.storage.state_dir,
        )  # fmt: skip
        try:
            self._notify.ready()
            return self._loop(stop)
        finally:
            self._close()

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
                    self._received(sessions[board], event, monotonic())
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

    def _received(self, session: BoardSession, chunk: bytes, now_s: float) -> None:
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
        self._reports.tick(now_s)
        if now_s >= self._status_due_s:
            self._status_due_s = now_s + STATUS_SECONDS
            self._notify.status(self._meter.line())
        if now_s >= self._health_due_s:
            self._health_due_s = now_s + self._config.health.interval_seconds
            self._publisher.tell(self._messages.health(self._meter.measure(now_s)))
            for board in self._meter.boards():
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
        return BoardSession(name, link, assets, recorder, self._journal, self._observe_samples)

    def _open_outbox(self) -> Outbox:
        storage = self._config.storage
        limits = Limits(storage.outbox_limit_bytes, storage.outbox_limit_rows)
        outbox = Outbox(storage.state_dir, limits)
        if outbox.set_aside:
            self._journal.error(f"the outbox was damaged: set aside as {outbox.set_aside}")
        return outbox

    def _open_publisher(self) -> Publisher:
        config = self._config
        name = config.mqtt.client_id or f"otolith-{config.gateway.id}-{machine_id8()}"
        identity = Identity(name, self._messages.gateway_status("offline"))
        return Publisher(
            config.mqtt, identity, self._outbox, self._ports, self._journal, self._greeting
        )

    def _greeting(self) -> list[Message]:
        """All that is retained; that the gateway is online comes last, when the rest is true."""
        online = self._messages.gateway_status("online")
        return [self._about(), *self._reports.retained(), online]

    def _about(self) -> Message:
        about = info(self._config.gateway.id, self._messages.run_id, self.assets.values())
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
        self._outbox.close()
        self._notify.close()
