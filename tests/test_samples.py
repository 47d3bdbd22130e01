"""Batches of one stream: what is missing is an exact number, and nothing else gets through."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from firmware_bridge.frames import Data, DataFlag
from firmware_bridge.samples import Assembler, Samples, assemblers_for
from firmware_bridge.schema import StreamSchema, parse_schema
from firmware_bridge.signals import ACCEL, MAG, board_document

TAG = 0x5A


def stream(fmt: str = "<i2") -> StreamSchema:
    """Two channels at 100 Hz, ten rows a batch."""
    return StreamSchema(1, "s", "chip", fmt, ("a", "b"), "g", 0.5, 100.0, 10)


def batch(seq: int, first_index: int, fmt: str = "<i2", **changes: object) -> Data:
    """Ten rows whose raw numbers are 0, 1, 2..."""
    payload = np.arange(20).astype(fmt).tobytes()
    data = Data(1, seq, first_index, first_index * 10_000, 10, TAG, 0, payload)
    return data._replace(**changes)


def take(assembler: Assembler, data: Data) -> Samples | None:
    """With the board's clock as the host's."""
    return assembler.take(data, lambda t_us: t_us * 1e-6)


@pytest.mark.parametrize("fmt", ["<i2", "<i4", "<f4"])
def test_values_are_physical_float32(fmt: str) -> None:
    samples = take(Assembler(stream(fmt), TAG), batch(0, 0, fmt))
    assert samples
    assert samples.values.dtype == np.float32
    np.testing.assert_array_equal(samples.values, np.arange(20).reshape(10, 2) * 0.5)


def test_loss_is_counted_where_it_happened() -> None:
    assembler = Assembler(stream(), TAG)
    take(assembler, batch(0, 0))
    wire = take(assembler, batch(3, 30))  # two batches never came
    board = take(assembler, batch(4, 47))  # seq is whole: the sensor's FIFO ran over
    assert (wire and wire.lost_before, board and board.lost_before) == (20, 7)
    assert (assembler.counters.lost_on_wire, assembler.counters.lost_on_board) == (20, 7)
    assert assembler.counters.gaps == 2


def test_index_and_sequence_wrap_without_a_gap() -> None:
    assembler = Assembler(stream(), TAG)
    take(assembler, batch(0xFFFF, 2**32 - 10, t_us=0))
    samples = take(assembler, batch(0, 0, t_us=100_000))
    assert samples
    assert samples.contiguous


@pytest.mark.parametrize(
    "second",
    [batch(1, 10, t_us=-1 % 2**64 * 0), batch(1, 0), batch(1, 10, flags=DataFlag.CLOCK_RESTARTED)],
)
def test_a_clock_or_index_that_runs_back_is_a_restart(second: Data) -> None:
    assembler = Assembler(stream(), TAG)
    take(assembler, batch(0, 0, t_us=5_000_000))
    samples = take(assembler, second)
    assert samples
    assert samples.restarted
    assert not samples.contiguous
    assert assembler.counters.restarts == 1


def test_after_start_the_first_batch_tells_what_the_wire_lost() -> None:
    assembler = Assembler(stream(), TAG)
    assembler.expect_start()
    samples = take(assembler, batch(2, 20))
    assert samples
    assert (samples.lost_before, samples.restarted) == (20, False)
    assembler.expect_start()
    samples = take(assembler, batch(0, 0))
    assert samples
    assert samples.restarted


@pytest.mark.parametrize(
    "changes", [{"schema": TAG ^ 1}, {"n": 9}, {"n": 0, "payload": b""}, {"payload": b"\0" * 41}]
)
def test_what_is_not_this_stream_is_refused_and_counted(changes: dict[str, object]) -> None:
    assembler = Assembler(stream(), TAG)
    assert take(assembler, batch(0, 0, **changes)) is None
    assert assembler.counters.refused == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_lost_samples(bad: float) -> None:
    assembler = Assembler(stream("<f4"), TAG)
    take(assembler, batch(0, 0, "<f4"))
    payload = np.arange(20, dtype="<f4")
    payload[7] = bad
    assert take(assembler, batch(1, 10, "<f4", payload=payload.tobytes())) is None
    after = take(assembler, batch(2, 20, "<f4"))
    assert after
    assert after.lost_before == 10
    assert assembler.counters.not_finite == assembler.counters.lost_on_board == 10


def test_the_true_rate_comes_from_index_and_clock() -> None:
    assembler = Assembler(stream(), TAG)
    for k in range(200):
        take(assembler, batch(k, 10 * k, t_us=k * 103_000))
    assert assembler.rate_hz == pytest.approx(100 / 1.03, rel=1e-6)


def test_a_stream_that_changes_goes_on_counting() -> None:
    """SET_RATE makes a new description; what was lost before stays lost."""
    said = parse_schema(board_document("0" * 24, (ACCEL, MAG)))
    first = assemblers_for(said, None, {})
    take(first[1], batch(0, 0)._replace(schema=99))
    assert assemblers_for(said, said, first) is first
    faster = parse_schema(board_document("0" * 24, (replace(ACCEL, rate_hz=1600.0), MAG)))
    second = assemblers_for(faster, said, first)
    assert second[1] is not first[1]
    assert second[1].counters.refused == 1
