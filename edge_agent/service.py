"""Service: the loop that keeps the gateway alive.

In: a configuration, and an event that ends it. Out: messages at the broker, an exit code.
Never: waits for anything but its selector, ends for a board, a broker or a bundle that is bad.

    ports -> sessions (link, pipelines) -> facts -> reports -> publisher -> broker
                                                                  `-> outbox (its own thread)
"""

from __future__ import annotations

import random
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from edge_agent.assets import load_assets, site_of
from edge_agent.boards.evidence import Evidence
from edge_agent.boards.evidence.keeping import FOLDER
from edge_agent.boards.ports import Closed, PortEvent
from edge_agent.boards.recorder import Recorder
from edge_agent.boards.session import BoardSession, SamplesObserver
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.config import Config
from edge_agent.config.last_good import ConfigFile
from edge_agent.door.keeper import Reply, check_alone
from edge_agent.exchange import Exchange
from edge_agent.gateway import Gateway, limits_of
from edge_agent.health.machine import give_back
from edge_agent.journal import Journal
from edge_agent.judging.pipeline import Fact, Judgement
from edge_agent.notify import Notify
from edge_agent.progress import known_as
from edge_agent.reload import applied, changes, sentence
from edge_agent.state_folder import writable
from edge_agent.watchdog import Watchdog, Watched
from firmware_bridge.link import Link

EXIT_OK, EXIT_IO = 0, 74
TICK_SECONDS = 0.1
STATUS_SECONDS = 1.0
# Waking up costs more than what there is to do: ports are read together while nobody waits.
REST_SECONDS = 0.1
MIN_REST_SECONDS = 0.002


