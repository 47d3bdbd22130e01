"""Findings: what was seen of a port, a board and a machine, and what it means.

In: facts as values. Out: `Finding`s, each with what was seen, what was expected, what to do.
Never: looks for itself (`doctor.py` does), guesses a cause that the facts don't carry.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from firmware_bridge.schema import Schema

Level: TypeAlias = Literal["wrong", "note", "well"]

# An oscillator may be a few per cent off; beyond that the rate is not the one of the description.
MAX_RATE_ERROR = 0.1
MAX_ROUND_TRIP_MS = 30.0
MIN_FREE_BYTES = 100_000_000
EXCERPT_BYTES = 48
TEXT_SHARE = 0.85
SENSOR = 3
STATUS_WORDS = {1: "bad argument", 2: "busy", SENSOR: "the sensor does not answer", 255: "unknown"}


class Finding(NamedTuple):
    """One line of the doctor."""

    level: Level
    about: str
    seen: str
    expected: str = ""
    do: str = ""

    @property
    def line(self) -> str:
        """For people."""
        parts = [f"{self.level:<5}  {self.about}: {self.seen}"]
        parts += [f"expected {self.expected}"] if self.expected else []
        parts += [f"do: {self.do}"] if self.do else []
        return "; ".join(parts)


@dataclass(frozen=True)
class StreamFacts:
    """Some seconds of one stream."""

    name: str
    rate_hz: float
    seen_hz: float
    samples: int
    lost_on_wire: int
    lost_on_board: int
    sensor_errors: int = 0


@dataclass(frozen=True)
class PortFacts:
    """One port: whether it could be opened, and what came when somebody was asked for."""

    path: str
    baud: int
    expected_uid: str | None = None
    refusal: str | None = None  # why it can't be opened, with the cure
    held_by_agent: int | None = None  # the process of a running edge-agent
    lasting_name: str | None = None
    modem_manager: bool = False
    received_bytes: int = 0
    frames: int = 0
    damaged: int = 0
    echoes: int = 0
    excerpt: bytes = b""
    answers_at: int | None = None  # another baud rate
    rates_tried: tuple[int, ...] = ()
    schema: Schema | None = None  # what the board has said of itself
    trouble: str | None = None  # why the session ended
    refused: tuple[str, int] | None = None  # request and status
    seconds: float = 0.0
    streams: tuple[StreamFacts, ...] = ()
    round_trip_ms: float | None = None
    drift_ppm: float | None = None


@dataclass(frozen=True)
class SystemFacts:
    """The machine and what the configuration names on it."""

    state_dir: str
    state_problem: str | None = None
    free_bytes: int | None = None
    needed_bytes: int = MIN_FREE_BYTES
    clock_synced: bool | None = True  # None: nobody says
    broker: str = ""
    broker_problem: str | None = None
    refusals: dict[str, str] = field(default_factory=dict)  # asset: why its bundle is refused


def judge_port(about: str, facts: PortFacts) -> list[Finding]:
    """What is to be said about one port."""
    if facts.held_by_agent is not None:
        seen = f"{facts.path} is held by edge-agent itself, process {facts.held_by_agent}"
        do = "ask the service: systemctl status edge-agent, journalctl -u edge-agent"
        return [Finding("note", about, seen, "nothing: a service runs, and is left alone", do)]
    if facts.refusal:
        seen, _, do = facts.refusal.rpartition(": ")
        return [Finding("wrong", about, seen, "a serial device that can be opened", do)]
    found = _names(about, facts)
    if facts.schema is None:
        return [*found, _nobody(about, facts)]
    return found + _board(about, facts, facts.schema)


def judge_system(facts: SystemFacts) -> list[Finding]:
    """What is to be said about broker, bundles, disk and clock."""
    found = []
    if facts.broker_problem:
        do = "start it, or correct [mqtt]; alerts are kept until it is back"
        found.append(Finding("wrong", "broker", facts.broker_problem, "a connection", do))
    else:
        found.append(Finding("well", "broker", f"{facts.broker} accepts us"))
    for asset, refusal in facts.refusals.items():
        do = "install the bundle for this asset: edge-agent inspect shows what one is"
        found.append(Finding("wrong", f"asset {asset}", refusal, "a bundle that fits", do))
    if facts.state_problem:
        do = f"chown {facts.state_dir} to the service's user, or correct storage.state_dir"
        found.append(Finding("wrong", "state", facts.state_problem, "a writable folder", do))
    if facts.free_bytes is not None and facts.free_bytes < facts.needed_bytes:
        seen = f"{facts.free_bytes / 1e6:.0f} MB free at {facts.state_dir}"
        expected = f"{facts.needed_bytes / 1e6:.0f} MB for the outbox at its limit"
        do = "make room, or lower storage.outbox_limit_bytes and recorder.limit_bytes"
        found.append(Finding("wrong", "disk", seen, expected, do))
    if facts.clock_synced is False:
        do = "timedatectl set-ntp true; detection does not depend on it, the times in alerts do"
        found.append(Finding("note", "clock", "not synchronised", "NTP or a hardware clock", do))
    return found


def _names(about: str, facts: PortFacts) -> list[Finding]:
    found = []
    if facts.lasting_name:
        seen = f"{facts.path} is a number that the next plugging-in may give to another"
        do = f'port = "{facts.lasting_name}"'
        found.append(Finding("note", about, seen, "a name that lasts", do))
    if facts.modem_manager:
        do = "install systemd/99-otolith.rules, or sudo systemctl disable --now ModemManager"
        seen = "ModemManager runs and may talk to this device"
        expected = "ID_MM_DEVICE_IGNORE=1 in udev"
        found.append(Finding("wrong", about, seen, expected, do))
    return found


def _nobody(about: str, facts: PortFacts) -> Finding:
    """Nobody has identified itself: by what came instead."""
    expected = f"a board that answers IDENTIFY at {facts.baud} baud"
    if facts.answers_at:
        seen = f"a board answers at {facts.answers_at} baud"
        return Finding("wrong", about, seen, expected, f"baud = {facts.answers_at}")
    tried = ", ".join(map(str, facts.rates_tried))
    if not facts.received_bytes:
        do = "power the board, swap RX and TX, check ground and firmware"
        return Finding("wrong", about, f"not a byte comes (tried {tried} baud)", expected, do)
    if facts.echoes:
        do = "part RX from TX, or take the loopback plug off"
        return Finding("wrong", about, "only what we send comes back", expected, do)
    if facts.frames:
        seen = facts.trouble or "frames come, but no answer"
        return Finding("wrong", about, seen, expected, "flash the firmware of this version")
    kind, shown = _excerpt(facts.excerpt)
    seen = f"{facts.received_bytes} bytes but no frame (tried {tried} baud); {kind}: {shown!r}"
    if kind == "noise":
        do = "find the board's baud rate, check ground and cable"
    else:
        do = "another firmware or device speaks: flash ours, or correct the port"
    return Finding("wrong", about, seen, expected, do)


def _excerpt(raw: bytes) -> tuple[str, str]:
    """What it looks like, and its beginning with nothing that could upset a terminal."""
    shown = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in raw[:EXCERPT_BYTES])
    readable = sum(32 <= byte < 127 or byte in b"\r\n\t" for byte in raw)
    if not raw or readable < TEXT_SHARE * len(raw):
        return "noise", shown
    return ("NMEA of a GPS receiver" if b"$G" in raw else "text"), shown


def _board(about: str, facts: PortFacts, schema: Schema) -> list[Finding]:
    """A board has identified itself."""
    found = []
    if facts.expected_uid and schema.uid != facts.expected_uid:
        do = f'plug the right board in, or correct it: uid = "{schema.uid}"'
        seen = f"board {schema.uid} answers"
        return [Finding("wrong", about, seen, f"board {facts.expected_uid}", do)]
    if facts.refused:
        request, status = facts.refused
        seen = f"{request} is refused: {STATUS_WORDS.get(status, 'status')} ({status})"
        do = "check the sensor's wiring and supply, then reset the board"
        if status != SENSOR:
            do = "flash the firmware of this version"
        found.append(Finding("wrong", about, seen, "status 0", do))
    elif facts.trouble:
        do = "check cable and supply; edge-board dump shows what comes"
        found.append(Finding("wrong", about, facts.trouble, "a steady stream", do))
    for stream in facts.streams:
        found += _stream(about, stream)
    if facts.damaged:
        seen = f"{facts.damaged} damaged frames in {facts.seconds:.1f} s"
        do = "shorten the cable, check ground, keep it away from motor leads, lower the baud rate"
        found.append(Finding("wrong", about, seen, "none", do))
    if facts.round_trip_ms is not None and facts.round_trip_ms > MAX_ROUND_TRIP_MS:
        seen = f"a question takes {facts.round_trip_ms:.0f} ms at least"
        do = "another USB adapter: this one holds bytes back, and the driver can't stop it"
        found.append(Finding("note", about, seen, f"under {MAX_ROUND_TRIP_MS:.0f} ms", do))
    if not any(finding.level == "wrong" for finding in found):
        found.append(Finding("well", about, _well(facts, schema)))
    return found


def _stream(about: str, stream: StreamFacts) -> list[Finding]:
    name, found = f"{about}, stream {stream.name}", []
    rate = f"{stream.rate_hz:g} Hz"
    if not stream.samples:
        do = "check the sensor's wiring; the other streams of the board go on"
        return [Finding("wrong", name, "no samples", rate, do)]
    if abs(stream.seen_hz / stream.rate_hz - 1.0) > MAX_RATE_ERROR:
        do = "check the sensor's settings: a model expects the rate that it was trained at"
        found.append(Finding("wrong", name, f"{stream.seen_hz:.0f} Hz", rate, do))
    whole = stream.samples + stream.lost_on_wire + stream.lost_on_board
    for lost, place, do in (
        (stream.lost_on_wire, "wire", "check cable and ground, then the load of this machine"),
        (stream.lost_on_board, "board", "raise the baud rate, or lower the sensor's rate"),
    ):
        if lost:
            seen = f"{lost} of {whole} samples lost on the {place}"
            found.append(Finding("wrong", name, seen, "none", do))
    if stream.sensor_errors:
        seen = f"{stream.sensor_errors} batches with a sensor error"
        do = "check the sensor's wiring and supply"
        found.append(Finding("wrong", name, seen, "none", do))
    return found


def _well(facts: PortFacts, schema: Schema) -> str:
    streams = ", ".join(
        f"{s.name} {s.samples} samples at {s.seen_hz:.1f} Hz" for s in facts.streams
    )
    clock = "" if facts.drift_ppm is None else f", clock {facts.drift_ppm:+.0f} ppm"
    return f"{schema.board} {schema.uid}, firmware {schema.firmware}: {streams}, none lost{clock}"
