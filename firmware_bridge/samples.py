"""Samples: DATA frames to contiguous physical values with an exact count of what is missing.

In: DATA frames of one stream, and a function from board time to host time. Out: `Samples`.
Never: bridges a gap, uses arrival times, raises for what a board sends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from firmware_bridge.clock import Line
from firmware_bridge.frames import Data, DataFlag
from firmware_bridge.schema import Schema, StreamSchema

Values: TypeAlias = NDArray[np.float32]

INDEX_MODULUS = 1 << 32
# Over this the index did not skip: the stream started anew or the frame is from another time.
MAX_PLAUSIBLE_LOSS = 1 << 31
RATE_FORGET = 1.0 / 256
RATE_MIN_BATCHES = 16
# An IntFlag costs microseconds at every `&`, and there are five a frame: here they are plain ints.
GAP, CLIPPED = int(DataFlag.GAP), int(DataFlag.CLIPPED)
BUS_ERROR, CLOCK_RESTARTED = int(DataFlag.BUS_ERROR), int(DataFlag.CLOCK_RESTARTED)
# An oscillator is a few per cent off, not more: beyond this the estimate is not believed.
MAX_RATE_ERROR = 0.2


class Samples(NamedTuple):
    """A contiguous run of one stream. `t0` is host seconds of the first row, `values` is
    float32[n, channel] in the stream's unit; `lost_before` rows are missing in front of it, and
    after a restart of the board (`restarted`) nobody can know how many are."""

    stream: int
    first_index: int
    t0: float
    rate_hz: float
    values: Values
    lost_before: int
    restarted: bool
    flags: int

    @property
    def contiguous(self) -> bool:
        """Whether the first row follows the last one of the batch before."""
        return not (self.lost_before or self.restarted or self.flags & GAP)


@dataclass(slots=True)
class StreamCounters:
    """Losses and oddities of one stream."""

    batches: int = 0
    samples: int = 0
    lost_on_wire: int = 0
    lost_on_board: int = 0
    gaps: int = 0
    restarts: int = 0
    refused: int = 0
    not_finite: int = 0
    clipped_batches: int = 0
    sensor_errors: int = 0


def assemblers_for(
    schema: Schema, before: Schema | None, assemblers: dict[int, Assembler]
) -> dict[int, Assembler]:
    """The assemblers of a board that has identified itself; if it said the same before, those.
    A stream that has changed goes on counting where the one with its id was."""
    if before is not None and schema.crc == before.crc:
        return assemblers
    follows = before is not None
    made = {stream.id: Assembler(stream, schema.tag, follows) for stream in schema.streams}
    for stream, assembler in made.items():
        if stream in assemblers:
            assembler.counters = assemblers[stream].counters
    return made


class Assembler:
    """Puts the DATA frames of one stream in line.

    `follows` says that another description of the board came before this one: whatever it sent
    then, the first batch does not continue it.
    """

    def __init__(self, schema: StreamSchema, tag: int, follows: bool = False) -> None:
        self._follows = follows
        self.schema = schema
        self.counters = StreamCounters()
        self._tag = tag
        self._dtype = np.dtype(schema.format)
        self._may_be_nan = schema.format == "<f4"
        self._scale = np.float32(schema.scale)
        self._next_index: int | None = None
        self._started = False
        self._next_seq = 0
        self._last_t_us = 0
        self.rate_hz = schema.rate_hz
        self._restart_line(0)

    def expect_start(self) -> None:
        """START was acknowledged: index 0 of a new epoch comes next, whatever is seen first."""
        self._next_index = 0
        self._started = True
        self._last_t_us = 0
        self._restart_line(0)

    def restarted_by_itself(self, data: Data) -> bool:
        """Whether the board's clock began anew in the middle of a stream, with no START between."""
        return (
            (data.t_us < self._last_t_us or bool(data.flags & CLOCK_RESTARTED))
            and not self._started
            and self._next_index is not None
            and data.schema == self._tag
        )

    def take(self, data: Data, host_s: Callable[[int], float]) -> Samples | None:
        """The batch as physical values; None (and counted) if it can't be this stream's."""
        counters = self.counters
        channels = len(self.schema.channels)
        fits = data.n and data.n * self.schema.sample_bytes == len(data.payload)
        if data.schema != self._tag or not fits:
            counters.refused += 1
            return None
        raw = np.frombuffer(data.payload, self._dtype).reshape(data.n, channels)
        if self._may_be_nan and not np.isfinite(raw).all():
            # No numbers, so no samples: the next batch reports them as lost on the board.
            counters.not_finite += data.n
            self._next_seq = (data.seq + 1) & 0xFFFF
            return None
        lost, restarted = self._place(data)
        self._next_index = (data.first_index + data.n) % INDEX_MODULUS
        self._next_seq = (data.seq + 1) & 0xFFFF
        self._last_t_us = data.t_us
        self._estimate_rate(data.t_us, lost)
        self._rows += data.n
        values = raw.astype(np.float32)
        values *= self._scale
        counters.batches += 1
        counters.samples += data.n
        counters.clipped_batches += bool(data.flags & CLIPPED)
        counters.sensor_errors += bool(data.flags & BUS_ERROR)
        t0 = host_s(data.t_us)
        return Samples(
            data.stream, data.first_index, t0, self.rate_hz, values, lost, restarted, data.flags
        )

    def _place(self, data: Data) -> tuple[int, bool]:
        """Rows missing before this batch, and whether the stream began anew."""
        counters = self.counters
        lost, restarted = 0, False
        if self._next_index is not None:
            lost = (data.first_index - self._next_index) % INDEX_MODULUS
            restarted = (
                lost > MAX_PLAUSIBLE_LOSS
                or data.t_us < self._last_t_us
                or bool(data.flags & CLOCK_RESTARTED)
            )
        if restarted:
            lost = 0
        if self._started:
            # Between the last session's end and this START nobody counted.
            restarted, self._started = counters.batches > 0, False
        if self._follows:
            restarted, self._follows = True, False
        if restarted:
            counters.restarts += 1
            self._restart_line(data.t_us)
        if lost:
            # The board counts a batch in seq even when it drops it, so a skipped index with an
            # unbroken seq means that the sensor's own FIFO ran over.
            if data.seq == self._next_seq or data.flags & GAP:
                counters.lost_on_board += lost
            else:
                counters.lost_on_wire += lost
        counters.gaps += bool(lost or restarted or data.flags & GAP)
        return lost, restarted

    def _restart_line(self, t_us: int) -> None:
        self._line = Line(RATE_FORGET)
        self._line_batches = self._rows = 0
        self._line_start_us = t_us
        self.rate_hz = self.schema.rate_hz

    def _estimate_rate(self, t_us: int, lost: int) -> None:
        """True sampling rate: the line of rows so far against the board's clock."""
        self._rows += lost
        if not self._line_batches:
            self._line_start_us = t_us
        self._line.add(self._rows, (t_us - self._line_start_us) * 1e-6)
        self._line_batches += 1
        if self._line_batches < RATE_MIN_BATCHES:
            return
        period_s = self._line.slope
        if period_s and abs(period_s * self.schema.rate_hz - 1.0) < MAX_RATE_ERROR:
            self.rate_hz = 1.0 / period_s
