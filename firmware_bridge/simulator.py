"""Simulator: simulated boards on pseudo-terminals, for the demo, the tests and the curious.

In: a board, a bad wire if wanted, a schedule. Out: a device that any serial program can open, and
one JSON object a line on standard output for what a script must know.
Never: sleeps longer than 5 ms while it streams, buffers more than the board's own queue and one
write, ends because the host closed the port.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time
import tty
from argparse import Namespace
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any

from firmware_bridge.board import SimulatedBoard
from firmware_bridge.hostile import HostileWire
from firmware_bridge.sampler import sampled
from firmware_bridge.signals import (
    MACHINE_FAULTS,
    USUAL_CHANNEL,
    Fault,
    board_document,
    make_machine,
)
from firmware_bridge.sources import MachineSource, Source, recording_sources
from firmware_bridge.turned import turned_sources

TICK_SECONDS = 0.004
READ_BYTES = 4096
MAX_WRITE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens beside the board: the name of its port, its faults to announce, its reset."""

    link: Path | None = None
    faults: tuple[Fault, ...] = ()
    speed: float = 1.0
    reset_at_s: float | None = None


@dataclass(slots=True)
class Wires:
    """Both directions of the cable."""

    to_host: HostileWire = field(default_factory=HostileWire)
    to_board: HostileWire = field(default_factory=HostileWire)


class PseudoTerminal:
    """The board's end of a pty whose other end looks like a serial port.

    Holds the slave side open too: otherwise the last host to close it would hang up the master
    (EIO on every read), and a real board doesn't notice either.
    """

    def __init__(self, link: Path | None) -> None:
        self.fd, self._slave = os.openpty()
        self.path = os.ttyname(self._slave)
        tty.setraw(self._slave)
        os.set_blocking(self.fd, False)
        self._link = link
        if link is not None:
            link.unlink(missing_ok=True)
            link.symlink_to(self.path)

    def read(self) -> bytes:
        """What the host sent; empty if nothing."""
        try:
            return os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return b""

    def write(self, data: bytes) -> bytes:
        """Sends what fits; gives the rest."""
        try:
            return data[os.write(self.fd, data) :]
        except BlockingIOError:
            return data

    def close(self) -> None:
        """Hangs up, and takes the stable name away if it is still ours."""
        link = self._link
        if link is not None and link.is_symlink() and os.readlink(link) == self.path:
            link.unlink()
        os.close(self.fd)
        os.close(self._slave)


