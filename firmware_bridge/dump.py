"""Dump: frames as lines that people and scripts can read, and what is wrong with a stream.

In: chunks of a recording or of a live port. Out: lines of text or JSON, totals last.
Never: raises for damaged bytes; they are in the totals.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any, TypeAlias, TypeGuard

from firmware_bridge.codec import Decoder
from firmware_bridge.frames import Data, DataFlag, Frame, Identify
from firmware_bridge.link import Event, Link, State, StateChanged
from firmware_bridge.port import Port
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Assembler

TICK_SECONDS = 0.05

Writer: TypeAlias = Callable[[str], object]


def as_fields(frame: Frame) -> dict[str, Any]:
    """Every field of a frame by name, bytes as hex (the JSON of IDENTIFY as text)."""
    fields: dict[str, Any] = {"frame": type(frame).__name__}
    for name, value in zip(frame._fields, frame, strict=True):
        fields[name] = value.hex() if isinstance(value, bytes) else value
    if isinstance(frame, Identify):
        fields["json"] = frame.json.decode("utf-8", "replace")
    return fields


def as_text(frame: Frame) -> str:
    """A frame as one line for people."""
    fields = as_fields(frame)
    if isinstance(frame, Data):
        fields["payload"] = f"{len(frame.payload)}B"
        fields["flags"] = "|".join(flag.name or "" for flag in DataFlag(frame.flags)) or "-"
    name = fields.pop("frame")
    return f"{name:<10} " + " ".join(f"{key}={value}" for key, value in fields.items())


def dump_recording(chunks: Iterable[bytes], as_json: bool, write: Writer) -> str | None:
    """Writes the lines of a recording, a table of its streams last; gives what is wrong with it,
    if anything."""
    decoder, playback = Decoder(), Playback()
    for chunk in chunks:
        _write_frames(decoder, chunk, as_json, write)
        playback.feed(chunk)
    problem = _noise(decoder) or playback.problem
    _write_totals(decoder, playback.assemblers, as_json, problem, write)
    return problem


def dump_port(port: Port, as_json: bool, seconds: float, write: Writer) -> str | None:
    """Writes the lines of a live board, which is identified and started by a `Link`; totals last,
    also after Ctrl-C. Ends when the session fails, and gives the reason."""
    decoder, link = Decoder(sync=True), Link()
    started_s = time.monotonic()
    problem: str | None = None
    link.opened(started_s)
    try:
        while not problem and time.monotonic() - started_s < seconds:
            events = link.tick(time.monotonic())
            port.write(link.outgoing(time.monotonic()))
            chunk = port.read(TICK_SECONDS)
            events += link.feed(chunk, time.monotonic())
            problem = next((e.reason for e in events if _failed(e)), None)
            _write_frames(decoder, chunk, as_json, write)
    except KeyboardInterrupt:
        problem = None
    link.stop(time.monotonic())
    port.write(link.outgoing(time.monotonic()))
    problem = _noise(decoder) or problem
    _write_totals(decoder, link.assemblers, as_json, problem, write)
    return problem


def _noise(decoder: Decoder) -> str | None:
    seen = decoder.counters
    return (
        f"{seen.bytes} bytes, no frame: wrong baud rate?"
        if seen.bytes and not seen.frames
        else None
    )


def _failed(event: Event) -> TypeGuard[StateChanged]:
    return isinstance(event, StateChanged) and event.state is State.STALE


def _write_frames(decoder: Decoder, chunk: bytes, as_json: bool, write: Writer) -> None:
    for frame in decoder.feed(chunk):
        write((json.dumps(as_fields(frame)) if as_json else as_text(frame)) + "\n")


def _write_totals(
    decoder: Decoder,
    assemblers: dict[int, Assembler],
    as_json: bool,
    problem: str | None,
    write: Writer,
) -> None:
    streams = {
        assembler.schema.name: {
            "rate_hz": round(assembler.rate_hz, 3), "nominal_hz": assembler.schema.rate_hz,
            **asdict(assembler.counters),
        }
        for assembler in assemblers.values()
    }  # fmt: skip
    totals = {"wire": asdict(decoder.counters), "streams": streams, "problem": problem}
    if as_json:
        write(json.dumps({"totals": totals}) + "\n")
        return
    lines = ["", "wire        " + " ".join(f"{k}={v}" for k, v in asdict(decoder.counters).items())]
    lines += _table(streams) if streams else []
    if problem:
        lines.append(f"problem     {problem}")
    write("\n".join(lines) + "\n")


def _table(streams: dict[str, dict[str, Any]]) -> list[str]:
    """A row a stream: the rate by the board's clock, and what is missing."""
    columns = {
        "rate_hz": "rate Hz", "nominal_hz": "nominal", "samples": "samples",
        "lost_on_wire": "lost: wire", "lost_on_board": "board", "gaps": "gaps",
        "restarts": "restarts", "refused": "refused", "clipped_batches": "clipped",
        "sensor_errors": "errors",
    }  # fmt: skip
    lines = ["stream      " + " ".join(f"{text:>10}" for text in columns.values())]
    for name, stream in streams.items():
        lines.append(f"{name:<11} " + " ".join(f"{stream[key]:>10}" for key in columns))
    return lines
