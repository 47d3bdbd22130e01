"""The firmware's core as a whole board: a Link talks to it, chips that count are behind it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from firmware_bridge.codec import Decoder, encode
from firmware_bridge.frames import (
    Data,
    DataFlag,
    HeartbeatRequest,
    Identify,
    IdentifyRequest,
    RateSet,
    RegRead,
    RegReadRequest,
    ResetReply,
    ResetRequest,
    SelfTest,
    SelfTestRequest,
    SetRateRequest,
    Started,
    StartRequest,
    Stats,
    StatsRequest,
    StopRequest,
    Time,
    TimeRequest,
)
from firmware_bridge.link import Identified, Link, State, StateChanged
from firmware_bridge.samples import Samples
from firmware_bridge.schema import parse_schema
from tests.firmware import Chip, Driver, Fault, Harness, fresh_harness, signal_row

BOTH = [(Driver.ADXL345, True), (Driver.QMC5883L, False)]
EVERYTHING = 0xFFFFFFFF
STEP_US = 500
ACCEL_ID, MAG_ID = 1, 2
PERIOD_S = 1 / 3200


class Board:
    """A node in the harness, asked by hand."""

    def __init__(self, sensors: list[tuple[Driver, bool]] = BOTH, **options: object) -> None:
        self.harness: Harness = fresh_harness()
        self.there = self.harness.node(sensors, **options)
        self.decoder = Decoder()

    def ask(self, request: object) -> object:
        """The reply to one request; DATA that come with it are dropped."""
        replies = [frame for frame in self.say(request) if not isinstance(frame, Data)]
        assert len(replies) == 1
        return replies[0]

    def say(self, request: object) -> list[object]:
        self.harness.node_feed(encode(request))
        return self.decoder.feed(self.harness.node_run(4))

    def run(self, seconds: float) -> list[Data]:
        """What it sends in that time."""
        wire = self.harness.node_run(round(seconds * 1e6 / STEP_US), STEP_US)
        return [frame for frame in self.decoder.feed(wire) if isinstance(frame, Data)]


class Bench(Board):
    """A node and a Link, both on the node's time."""

    def __init__(self, sensors: list[tuple[Driver, bool]] = BOTH, **options: object) -> None:
        super().__init__(sensors, **options)
        self.link, self.events = Link(), []

    @property
    def now_s(self) -> float:
        return self.harness.time_us * 1e-6

    def open(self) -> Bench:
        self.events += self.link.opened(self.now_s)
        self.pass_time(1.0)
        assert self.link.state is State.STREAMING, self.events[-1]
        return self

    def pass_time(self, seconds: float) -> list[object]:
        """Events of that time."""
        before, end_s = len(self.events), self.now_s + seconds
        while self.now_s < end_s:
            self.harness.node_feed(self.link.outgoing(self.now_s))
            wire = self.harness.node_run(4, STEP_US)
            self.events += self.link.feed(wire, self.now_s)
            self.events += self.link.tick(self.now_s)
        return self.events[before:]

    def samples(self, stream: int) -> list[Samples]:
        return [e for e in self.events if isinstance(e, Samples) and e.stream == stream]


def raw_rows(samples: list[Samples], scale: float) -> list[tuple[int, int, int]]:
    values = np.concatenate([one.values for one in samples])
    return [(x, y, z) for x, y, z in np.rint(values / scale).astype(int).tolist()]


def test_every_row_of_both_chips_arrives_in_its_order() -> None:
    bench = Bench().open()
    bench.pass_time(2.0)
    accel = raw_rows(bench.samples(ACCEL_ID), 0.0039)
    assert len(accel) > 2.8 * 3200
    assert accel == [signal_row(n) for n in range(len(accel))]
    mag = raw_rows(bench.samples(MAG_ID), 0.0333333)
    assert len(mag) > 270
    first = next(n for n in range(10) if signal_row(n) == mag[0])
    assert mag == [signal_row(first + n) for n in range(len(mag))]
    assert all(one.contiguous and one.flags == 0 for one in bench.events if type(one) is Samples)
    assert bench.link.decoder.counters.damaged == 0