def say(**fields: Any) -> None:
    """One JSON object on standard output, at once."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


class LiveBoard:
    """A board, its cable and its pty; lives by steps. `started_s` is when it was powered on
    (monotonic seconds)."""

    def __init__(self, board: SimulatedBoard, wires: Wires, plan: Plan, started_s: float) -> None:
        self.board, self.port = board, PseudoTerminal(plan.link)
        self._wires = wires
        self._announcements = _announcements(plan, started_s)
        self._reset_s = inf if plan.reset_at_s is None else started_s + plan.reset_at_s
        self._pending: deque[bytes] = deque()

    @property
    def waits_for_room(self) -> bool:
        """Whether the host has not read what was sent."""
        return bool(self._pending)

    def step(self, now_s: float) -> None:
        """Does what is due: something to say, a reset, an answer, a batch."""
        board, wires = self.board, self._wires
        if now_s >= self._reset_s:
            board.reset(now_s)
            say(reset=True, monotonic_s=now_s)
            self._reset_s = inf
        while self._announcements and self._announcements[0]["monotonic_s"] <= now_s:
            say(**self._announcements.pop(0))
        wires.to_board.feed(self.port.read(), now_s)
        for chunk in wires.to_board.poll(now_s):
            board.feed(chunk, now_s)
        full = self._pending or wires.to_host.held_bytes > MAX_WRITE_BYTES
        wires.to_host.feed(board.poll(now_s, 0 if full else MAX_WRITE_BYTES), now_s)
        self._pending.extend(wires.to_host.poll(now_s))
        # Piece by piece, or the kernel would mend what the wire has cut.
        while self._pending:
            rest = self.port.write(self._pending.popleft())
            if rest:
                self._pending.appendleft(rest)
                break


def run(boards: Sequence[LiveBoard], link: Path | None, seconds: float) -> None:
    """Serves the boards until their time is over or somebody interrupts."""
    try:
        for i, live in enumerate(boards):
            name = live.port.path if link is None else str(_numbered(link, i))
            say(port=name, uid=live.board.schema.uid)
        end_s = time.monotonic() + seconds
        while (now_s := time.monotonic()) < end_s:
            for live in boards:
                live.step(now_s)
            full = [live.port.fd for live in boards if live.waits_for_room]
            select.select([live.port.fd for live in boards], full, [], TICK_SECONDS)
    finally:
        for live in boards:
            live.port.close()


def _numbered(link: Path, number: int) -> Path:
    """`link` for the first board, `link2`, `link3` ... for the others."""
    return link.with_name(f"{link.name}{number + 1}") if number else link


def _announcements(plan: Plan, started_s: float) -> list[dict[str, Any]]:
    """Every beginning and end of a fault, by the time at which its first sample is due."""
    unix_minus_monotonic_s = time.time() - time.monotonic()
    lines = []
    for fault in plan.faults:
        for state, at_s in (("on", fault.start_s), ("off", fault.end_s)):
            if at_s is not None:
                due_s = started_s + at_s / plan.speed
                lines.append(
                    {
                        "fault": fault.kind, "state": state,
                        "channel": fault.channel or USUAL_CHANNEL[fault.kind],
                        "severity": fault.severity, "unix_s": due_s + unix_minus_monotonic_s,
                        "monotonic_s": due_s,
                    }
                )  # fmt: skip
    return sorted(lines, key=lambda line: float(line["monotonic_s"]))


def uid_for(name: str, seed: int) -> str:
    """24 hex digits, the same for the same machine and seed, as an STM32 would say."""
    return (name.encode().hex() + f"{seed:08x}").rjust(24, "0")[-24:]


def machine_sources(
    machines: Sequence[str],
    seed: int,
    uid: str | None = None,
    rate_hz: float | None = None,
    faults: Sequence[Fault] = (),
) -> tuple[bytes, list[Source]]:
    """The schema and the sources of a board bolted to these machines; a fault goes to the machine
    that can have it. Raises `ValueError` if none can, or for a rate of several machines."""
    if rate_hz is not None and len(machines) > 1:
        raise ValueError("--rate is for one --machine")
    sources: list[Source] = []
    for name in machines:
        fitting = tuple(fault for fault in faults if fault.kind in MACHINE_FAULTS[name])
        stream, machine = make_machine(name, seed, rate_hz, fitting)
        sources.append(MachineSource(stream, machine))
    possible = [kind for name in machines for kind in MACHINE_FAULTS[name]]
    for fault in faults:
        if fault.kind not in possible:
            raise ValueError(f"fault {fault.kind}: {', '.join(machines)} has {possible}")
    streams = tuple(source.stream for source in sources)
    return board_document(uid or uid_for(machines[0], seed), streams), sources


def simulate(options: Namespace) -> int:
    """`edge-board simulate`: boards on ptys, or a file of what one would say."""
    if options.out:
        document, sources = _sources(options, 0)
        write_recording(options.out, document, sources, options.seconds)
        return 0
    if options.boards < 1:
        raise ValueError("--boards: at least one")
    boards = [_live(options, number) for number in range(options.boards)]
    run(boards, options.link, options.seconds)
    return 0


def _sources(options: Namespace, number: int) -> tuple[bytes, list[Source]]:
    """What the board with this number says; each machine has a seed of its own."""
    if options.recording:
        document, recorded = recording_sources(read_chunks(options.recording), options.repeat)
        return document, [*recorded]
    if options.turn:
        return turned_sources(
            options.turn, options.seed + number, options.turn_speed,
            None if number else options.uid, options.rate, tuple(options.fault),
        )  # fmt: skip
    return machine_sources(
        options.machine or ["vibration"], options.seed + number,
        None if number else options.uid, options.rate, options.fault,
    )  # fmt: skip


def _live(options: Namespace, number: int) -> LiveBoard:
    document, sources = _sources(options, number)
    started_s, speed, delay_s = time.monotonic(), options.speed, options.delay_ms / 1000
    board = SimulatedBoard(document, sources, started_s, clock_ppm=options.clock_ppm, speed=speed)
    to_host, to_board = (
        HostileWire(options.lose, options.flip, options.split, delay_s,
                    seed=options.seed + 2 * number + way)
        for way in (0, 1)
    )  # fmt: skip
    link = options.link and _numbered(options.link, number)
    plan = Plan(link, () if number else tuple(options.fault), speed, options.reset_at)
    return LiveBoard(board, Wires(to_host, to_board), plan, started_s)


def write_recording(path: Path, document: bytes, sources: Sequence[Source], seconds: float) -> None:
    """A recording of the first `seconds` of the sources, as fast as it can be made."""
    if seconds == inf:
        raise ValueError("--out needs --seconds: how long shall the recording be?")
    with path.open("wb") as file:
        size = sum(file.write(chunk) for chunk in sampled(document, sources, seconds))
    say(out=str(path), bytes=size, seconds=seconds)


def read_chunks(path: Path, size: int = 1 << 20) -> Sequence[bytes]:
    """A recording in pieces."""
    data = path.read_bytes()
    return [data[at : at + size] for at in range(0, len(data), size)]
