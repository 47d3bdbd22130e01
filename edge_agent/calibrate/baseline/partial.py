"""Partial: a capture that was interrupted, as bytes, and back.

In: a capture and whose it is, or bytes that claim to be one. Out: the other. Never: believes a
number that is not finite, a capture of another board, bundle or list of states, or more of anything
than there may be.

    one line of JSON (`Head`), then the columns of the windows, little-endian, one behind the other
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import Field, ValidationError

from edge_agent.bundles.frozen import Frozen
from edge_agent.bundles.manifest import Sha256
from edge_agent.calibrate.baseline.capture import MOST_WINDOWS, Capture, Taken
from edge_agent.calibrate.baseline.gauges import Gauge
from edge_agent.calibrate.baseline.hearing import MOST_STRETCHES, Stretch
from edge_agent.judging.scoring import WORST_SCORE

MOST_BYTES = 4 << 20
MOST_GAUGES = 20_000

Count: TypeAlias = Annotated[int, Field(ge=0, le=1 << 53)]
Number: TypeAlias = Annotated[float, Field(ge=-WORST_SCORE, le=WORST_SCORE, allow_inf_nan=False)]
Columns: TypeAlias = tuple[tuple[Number, ...], ...]


class Minute(Frozen):
    """A `Stretch`; a gap that nobody can measure is None."""

    state: Annotated[int, Field(ge=0, le=64)]
    received: Count
    lost: Count
    gap_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None


class Head(Frozen):
    """All but the windows."""

    version: Literal[1] = 1
    uid: str
    sha256: Sha256
    stream: str
    states: tuple[str, ...]
    done: Annotated[int, Field(ge=0, le=64)]
    windows: Annotated[int, Field(ge=0, le=MOST_WINDOWS)]
    minutes: Annotated[tuple[Minute, ...], Field(max_length=MOST_STRETCHES + 64)]
    gauges: Annotated[tuple[Columns, ...], Field(max_length=MOST_GAUGES)]
    gauged: Annotated[tuple[Count, ...], Field(max_length=MOST_GAUGES)]
    batches: Count
    clipped: Count


def write_partial(capture: Capture, uid: str, states: tuple[str, ...], done: int) -> bytes | None:
    """At most 4 MiB; None where it would be more. `done`: how many states have their minutes."""
    hearing, taken = capture.hearing, capture.taken()
    hearing.settle()
    columns = [np.ascontiguousarray(column).tobytes() for column in taken]
    if sum(map(len, columns)) > MOST_BYTES // 2:
        return None
    head = Head(
        uid=uid, sha256=capture.bundle.sha256, stream=capture.stream.name, states=states, done=done,
        windows=taken.windows,
        minutes=tuple(
            Minute(
                state=one.state, received=one.received, lost=one.lost,
                gap_seconds=one.gap_seconds if np.isfinite(one.gap_seconds) else None,
            )
            for one in hearing.stretches
        ),
        gauges=tuple(
            tuple(tuple(float(f"{v:.7g}") for v in part.tolist()) for part in each)
            for each in hearing.gauges
        ),
        gauged=tuple(hearing.gauged), batches=hearing.batches, clipped=hearing.clipped,
    )  # fmt: skip
    content = head.model_dump_json().encode() + b"\n" + b"".join(columns)
    return content if len(content) <= MOST_BYTES else None


def read_partial(content: bytes, capture: Capture, uid: str, states: tuple[str, ...]) -> int | None:
    """Goes on with it in `capture`, which is new; how many states have their minutes, None if it
    is of something else or damaged."""
    line, _, data = content.partition(b"\n")
    try:
        head = Head.model_validate_json(line)
    except (ValidationError, RecursionError):
        return None
    mine = (uid, capture.bundle.sha256, capture.stream.name, states)
    if (head.uid, head.sha256, head.stream, head.states) != mine or head.done > len(states):
        return None
    taken = _windows(capture, head.windows, data)
    if taken is None or not _fits(capture, head, taken):
        return None
    hearing = capture.hearing
    hearing.stretches = [
        Stretch(m.state, m.received, m.lost, np.inf if m.gap_seconds is None else m.gap_seconds)
        for m in head.minutes
    ]
    hearing.gauges = [Gauge(*(np.array(part) for part in each)) for each in head.gauges]
    hearing.gauged, hearing.batches = list(head.gauged), head.batches
    hearing.clipped = head.clipped
    capture.restore(taken)
    return head.done


def _windows(capture: Capture, windows: int, data: bytes) -> Taken | None:
    """The columns; None if there are too few or too many bytes."""
    empty = capture.taken()
    columns, at = [], 0
    for column in empty:
        shape = column.shape[1:]
        rows = windows if column is not empty.scaled or capture.keeps_scaled else 0
        size = rows * int(np.prod(shape)) * column.itemsize
        part = data[at : at + size]
        if len(part) < size:
            return None
        columns.append(np.frombuffer(part, column.dtype).reshape(rows, *shape))
        at += size
    return Taken._make(columns) if at == len(data) else None


def _fits(capture: Capture, head: Head, taken: Taken) -> bool:
    """Whether every number can be what it says."""
    channels = len(capture.stream.channels)
    if any(len(each) != len(Gauge._fields) for each in head.gauges):
        return False
    if any(len(part) != channels for each in head.gauges for part in each):
        return False
    if len(head.gauged) != len(head.gauges):
        return False
    finite = (taken.ratio, taken.by_feature, taken.by_step, taken.level, taken.scaled)
    # A machine without a speed has none.
    if not all(np.isfinite(column).all() for column in finite) or np.isinf(taken.speed).any():
        return False
    states, stretches = max(len(head.states), 1), len(head.minutes)
    places = ((taken.state, states), (taken.stretch, stretches))
    return all(bool(((column >= 0) & (column < most)).all()) for column, most in places) and all(
        minute.state < states for minute in head.minutes
    )