@pytest.mark.parametrize("ppm", [-40_000, 0, 40_000])
def test_a_row_is_dated_to_within_a_period(ppm: int) -> None:
    """Also when the sensor's oscillator is four per cent off, as they are."""
    bench = Bench()
    bench.harness.ppm(Chip.ADXL345, ppm)
    bench.open()
    bench.pass_time(2.0)
    samples = bench.samples(ACCEL_ID)
    true_period_s = PERIOD_S / (1 + ppm * 1e-6)
    # The board's clock is the host's here; row n was taken n + 1 periods after the chip's start.
    start_s = [one.t0 - (one.first_index + 1) * true_period_s for one in samples]
    # A period too early here, one too late there, and the chip's periods are longer than ours.
    assert max(start_s) - min(start_s) < 2.1 * PERIOD_S
    assert samples[-1].rate_hz == pytest.approx(1 / true_period_s, rel=1e-3)
    starts = [one.t0 for one in samples]
    assert starts == sorted(starts)


def test_identify_comes_in_chunks_that_join() -> None:
    board, document = Board(), b""
    while True:
        reply = board.ask(IdentifyRequest(0, 1, len(document)))
        assert isinstance(reply, Identify)
        document += reply.json
        if len(document) >= reply.total:
            break
    for offset in range(0, len(document) + 2, 7):
        part = board.ask(IdentifyRequest(0, 2, offset))
        assert part.json == document[offset : offset + 960]
        assert part.status == (0 if offset < len(document) else 1)
    schema = parse_schema(document)
    assert (schema.crc, schema.uid) == (reply.schema_crc, bytes(range(12)).hex())
    accel, mag = schema.streams
    assert (accel.sensor, accel.rate_hz, accel.batch, accel.scale) == ("ADXL345", 3200, 80, 0.0039)
    assert (mag.sensor, mag.rate_hz, mag.batch, mag.unit) == ("QMC5883L", 100, 10, "uT")


def test_set_rate_is_a_new_schema_and_a_new_pace() -> None:
    board = Board()
    old = board.ask(IdentifyRequest(0, 1, 0)).schema_crc
    reply = board.ask(SetRateRequest(ACCEL_ID, 2, 900_000, 0))
    assert isinstance(reply, RateSet)
    assert (reply.status, reply.rate_millihertz, reply.batch) == (0, 800_000, 20)
    said = board.ask(IdentifyRequest(0, 3, 0))
    assert said.schema_crc == reply.schema_crc != old
    assert parse_schema(said.json).stream("accel").rate_hz == 800
    board.say(StartRequest(0, 4, 1 << ACCEL_ID))
    data = board.run(1.0)
    assert {(one.n, one.schema) for one in data} == {(20, reply.schema_crc & 0xFF)}
    assert sum(one.n for one in data) == pytest.approx(800, abs=40)
    assert board.ask(SetRateRequest(ACCEL_ID, 5, 3_200_000, 0)).status == 2
    assert board.ask(SetRateRequest(9, 6, 3_200_000, 0)).status == 1


def test_a_host_that_does_not_read_costs_the_oldest_batches_and_all_are_counted() -> None:
    bench = Bench().open()
    bench.pass_time(0.1)
    bench.harness.line(blocked=True)
    bench.harness.node_run(2000, STEP_US)  # a second: 40 batches and 10, 10 fit
    bench.harness.line()
    bench.pass_time(1.0)
    assembler = bench.link.assemblers[ACCEL_ID]
    counters, last = assembler.counters, bench.samples(ACCEL_ID)[-1]
    assert counters.lost_on_wire == 0
    assert 80 * 25 <= counters.lost_on_board <= 80 * 40
    assert counters.gaps == 1
    assert last.first_index + len(last.values) == counters.samples + counters.lost_on_board
    rows = raw_rows(bench.samples(ACCEL_ID)[-5:], 0.0039)
    assert rows == [signal_row(last.first_index - 320 + n) for n in range(400)]
    assert bench.ask(StatsRequest(0, 99)).tx_dropped >= 30
    assert bench.harness.node_state().light_code == 3