class Service:
    """One run of the agent. `observe` is called with every fact after it was reported,
    `observe_samples` with an asset's name and each batch before it is judged; `file` is where the
    configuration came from, for a reload.

    Raises `OSError` if the state folder is none, or another agent runs on it.
    """

    def __init__(
        self,
        config: Config,
        observe: Callable[[Fact], None] | None = None,
        observe_samples: SamplesObserver | None = None,
        file: ConfigFile | None = None,
    ) -> None:
        self._file = file
        self.reload_asked = threading.Event()
        self._config, self._observe, self._observe_samples = config, observe, observe_samples
        self._journal = Journal()
        self._notify = Notify()
        if file and file.complaint:
            self._journal.error(f"{file.complaint}; running on the last good configuration")
        check_alone(config.storage.state_dir)
        config = self._config = self._on_writable_ground(config)
        self.assets = load_assets(config)
        for asset in self.assets.values():
            if asset.refusal:
                self._journal.error(f"{asset.name}: refused: {asset.refusal}")
        storage = config.storage
        self._evidence = Evidence(
            storage.state_dir / FOLDER, storage.evidence_limit_bytes, config.boards,
            daily_bytes=storage.evidence_daily_bytes,
        )  # fmt: skip
        self._sessions = {name: self._session(name) for name in config.boards}
        self._complaint: str | None = None
        self._health_due_s = self._status_due_s = 0.0

    def _on_writable_ground(self, config: Config) -> Config:
        """The configuration, or the same with a stand-in for a state folder that takes nothing."""
        folder, self._state_problem = writable(config.storage.state_dir)
        if not self._state_problem:
            return config
        self._journal.error(self._state_problem)
        storage = config.storage.model_copy(update={"state_dir": folder})
        return config.model_copy(update={"storage": storage})

    def run(self, stop: threading.Event | None = None) -> int:
        """Runs until `stop` is set; gives the exit code."""
        known_as("edge-agent")
        self._gateway = gateway = Gateway(
            self._config, self.assets, self._sessions, self._evidence, self._journal,
            self.reload, self._visited,
        )  # fmt: skip
        self._exchange = Exchange(self.assets, self._sessions, gateway, self._journal)
        gateway.meter.state_ok = self._state_problem is None
        for panel in gateway.reports.panels.values() if self._state_problem else ():
            # The folder itself will not know which numbers were used meanwhile.
            panel.annunciator.after(random.randrange(1000, 1_000_000))
        gateway.meter.config_ok = not (self._file and self._file.complaint)
        threads: dict[str, Watched] = {"evidence": self._evidence, "outbox": gateway.outbox}
        self._watchdog = Watchdog(self._notify, self._journal, threads)
        try:
            self._notify.ready()
            return self._loop(stop or threading.Event())
        finally:
            self._notify.stopping()
            gateway.close()
            self._exchange.close()
            if self._state_problem:
                shutil.rmtree(self._config.storage.state_dir, ignore_errors=True)
            self._notify.close()

    def reload(self) -> str:
        """Reads the configuration anew; what came of it in one line. All that can change in a
        running service does, or nothing. Raises `ValueError` or `OSError` if it can't be used."""
        if self._file is None:
            raise ValueError("this agent was not started from a file")
        self._notify.reloading()
        try:
            told = self._take_over(self._file.again())
        except (OSError, ValueError) as error:
            self._gateway.meter.config_ok = False
            self._journal.error(f"not reloaded, nothing has changed: {error}")
            raise
        finally:
            self._notify.ready()
        self._gateway.meter.reloaded()
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
        self._config, reports = config, self._gateway.reports
        for name, panel in reports.panels.items():
            panel.asset.settings = config.assets[name]
            panel.revise(config.assets[name], rules.get(name))
        reports.interval_seconds = config.mqtt.score_interval_seconds
        self._gateway.outbox.limit(limits_of(config))
        return sentence(changed)

    def _visited(self, request: dict[str, Any]) -> Reply:
        """Somebody on this gateway asks; `ValueError` in words is an answer, too."""
        if request.get("do") == "status":
            return {"status": self._gateway.status().model_dump(mode="json")}
        if request.get("do") == "reload":
            return {"told": self.reload()}
        if request.get("do") == "take_up" and "asset" in request:
            return self._exchange.order(self._config, request["asset"])
        if request.get("do") == "take_up":
            return {"told": self._session_named(request.get("board")).take_up(time.monotonic())}
        raise ValueError(f"saw {request.get('do')!r}; there are status, reload, take_up, follow")

    def _session_named(self, board: object) -> BoardSession:
        session = self._sessions.get(board) if isinstance(board, str) else None
        if session is None:
            raise ValueError(f"saw board {board!r}; there are {', '.join(self._sessions)}")
        return session

    def _loop(self, stop: threading.Event) -> int:
        gateway, sessions, monotonic = self._gateway, self._sessions, time.monotonic
        poll, due_s = gateway.ports.poll, monotonic()
        while not stop.is_set():
            now_s = monotonic()
            if now_s >= due_s:
                gateway.meter.late(now_s - due_s)
                due_s = now_s + TICK_SECONDS
                if not gateway.outbox.is_alive():
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
        if not self._gateway.publisher.idle():
            return 0.0
        rests = (session.rest_seconds(now_s) for session in self._sessions.values())
        return min(REST_SECONDS, due_s - now_s, *rests)

    def _judge(self, session: BoardSession, chunk: bytes, now_s: float) -> None:
        for fact in session.received(chunk, now_s):
            if type(fact) is Judgement:
                self._gateway.meter.judged(fact)
            self._gateway.reports.take(fact)
            if self._observe:
                self._observe(fact)
        self._send(session)
        if session.changed:
            self._settle(session)

    def _send(self, session: BoardSession) -> None:
        out = session.link.outgoing(time.monotonic())
        if out:
            self._gateway.ports.write(session.name, out)

    def _port_changed(self, session: BoardSession, event: PortEvent, now_s: float) -> None:
        if isinstance(event, Closed):
            session.closed(event.reason)
        else:
            session.opened(now_s)
            self._send(session)
        self._settle(session)

    def _tick(self, now_s: float) -> None:
        gateway = self._gateway
        self._watchdog.tick(now_s)
        gateway.ports.tick(now_s)
        for session in self._sessions.values():
            self._tick_session(session, now_s)
        gateway.publisher.tick(now_s)
        gateway.outbox.tick(now_s)
        self._evidence.tick(now_s)
        self._exchange.tick(now_s)
        gateway.door.tick(now_s)
        gateway.exporter.tick(now_s)
        for told in (*gateway.outbox.notices(), *self._evidence.notices()):
            self._journal.warning(told)
        if self._evidence.problem != self._complaint:
            self._complaint = self._evidence.problem
            self._journal.warning(self._complaint or "evidence is kept again")
        gateway.reports.tick(now_s)
        if self.reload_asked.is_set():
            self.reload_asked.clear()
            with suppress(OSError, ValueError):  # the journal has it
                self.reload()
        if now_s >= self._status_due_s:
            self._status_due_s = now_s + STATUS_SECONDS
            self._notify.status(gateway.meter.line())
        if now_s >= self._health_due_s:
            self._health_due_s = now_s + self._config.health.interval_seconds
            self._tell_health(now_s)

    def _tick_session(self, session: BoardSession, now_s: float) -> None:
        session.tick(now_s)
        self._send(session)
        if session.lost:
            session.lost = False
            ports, again_soon = self._gateway.ports, session.link.unanswered
            ports.close(session.name, now_s, again_soon=again_soon)
            session.rest()
        if session.changed:
            self._settle(session)

    def _tell_health(self, now_s: float) -> None:
        gateway = self._gateway
        give_back()
        boards = gateway.meter.boards()
        gateway.publisher.tell(gateway.messages.health(gateway.meter.measure(now_s, boards)))
        for board in boards:
            gateway.publisher.tell(gateway.messages.board(board.board, board))
        gateway.exporter.write()

    def _settle(self, session: BoardSession) -> None:
        """Something about the board has changed that others must know."""
        gateway = self._gateway
        session.changed = False
        if session.streaming:
            gateway.ports.settled(session.name)
        calibrated = session.calibrated
        if gateway.reports.statuses() or calibrated.changed:
            gateway.publisher.tell(gateway.about())
        if calibrated.changed and calibrated.health is not None:
            gateway.publisher.tell(gateway.messages.compass(session.name, calibrated.health))
        calibrated.changed = False

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
            self._evidence.tails[name], Shelf(config.storage.state_dir, name),
        )  # fmt: skip
