"""The simulated board: every request answered, every drop counted, recordings bit for bit."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.board import MAX_QUEUED_BATCHES, RESET_SOFTWARE, SimulatedBoard
from firmware_bridge.codec import Decoder, encode
from firmware_bridge.frames import (
    Data,
    DataFlag,
    Frame,
    Heartbeat,
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
    Status,
    Stopped,
    StopRequest,
    Time,
    TimeRequest,
)
from firmware_bridge.link import Link
from firmware_bridge.recording import Playback, identify_frames, record
from firmware_bridge.samples import Assembler, Samples
from firmware_bridge.schema import parse_schema
from firmware_bridge.signals import ACCEL, MAG, board_document, make_machine
from firmware_bridge.sources import MachineSource, recording_sources

UID = "0123456789abcdef01234567"
DOCUMENT = board_document(UID, (ACCEL, MAG))
EVERYTHING = 0xFFFFFFFF
START = StartRequest(0, 1, EVERYTHING)


def two_machines() -> list[MachineSource]:
    return [MachineSource(*make_machine(name)) for name in ("vibration", "compass")]


def make_board(**options) -> SimulatedBoard:
    return SimulatedBoard(DOCUMENT, two_machines(), **options)


def ask(board: SimulatedBoard, request: Frame, now_s: float) -> list[Frame]:
    board.feed(encode(request), now_s)
    return Decoder().feed(board.poll(now_s))


STATS = (1, 0, 0, 0, 0, 0, 0, 1, 2000)
LIMITS = bytes.fromhex("2c0132001c02") * 3


@pytest.mark.parametrize(
    ("request_", "reply"),
    [
        (IdentifyRequest(0, 7, 9999), Identify(0, 7, 1, 9999, len(DOCUMENT), 0, b"")),
        (StopRequest(0, 7, EVERYTHING), Stopped(0, 7, 0, 2_000_000)),
        (StartRequest(0, 7, 1 << 9), Started(0, 7, 1, 2_000_000)),
        (StartRequest(0, 7, 1 << 1), Started(0, 7, 0, 2_000_000)),
        (TimeRequest(0, 7, 42), Time(0, 7, 0, 42, 2_000_000, 2_000_000)),
        (HeartbeatRequest(3, 7), Heartbeat(3, 7, 0, 2_000_000)),
        (StatsRequest(0, 7), Stats(0, 7, 0, *STATS)),
        (SelfTestRequest(1, 7), SelfTest(1, 7, 0, 3, 7, LIMITS)),
        (SelfTestRequest(5, 7), SelfTest(5, 7, 1, 0, 0, b"")),
        (RegReadRequest(1, 7, 0, 2), RegRead(1, 7, 0, b"\xe5\0")),
        (RegReadRequest(1, 7, 60, 5), RegRead(1, 7, 1, b"")),
        (RegReadRequest(1, 7, 60, 0), RegRead(1, 7, 1, b"")),
        (RegReadRequest(9, 7, 0, 1), RegRead(9, 7, 1, b"")),
        (ResetRequest(0, 7, 1), ResetReply(0, 7, 1)),
        (ResetRequest(0, 7, 0), ResetReply(0, 7, 0)),
        (SetRateRequest(9, 7, 800_000, 0), RateSet(9, 7, 1, 0, 0, 0)),
        (SetRateRequest(1, 7, 800_000, 167), RateSet(1, 7, 1, 0, 0, 0)),
        (SetRateRequest(1, 7, 0, 0), RateSet(1, 7, 1, 0, 0, 0)),
    ],
    ids=lambda value: str(value) if isinstance(value, tuple) else None,
)
def test_every_request_has_its_reply(request_, reply):
    (got,) = ask(make_board(), request_, 2.0)
    if isinstance(got, Identify):
        assert got.schema_crc == parse_schema(DOCUMENT).crc
        got = got._replace(schema_crc=0)
    assert got == reply


def test_time_knows_when_it_was_asked_and_when_it_answers():
    board = make_board(clock_offset_us=500)
    board.feed(encode(TimeRequest(0, 7, 42)), 1.0)
    assert Decoder().feed(board.poll(1.25)) == [Time(0, 7, 0, 42, 1_000_500, 1_250_500)]


def test_identify_gives_the_whole_document():
    (reply,) = ask(make_board(), IdentifyRequest(0, 1, 0), 0.0)
    assert reply.json == DOCUMENT
    assert parse_schema(reply.json).crc == reply.schema_crc
    (rest,) = ask(make_board(), IdentifyRequest(0, 1, 600), 0.0)
    assert rest.json == DOCUMENT[600:]


def test_set_rate_takes_the_nearest_and_changes_the_schema():
    board = make_board()
    (reply,) = ask(board, SetRateRequest(1, 2, 700_000, 0), 0.0)
    assert reply[2:5] == (Status.OK, 800_000, 20)
    (said,) = ask(board, IdentifyRequest(0, 3, 0), 0.0)
    schema = parse_schema(said.json)
    assert schema.crc == reply.schema_crc == said.schema_crc
    assert schema.stream("accel").rate_hz == 800
    ask(board, START, 1.0)
    data = [f for f in Decoder().feed(board.poll(1.501)) if f.stream == 1]
    assert len(data) == 20
    assert {(f.n, f.schema) for f in data} == {(20, schema.tag)}
    assert data[1].t_us - data[0].t_us == 25_000


@pytest.mark.parametrize("request_", [SetRateRequest(1, 2, 800_000, 0), SelfTestRequest(1, 2)])
def test_a_running_stream_is_busy(request_):
    board = make_board()
    ask(board, START, 0.0)
    (reply,) = ask(board, request_, 0.001)
    assert reply.status == Status.BUSY


def test_a_reset_takes_clock_counters_rate_and_streams():
    board = make_board()
    ask(board, SetRateRequest(1, 2, 800_000, 0), 0.0)
    ask(board, START, 1.0)
    assert ask(board, ResetRequest(0, 3, 0), 2.0) == [ResetReply(0, 3, 0)]
    assert board.poll(2.5) == b""
    (stats,) = ask(board, StatsRequest(0, 4), 3.0)
    assert (stats.uptime_ms, stats.reset_cause, stats.rx_ok) == (1000, RESET_SOFTWARE, 1)
    assert board.schema.stream("accel").rate_hz == 3200
    ask(board, START, 3.0)
    first, second, *_ = [f for f in Decoder().feed(board.poll(3.1)) if f.stream == 1]
    assert first.flags == DataFlag.EMULATED | DataFlag.CLOCK_RESTARTED
    assert (first.seq, first.first_index, first.t_us) == (0, 0, 1_000_000)
    assert second.flags == DataFlag.EMULATED


def test_start_again_begins_at_index_zero():
    board = make_board()
    ask(board, START, 0.0)
    Decoder().feed(board.poll(1.0))
    started, *data = ask(board, START, 1.02)
    assert isinstance(started, Started)
    assert data == []
    first = Decoder().feed(board.poll(1.06))[0]
    assert (first.seq, first.first_index, first.t_us) == (0, 0, started.t_us)


@pytest.mark.parametrize(
    "frame", [Data(1, 0, 0, 0, 2, 0, 0, bytes(12)), Started(0, 1, 0, 5), Time(0, 1, 0, 1, 2, 3)]
)
def test_a_board_ignores_its_own_echo(frame):
    assert ask(make_board(), frame, 0.0) == []


def test_damage_from_the_host_is_in_the_stats():
    board = make_board()
    good = encode(HeartbeatRequest(0, 1))
    board.feed(good[:-2] + b"\x01\0" + b"\x09\x01\0" + b"\xff" * 1100 + b"\0", 0.0)
    (stats,) = ask(board, StatsRequest(0, 2), 0.0)
    assert (stats.rx_ok, stats.bad_crc, stats.bad_cobs, stats.oversize) == (1, 1, 1, 1)


@given(st.binary(max_size=600), st.floats(0, 9))
def test_a_board_never_raises(noise, now_s):
    board = make_board()
    board.feed(noise, now_s)
    board.feed(b"\0" + encode(HeartbeatRequest(0, 1)), now_s)
    assert isinstance(Decoder(sync=True).feed(b"\0" + board.poll(now_s))[-1], Heartbeat)


@given(st.lists(st.sampled_from([encode(HeartbeatRequest(0, n)) for n in range(9)]), min_size=30))
def test_replies_are_bounded(requests):
    board = make_board()
    board.feed(b"".join(requests), 0.0)
    assert len(Decoder().feed(board.poll(0.0))) == 16


@pytest.mark.parametrize("asleep_s", [1.0, 4.0, 3000.0])
def test_what_a_board_drops_is_counted_exactly(asleep_s):
    board = make_board()
    ask(board, StartRequest(0, 1, 1 << 1), 0.0)
    assembler = Assembler(ACCEL, board.schema.tag)
    assembler.expect_start()
    frames = Decoder().feed(board.poll(0.5))
    board.feed(encode(HeartbeatRequest(0, 2)), 0.5 + asleep_s)
    reply, *late = Decoder().feed(board.poll(0.5 + asleep_s))
    frames += late
    taken = [assembler.take(frame, lambda us: us * 1e-6) for frame in frames]
    assert len(late) == MAX_QUEUED_BATCHES
    made = int((0.5 + asleep_s) / 0.025)
    counters = assembler.counters
    assert counters.lost_on_board == 80 * (made - 20 - MAX_QUEUED_BATCHES)
    assert (counters.lost_on_wire, counters.gaps) == (0, 1)
    assert taken[-1].first_index == 80 * (made - 1)


def test_room_is_respected_and_nothing_is_torn():
    board = make_board()
    ask(board, START, 0.0)
    wire = b""
    for room in (0, 100, 1030, 1500, 4000):
        out = board.poll(0.5, room)
        assert len(out) <= room
        wire += out
    frames = Decoder().feed(wire)
    assert frames
    assert Decoder().feed(wire[-1:]) == []
    assert wire.endswith(b"\0")


def a_recording(gaps=((130, 55),)) -> bytes:
    random = np.random.default_rng(2)
    raw = random.integers(-900, 900, (1000, 3)).astype("<i2")
    mag = random.integers(-900, 900, (31, 3)).astype("<i2")
    return (
        identify_frames(DOCUMENT)
        + b"".join(record(DOCUMENT, ACCEL, raw, 77_000_000, gaps=gaps))
        + b"".join(record(DOCUMENT, MAG, mag, 77_003_000))
    )


def played(board: SimulatedBoard, step_s: float = 0.01) -> list[Data]:
    """All that a board has to say, on a simulated clock."""
    board.feed(encode(START), 0.0)
    decoder, now_s = Decoder(), 0.0
    frames = decoder.feed(board.poll(now_s))
    while not board.finished and now_s < 100:
        now_s += step_s
        board.feed(encode(HeartbeatRequest(0, 1)), now_s)
        frames += decoder.feed(board.poll(now_s, 8192))
    return [frame for frame in frames if isinstance(frame, Data)]


@pytest.mark.parametrize(("speed", "step_s"), [(1.0, 0.01), (10.0, 0.002), (inf, 0.01)])
def test_a_recording_is_played_bit_for_bit(speed, step_s):
    data = a_recording()
    document, sources = recording_sources([data[at : at + 700] for at in range(0, len(data), 700)])
    assert document == DOCUMENT
    frames = played(SimulatedBoard(document, sources, speed=speed), step_s)
    originals = [frame for frame in Decoder().feed(data) if isinstance(frame, Data)]
    for stream in (1, 2):
        got = [f for f in frames if f.stream == stream]
        was = [f for f in originals if f.stream == stream]
        assert [f.payload for f in got] == [f.payload for f in was]
        assert [f.first_index for f in got] == [f.first_index for f in was]
        assert [f.seq for f in got] == [f.seq for f in was]
        assert [f.t_us - frames[0].t_us for f in got] == [f.t_us - 77_000_000 for f in was]
        assert [f.flags for f in got] == [f.flags | DataFlag.EMULATED for f in was]


def test_a_recording_played_live_gives_the_samples_of_the_file():
    data = a_recording()
    board = SimulatedBoard(*recording_sources([data]), speed=10.0)
    link, playback, now_s = Link(), Playback(), 0.0
    events = link.opened(now_s)
    while not board.finished and now_s < 20:
        now_s += 0.002
        events += link.tick(now_s)
        board.feed(link.outgoing(now_s), now_s)
        events += link.feed(board.poll(now_s), now_s)
    live = [event for event in events if isinstance(event, Samples)]
    file = [event for event in playback.feed(data) if isinstance(event, Samples)]
    for stream in (1, 2):
        a = [s for s in live if s.stream == stream]
        b = [s for s in file if s.stream == stream]
        assert [s.values.tolist() for s in a] == [s.values.tolist() for s in b]
        assert [s.lost_before for s in a] == [s.lost_before for s in b]
        assert [s.rate_hz for s in a] == pytest.approx([s.rate_hz for s in b])


def test_a_fast_board_is_true_to_itself():
    """At ten times the speed TIME, DATA and the end of the last batch are on one clock."""
    board = SimulatedBoard(*recording_sources([a_recording()]), speed=10.0)
    (time_,) = ask(board, TimeRequest(0, 1, 0), 3.0)
    assert time_.t_rx_us == 30_000_000
    started, *_ = ask(board, START, 3.0)
    frames = Decoder().feed(board.poll(3.01))
    assert started.t_us == 30_000_000
    ends = [f.t_us + f.n * 1e6 / 3200 for f in frames if f.stream == 1]
    assert ends
    assert max(ends) <= 30_100_000


def test_a_restart_within_a_recording_stays_one_and_time_goes_on():
    raw = np.ones((160, 3), "<i2")
    sessions = [b"".join(record(DOCUMENT, ACCEL, raw, start_us)) for start_us in (9_000_000, 5)]
    _, sources = recording_sources([identify_frames(DOCUMENT) + b"".join(sessions)])
    batches = [sources[0].take() for _ in range(4)]
    assert sources[0].ready_us() is None
    assert [batch.t_us for batch in batches] == [0, 25_000, 50_000, 75_000]
    assert [batch.first_index for batch in batches] == [0, 80, 0, 80]
    restarted = [bool(batch.flags & DataFlag.CLOCK_RESTARTED) for batch in batches]
    assert restarted == [False, False, True, False]


def test_repeat_goes_on_without_a_lie():
    document, sources = recording_sources([a_recording(gaps=())], repeat=True)
    source = sources[0]
    batches = [source.take() for _ in range(40)]
    ends = [batch.first_index + batch.n for batch in batches]
    assert [batch.first_index for batch in batches[1:]] == ends[:-1]
    assert [batch.seq for batch in batches] == list(range(40))
    assert [i for i, batch in enumerate(batches) if batch.flags & DataFlag.GAP] == [13, 26, 39]
    step_us = np.diff([batch.t_us for batch in batches])
    assert set(step_us.tolist()) == {25_000, 12_500}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no IDENTIFY"),
        (identify_frames(DOCUMENT), "no whole batch"),
        (b"noise\0", "no IDENTIFY"),
    ],
)
def test_what_is_no_recording_is_refused_in_words(data, said):
    with pytest.raises(ValueError, match=said):
        recording_sources([data])
