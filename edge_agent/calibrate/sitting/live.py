"""Live: one board's samples as they come, from the service that runs or from the port itself.

In: a board of the configuration. Out: its schema, then batches. Never: takes the port from the
service (its door gives the wire), waits for a board that has fallen silent, mixes two boards.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import numpy as np

from edge_agent.calibrate.streams import thermometer
from edge_agent.config import BoardSettings
from edge_agent.door import NoService, follow
from firmware_bridge.link import Event, Identified, Link, State, StateChanged
from firmware_bridge.port import READ_BYTES, Port, PortError
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema

# A board that starts up when its port is opened may take four seconds.
OPEN_SECONDS = 10.0
SILENT_SECONDS, SILENT_BATCHES = 1.0, 3
TICK_SECONDS = 0.1


class BoardLost(OSError):
    """The board can't be heard (any more); one line that says why and what to do."""


class Wire(Protocol):
    """Where events of one board come from."""

    def events(self, timeout_seconds: float) -> list[Event]:
        """What came, waiting so long at most. Raises `OSError` if nothing more can come."""
        ...

    def close(self) -> None:
        """Lets it go."""
        ...


class ServiceWire:
    """The wire that the running service hands on. Raises `NoService`, `ValueError`."""

    def __init__(self, state_dir: Path, board: str) -> None:
        self._door = follow(state_dir, board)
        self._playback = Playback()

    def events(self, timeout_seconds: float) -> list[Event]:
        """What came."""
        ready, _, _ = select.select([self._door], [], [], timeout_seconds)
        if not ready:
            return []
        chunk = self._door.recv(READ_BYTES)
        if not chunk:
            raise BoardLost("the service has ended: start it again, or calibrate without it")
        return [*self._playback.feed(chunk)]

    def close(self) -> None:
        """The service goes on without us."""
        self._door.close()


class PortWire:
    """The port itself, with a session of our own. Raises `PortError`."""

    def __init__(self, settings: BoardSettings) -> None:
        self._port = Port(str(settings.port), settings.baud)
        self._link = Link(settings.uid)
        self._link.opened(time.monotonic())

    def events(self, timeout_seconds: float) -> list[Event]:
        """What came, and requests sent that are due."""
        events = self._link.tick(time.monotonic())
        try:
            self._send()
            chunk = self._port.read(min(timeout_seconds, TICK_SECONDS))
            events += self._link.feed(chunk, time.monotonic())
            self._send()
        except OSError as error:
            raise BoardLost(f"the port has gone: {error.strerror or error}") from None
        for event in events:
            if isinstance(event, StateChanged) and event.state is State.STALE:
                raise BoardLost(f"the board is lost: {event.reason}")
        return events

    def close(self) -> None:
        """The board falls silent."""
        with suppress(OSError):
            self._link.stop(time.monotonic())
            self._send()
        self._port.close()

    def _send(self) -> None:
        out = self._link.outgoing(time.monotonic())
        if out:
            self._port.write(out)


def open_wire(state_dir: Path, board: str, settings: BoardSettings) -> tuple[Wire, str]:
    """The service's wire if one runs, else the port; and which it is, in words."""
    try:
        return ServiceWire(state_dir, board), "the running service"
    except NoService as closed:
        try:
            return PortWire(settings), str(settings.port)
        except PortError as error:
            # Somebody has the port: the service, that does not let us in, or another technician.
            if error.is_busy:
                raise NoService(f"{error}; or another calibration has it; {closed}") from None
            raise error from None


class LiveBoard:
    """One board. `schema` is known after `open`; `temperature_c` if a stream of it tells."""

    def __init__(self, name: str, uid: str | None, wire: Wire) -> None:
        self.name, self._wire, self._uid = name, wire, uid
        self.schema: Schema | None = None
        self.temperature_c: float | None = None
        self.samples = 0
        self._thermometer: int | None = None
        self._heard: dict[int, float] = {}
        self._early: list[Samples] = []

    def open(self, timeout_seconds: float = OPEN_SECONDS) -> Schema:
        """Waits until the board has said who it is. Raises `BoardLost`."""
        end_s = time.monotonic() + timeout_seconds
        while self.schema is None:
            if time.monotonic() > end_s:
                raise BoardLost(
                    f"board {self.name} does not answer within {timeout_seconds:.0f} s: is it "
                    "powered and plugged in? `edge-agent doctor` tells more"
                )
            self._early += self._taken(self._wire.events(TICK_SECONDS))
        return self.schema

    def needs(self, streams: Iterable[int]) -> None:
        """These must keep coming from now on, or `poll` raises."""
        now_s = time.monotonic()
        self._heard = {stream: now_s for stream in streams}

    def poll(self, timeout_seconds: float = TICK_SECONDS) -> list[Samples]:
        """Batches that came. Raises `BoardLost` after a second (or three batches, where those
        last longer) without a needed stream."""
        early, self._early = self._early, []
        found = early or self._taken(self._wire.events(timeout_seconds))
        now_s = time.monotonic()
        for samples in found:
            if samples.stream in self._heard:
                self._heard[samples.stream] = now_s
        for stream, heard_s in self._heard.items():
            if now_s - heard_s > self._patience_seconds(stream):
                self._lost(stream, now_s - heard_s)
        return found

    def close(self) -> None:
        """Lets the board go."""
        self._wire.close()

    def _taken(self, events: Iterable[Event]) -> list[Samples]:
        found: list[Samples] = []
        for event in events:
            if isinstance(event, Identified):
                self._identified(event.schema)
            elif isinstance(event, Samples):
                self.samples += len(event.values)
                if event.stream == self._thermometer:
                    mean = float(event.values[:, 0].mean(dtype=np.float64))
                    self.temperature_c = round(mean, 2) if -273.15 <= mean <= 1000.0 else None
                found.append(event)
        return found

    def _identified(self, schema: Schema) -> None:
        wanted = self.schema.uid if self.schema else self._uid
        if wanted is not None and schema.uid != wanted:
            raise BoardLost(
                f"board {schema.uid} answers, and {wanted} was expected as {self.name}: nothing of "
                "it is used; put the right board there, or correct `uid`"
            )
        self.schema = schema
        still = thermometer(schema)
        self._thermometer = still.id if still else None

    def _patience_seconds(self, stream: int) -> float:
        assert self.schema is not None
        found = self.schema.stream(stream)
        return max(SILENT_SECONDS, SILENT_BATCHES * found.batch / found.rate_hz)

    def _lost(self, stream: int, seconds: float) -> None:
        assert self.schema is not None
        name = self.schema.stream(stream).name
        raise BoardLost(
            f"no samples of {name} for {seconds:.1f} s: board {self.name} has gone; check its "
            "cable and power"
        )