def test_a_late_main_loop_costs_what_the_fifo_could_not_hold() -> None:
    bench = Bench().open()
    bench.harness.time_us += 40_000  # 128 rows: the FIFO keeps 32
    bench.pass_time(0.5)
    counters, last = bench.link.assemblers[ACCEL_ID].counters, bench.samples(ACCEL_ID)[-1]
    assert counters.gaps == 1
    assert 80 < counters.lost_on_board < 112
    true_index = last.first_index
    # The clock told how many are missing, and it may be one off.
    row = raw_rows([last], 0.0039)[0]
    assert row in [signal_row(true_index + off) for off in (-1, 0, 1)]
    stats = bench.ask(StatsRequest(0, 99))
    assert isinstance(stats, Stats)
    mag = bench.link.assemblers[MAG_ID].counters
    assert stats.fifo_overrun == counters.lost_on_board + mag.lost_on_board


def test_start_begins_at_zero_and_stop_is_silence() -> None:
    board = Board()
    assert board.run(0.5) == []
    started = board.ask(StartRequest(0, 1, EVERYTHING))
    assert isinstance(started, Started)
    first = board.run(0.3)
    for stream in (ACCEL_ID, MAG_ID):
        one = [data for data in first if data.stream == stream]
        assert [data.seq for data in one] == list(range(len(one)))
        assert one[0].first_index == 0
        assert 0 <= one[0].t_us - started.t_us <= 12_000
    board.say(StartRequest(0, 2, 1 << ACCEL_ID))
    again = [data for data in board.run(0.1) if data.stream == ACCEL_ID]
    assert (again[0].seq, again[0].first_index) == (0, 0)
    assert board.ask(StopRequest(0, 3, 1 << ACCEL_ID)).status == 0
    assert {data.stream for data in board.run(0.5)} == {MAG_ID}
    board.say(StopRequest(0, 4, EVERYTHING))
    assert board.run(0.5) == []
    assert board.ask(StartRequest(0, 5, 1 << 7)).status == 1


def test_five_seconds_without_a_host_are_silence() -> None:
    board = Board()
    board.say(StartRequest(0, 1, EVERYTHING))
    assert board.run(4.8)
    board.say(HeartbeatRequest(0, 2))
    assert board.run(4.8)
    board.run(0.4)
    assert board.run(1.0) == []
    # An echo of its own is nobody's voice.
    board.say(StartRequest(0, 3, EVERYTHING))
    for _ in range(6):
        data = board.run(1.0)
        board.harness.node_feed(encode(data[0]) if data else b"")
    assert board.run(0.5) == []


def test_time_is_told_as_late_as_it_can_be() -> None:
    board = Board()
    board.harness.line(blocked=True)
    board.harness.node_feed(encode(TimeRequest(0, 1, 2**64 - 2)))
    board.harness.node_run(1)
    heard_us = board.harness.time_us
    board.harness.time_us += 5000
    board.harness.line()
    (reply,) = board.decoder.feed(board.harness.node_run(1))
    assert isinstance(reply, Time)
    assert reply.token == 2**64 - 2
    assert reply.t_rx_us <= heard_us
    assert reply.t_tx_us - reply.t_rx_us == pytest.approx(5000, abs=200)


def test_a_sensor_that_goes_is_said_and_comes_back_without_the_other_noticing() -> None:
    bench = Bench().open()
    bench.harness.fault(Chip.ADXL345, Fault.ABSENT)
    bench.pass_time(0.6)
    assert bench.harness.node_state().light_code == 2
    bench.harness.fault(Chip.ADXL345, Fault.WELL)
    bench.harness.power_cycle(Chip.ADXL345)
    events = bench.pass_time(2.5)
    accel = [e for e in events if isinstance(e, Samples) and e.stream == ACCEL_ID]
    assert accel[0].flags & DataFlag.BUS_ERROR
    assert accel[0].flags & DataFlag.GAP
    assert 0.5 * 3200 < accel[0].lost_before < 2.0 * 3200
    assert all(one.contiguous for one in accel[1:])
    assert all(one.contiguous for one in bench.samples(MAG_ID))
    assert not any(isinstance(e, StateChanged) for e in events)
    assert bench.harness.node_state().light_code in (0, 3)


