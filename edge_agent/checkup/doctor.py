"""Doctor: looks at ports, boards, broker and machine, and says what is wrong and what to do.

In: a configuration, or one port. Out: findings, and the facts behind them (`support.py` packs them
for whoever helps). Never: disturbs a service that runs (what it holds is left alone), changes a
setting, judges (edge_agent.checkup.findings does).
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edge_agent.assets import load_asset
from edge_agent.broker.trial import try_broker
from edge_agent.checkup.findings import (
    MIN_FREE_BYTES,
    Finding,
    PortFacts,
    StreamFacts,
    SystemFacts,
    judge_port,
    judge_system,
)
from edge_agent.config import BoardSettings, Config
from edge_agent.health.clock_state import synchronised
from firmware_bridge.devices import (
    holders,
    is_probed_by_modem_manager,
    lasting_name,
    serial_devices,
    user_name,
)
from firmware_bridge.link import BOOT_SECONDS, Link, State, StateChanged
from firmware_bridge.port import Port, PortError
from firmware_bridge.samples import Assembler
from firmware_bridge.schema import Schema

USUAL_BAUDS = (921_600, 460_800, 230_400, 115_200, 57_600, 1_000_000, 2_000_000)
RATE_SECONDS = 0.8
READ_SECONDS = 0.05
MAX_START_SECONDS = 5.0
EXCERPT_BYTES = 512
HELD = re.compile(r"edge.agent.* run\b")


class Conversation:
    """One open port and the session that asks on it."""

    def __init__(self, port: Port) -> None:
        self.port, self.link = port, Link()
        self.raw = b""
        self.trouble: str | None = None
        self.seconds = 0.0

    def identify(self, seconds: float) -> bool:
        """Asks who is there, for so long at most; whether somebody answered."""
        self.link.opened(time.monotonic())
        self._until(lambda: not self.link.unanswered, seconds)
        return not self.link.unanswered

    def stream(self, seconds: float) -> None:
        """Listens to the board for so long, and asks it to be silent again."""
        self._until(lambda: self.link.state is State.STREAMING, MAX_START_SECONDS)
        if self.link.state is State.STREAMING:
            began_s = time.monotonic()
            self._until(lambda: False, seconds)
            self.seconds = time.monotonic() - began_s
            self.link.stop(time.monotonic())
            self._step()

    def _until(self, done: Callable[[], bool], seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while not done() and self.link.state is not State.STALE and time.monotonic() < end_s:
            self._step()

    def _step(self) -> None:
        events = self.link.tick(time.monotonic())
        self.port.write(self.link.outgoing(time.monotonic()))
        chunk = self.port.read(READ_SECONDS)
        self.raw = (self.raw + chunk)[:EXCERPT_BYTES]
        events += self.link.feed(chunk, time.monotonic())
        for event in events:
            if isinstance(event, StateChanged) and event.state is State.STALE:
                self.trouble = event.reason


def examine_port(settings: BoardSettings, seconds: float) -> PortFacts:
    """Opens the port, asks who is there, and listens for some seconds. What another program holds
    is left alone."""
    path = str(settings.port)
    facts = PortFacts(
        path, settings.baud, settings.uid, lasting_name=lasting_name(path),
        modem_manager=is_probed_by_modem_manager(path),
    )  # fmt: skip
    try:
        port = Port(path, settings.baud)
    except PortError as error:
        held = [h.pid for h in holders(path) if HELD.search(h.command)] if error.is_busy else []
        return replace(facts, refusal=str(error), held_by_agent=held[0] if held else None)
    try:
        return _converse(port, facts, seconds)
    except OSError as error:
        return replace(facts, refusal=f"{path} went away while it was asked: {error}")
    finally:
        port.close()


def examine_system(config: Config, schemas: dict[str, Schema]) -> SystemFacts:
    """Broker, bundles, disk and clock. `schemas` are what the boards have said of themselves."""
    storage, mqtt = config.storage, config.mqtt
    client_id = f"otolith-doctor-{os.getpid()}"
    state_problem, folder = _state_problem(storage.state_dir)
    status = os.statvfs(folder)
    return SystemFacts(
        state_dir=str(storage.state_dir),
        state_problem=state_problem,
        free_bytes=status.f_bavail * status.f_frsize,
        needed_bytes=MIN_FREE_BYTES + storage.outbox_limit_bytes,
        clock_synced=synchronised(),
        broker=f"{mqtt.host}:{mqtt.port}",
        broker_problem=try_broker(mqtt, client_id),
        refusals=_refusals(config, schemas),
    )


def examine(
    boards: dict[str, BoardSettings],
    config: Config | None,
    seconds: float,
    progress: Callable[[str], None],
) -> tuple[list[Finding], dict[str, Any]]:
    """Everything: the findings, and the facts behind them."""
    findings: list[Finding] = []
    facts: dict[str, Any] = {"ports": {}, "devices": serial_devices()}
    schemas: dict[str, Schema] = {}
    for name, settings in boards.items():
        progress(f"{name}: asking at {settings.port} ...")
        port_facts = examine_port(settings, seconds)
        findings += judge_port(f"board {name}" if config else name, port_facts)
        facts["ports"][name] = asdict(port_facts)
        if port_facts.schema:
            schemas[name] = port_facts.schema
    if config:
        progress("broker, bundles, disk, clock ...")
        system = examine_system(config, schemas)
        findings += judge_system(system)
        facts["system"] = asdict(system)
    return findings, facts


def _converse(port: Port, facts: PortFacts, seconds: float) -> PortFacts:
    talk, tried, answers_at = Conversation(port), [facts.baud], None
    if talk.identify(BOOT_SECONDS + READ_SECONDS):
        talk.stream(seconds)
    elif not talk.link.echoes:
        answers_at = _other_rate(port, facts.baud, tried)
    link, clock = talk.link, talk.link.clock
    seen, schema = link.decoder.counters, link.schema
    return replace(
        facts,
        received_bytes=seen.bytes, frames=seen.frames, damaged=seen.damaged, echoes=link.echoes,
        excerpt=talk.raw, answers_at=answers_at, rates_tried=tuple(tried), schema=schema,
        trouble=talk.trouble, refused=link.refused, seconds=talk.seconds,
        streams=tuple(_stream(assembler, talk.seconds) for assembler in link.assemblers.values())
        if talk.seconds else (),
        round_trip_ms=clock.round_trip_s and clock.round_trip_s * 1e3,
        drift_ppm=clock.drift_ppm if clock.ready else None,
    )  # fmt: skip


def _other_rate(port: Port, baud: int, tried: list[int]) -> int | None:
    """The rate at which a board answers, if it is a usual one."""
    for other in USUAL_BAUDS:
        if other == baud:
            continue
        try:
            port.set_baud(other)
        except PortError:
            continue
        tried.append(other)
        if Conversation(port).identify(RATE_SECONDS):
            return other
    return None


def _stream(assembler: Assembler, seconds: float) -> StreamFacts:
    schema, counters = assembler.schema, assembler.counters
    counted_hz = (counters.samples + counters.lost_on_wire + counters.lost_on_board) / seconds
    # Only whole batches come, so counting is no better than two of them; the board's clock is.
    believed = abs(counted_hz - assembler.rate_hz) * seconds <= 2.5 * schema.batch
    return StreamFacts(
        schema.name, schema.rate_hz, assembler.rate_hz if believed else counted_hz,
        counters.samples, counters.lost_on_wire, counters.lost_on_board, counters.sensor_errors,
    )  # fmt: skip


def _refusals(config: Config, schemas: dict[str, Schema]) -> dict[str, str]:
    """Assets whose bundle would not be accepted, or does not fit what its board sends."""
    refused = {}
    for name, settings in config.assets.items():
        asset = load_asset(config, name)
        if settings.board in schemas:
            asset.fit(schemas[settings.board])
        if asset.refusal:
            refused[name] = asset.refusal
    return refused


def _state_problem(folder: Path) -> tuple[str | None, Path]:
    """Why nothing can be written there, and the folder that is there already."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return None, there
    except OSError as error:
        told = f"{there}: {error.strerror or error} (for {user_name()})"
        return told, there if there.is_dir() else there.parent