def test_without_any_sensor_start_says_so_and_with_one_the_rest_runs() -> None:
    bench = Bench()
    bench.harness.fault(Chip.ADXL345, Fault.ABSENT)
    bench.harness.fault(Chip.QMC5883L, Fault.ABSENT)
    assert bench.harness.node(BOTH) == [False, False]
    assert bench.ask(StartRequest(0, 1, EVERYTHING)).status == 3
    bench.harness.fault(Chip.QMC5883L, Fault.WELL)
    assert bench.harness.node(BOTH) == [False, True]
    bench.open()
    assert {e.stream for e in bench.events if isinstance(e, Samples)} == {MAG_ID}
    (said,) = [e for e in bench.events if isinstance(e, Identified)]
    assert [stream.name for stream in said.schema.streams] == ["accel", "mag"]


def test_clipped_rows_are_said_to_be() -> None:
    board = Board()
    board.harness.still(Chip.ADXL345, (0, -4096, 12))
    board.say(StartRequest(0, 1, 1 << ACCEL_ID))
    assert {data.flags for data in board.run(0.2)} == {DataFlag.CLIPPED}


def test_a_reset_is_told_once_in_the_first_batch_of_each_stream() -> None:
    board = Board(reset_cause=4, emulated=True)
    assert board.ask(StatsRequest(0, 1)).reset_cause == 4
    board.say(StartRequest(0, 2, EVERYTHING))
    by_stream = sorted(board.run(0.5), key=lambda data: data.stream)
    for _, data in itertools.groupby(by_stream, key=lambda data: data.stream):
        flags = [one.flags for one in data]
        assert flags[0] == DataFlag.EMULATED | DataFlag.CLOCK_RESTARTED
        assert set(flags[1:]) == {DataFlag.EMULATED}


@pytest.mark.parametrize("mode", [0, 1])
def test_a_reset_happens_when_its_reply_has_left(mode: int) -> None:
    board = Board()
    board.harness.line(baud=921_600)
    board.harness.node_feed(encode(ResetRequest(0, 1, mode)))
    board.harness.node_run(1)
    assert board.harness.restarts() == (0, 0)
    wire = board.harness.node_run(50, 100)
    assert isinstance(board.decoder.feed(wire)[0], ResetReply)
    assert board.harness.restarts() == (1, mode)
    board.harness.line()
    assert board.ask(ResetRequest(0, 2, 2)).status == 1


def test_self_test_and_registers_want_a_stream_that_rests() -> None:
    board = Board()
    board.harness.still(Chip.ADXL345, (0, 0, 256))
    test = board.ask(SelfTestRequest(ACCEL_ID, 1))
    assert isinstance(test, SelfTest)
    assert (test.status, test.channels, test.pass_mask) == (0, 3, 0b111)
    assert board.ask(SelfTestRequest(MAG_ID, 2)).status == 1  # this chip has none
    board.harness.self_test_force(Chip.ADXL345, (300, 0, 300))
    assert board.ask(SelfTestRequest(ACCEL_ID, 3)).pass_mask == 0b101
    registers = board.ask(RegReadRequest(ACCEL_ID, 4, 0, 1))
    assert isinstance(registers, RegRead)
    assert registers.values == b"\xe5"
    board.say(StartRequest(0, 5, EVERYTHING))
    assert board.ask(SelfTestRequest(ACCEL_ID, 6)).status == 2
    assert board.ask(RegReadRequest(ACCEL_ID, 7, 0, 1)).status == 2
    board.say(StopRequest(0, 8, EVERYTHING))
    board.harness.fault(Chip.ADXL345, Fault.BUS_ERROR)
    assert board.ask(RegReadRequest(ACCEL_ID, 9, 0, 1)).status == 3


def test_too_much_at_once_is_counted_and_what_comes_then_is_heard() -> None:
    board = Board()
    assert board.harness.node_feed(b"\x55" * 700) == 700 - 512
    board.harness.node_run(1)
    board.harness.node_feed(b"\0")
    stats = board.ask(StatsRequest(0, 1))
    assert isinstance(stats, Stats)
    assert (stats.rx_overrun, stats.bad_cobs + stats.bad_crc) == (188, 1)


@pytest.mark.parametrize("mask", [0xFFFF, 0xFFFFFFFF])
def test_the_clock_never_falls_back(mask: int) -> None:
    random = np.random.default_rng(2)
    steps = random.integers(0, min(mask, 2**31), 2000)
    truth = np.cumsum(steps)
    counts = [int(time) & mask for time in truth]
    assert fresh_harness().clock(mask, counts) == truth.tolist()
