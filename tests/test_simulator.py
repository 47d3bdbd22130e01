"""The simulated board: every request answered, recordings played bit for bit, and a live pty."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.__main__ import main
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
from firmware_bridge.hostile import HostileWire
from firmware_bridge.link import Identified, Link, State
from firmware_bridge.port import Port
from firmware_bridge.recording import Playback, identify_frames, record
from firmware_bridge.samples import Assembler, Samples
from firmware_bridge.schema import parse_schema
from firmware_bridge.signals import ACCEL, MAG, Machine, board_document, make_machine
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
        board.feed(link.outgoing(), now_s)
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


def through(wire: HostileWire, data: bytes, chunk: int = 500) -> bytes:
    for at in range(0, len(data), chunk):
        wire.feed(data[at : at + chunk], at * 1e-6)
    return b"".join(wire.poll(1e9))


def test_a_good_wire_changes_nothing():
    data = bytes(range(256)) * 40
    assert through(HostileWire(), data) == data
    assert through(HostileWire(split=True, delay_s=0.1), data) == data


def test_the_same_seed_throws_the_same_dice():
    data = bytes(10_000)
    one, two, three = (through(HostileWire(0.01, 0.01, seed=seed), data) for seed in (1, 1, 2))
    assert one == two != three


def test_a_bad_wire_is_as_bad_as_it_says():
    data = bytes(100_000)
    lossy, noisy, double = (
        HostileWire(lose=0.01),
        HostileWire(flip=0.01),
        HostileWire(duplicate=0.5),
    )
    assert 800 < 100_000 - len(through(lossy, data)) == lossy.lost_bytes < 1200
    flipped = np.frombuffer(through(noisy, data), np.uint8)
    assert 800 < np.count_nonzero(flipped) == noisy.flipped_bytes < 1200
    assert set(flipped.tolist()) == {0, 1, 2, 4, 8, 16, 32, 64, 128}
    assert len(through(double, data)) == 100_000 + 500 * double.doubled_chunks
    assert 60 < double.doubled_chunks < 140


def test_delay_holds_and_keeps_the_order():
    wire = HostileWire(delay_s=0.1)
    for at in range(100):
        wire.feed(bytes([at]), at * 0.001)
    assert wire.poll(0.049) == []
    assert wire.held_bytes == 100
    early = wire.poll(0.12)
    assert 0 < len(early) < 100
    assert b"".join(early + wire.poll(0.2)) == bytes(range(100))


@contextmanager
def simulator(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "firmware_bridge", "simulate", *arguments],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)
        assert process.stdout
        process.stdout.close()


def said(process: subprocess.Popen[str]) -> dict:
    assert process.stdout
    return json.loads(process.stdout.readline())


def listen(
    path: str, enough: Callable[[Link, list], bool], link: Link | None = None
) -> tuple[Link, list]:
    """A host on a real port until it has enough (or 20 s are over)."""
    link, port, events = link or Link(), Port(path, 921_600), []
    try:
        events += link.opened(time.monotonic())
        end_s = time.monotonic() + 20
        while not enough(link, events) and time.monotonic() < end_s:
            events += link.tick(time.monotonic())
            port.write(link.outgoing())
            events += link.feed(port.read(0.02), time.monotonic())
            if link.state is State.STALE:
                events += link.opened(time.monotonic())
    finally:
        port.close()
    assert enough(link, events)
    return link, events


def streamed(samples: int) -> Callable[[Link, list], bool]:
    return lambda link, events: (
        1 in link.assemblers and link.assemblers[1].counters.samples >= samples
    )


def test_a_live_board_and_a_host_that_comes_back(tmp_path: Path):
    name = tmp_path / "board"
    arguments = (
        "--machine",
        "vibration",
        "--machine",
        "compass",
        "--link",
        str(name),
        "--uid",
        UID,
    )
    with simulator(*arguments, "--fault", "bearing:0.2:0.4:2:x") as process:
        assert said(process) == {"port": str(name), "uid": UID}
        on, off = said(process), said(process)
        assert (on["fault"], on["state"], on["channel"], on["severity"]) == (
            "bearing",
            "on",
            "x",
            2,
        )
        assert off["state"] == "off"
        assert off["monotonic_s"] - on["monotonic_s"] == pytest.approx(0.2)
        assert off["unix_s"] - time.time() == pytest.approx(
            off["monotonic_s"] - time.monotonic(), abs=0.01
        )
        for _ in range(2):
            link, events = listen(str(name), streamed(1600))
            counters = link.assemblers[1].counters
            assert (counters.lost_on_wire, counters.refused) == (0, 0)
            assert link.decoder.counters.damaged == 0
            identified = next(e for e in events if isinstance(e, Identified))
            assert identified.document == DOCUMENT
            assert {e.stream for e in events if isinstance(e, Samples)} == {1, 2}
        assert process.poll() is None
    assert process.returncode == 0
    assert not name.is_symlink()


def test_a_live_board_on_a_terrible_cable_that_resets(tmp_path: Path):
    name = tmp_path / "board"
    with simulator(
        "--link", str(name), "--lose", "2e-5", "--flip", "2e-5", "--split", "--delay-ms", "5",
        "--reset-at", "1.5",
    ) as process:  # fmt: skip
        said(process)

        def survived(link: Link, events: list) -> bool:
            return link.state is State.STREAMING and any(
                e.restarted for e in events if isinstance(e, Samples)
            )

        link, events = listen(str(name), survived)
        assert said(process)["reset"] is True
        samples = [e for e in events if isinstance(e, Samples)]
        counters = link.assemblers[1].counters
        lost = counters.lost_on_wire + counters.lost_on_board
        assert sum(s.lost_before for s in samples) == lost


def test_a_recording_on_a_pty_as_fast_as_it_is_read(tmp_path: Path):
    file = tmp_path / "one.rec"
    assert main(["simulate", "--seconds", "20", "--fault", "bearing:5", "--out", str(file)]) == 0
    with simulator("--recording", str(file), "--speed", "inf") as process:
        port = said(process)["port"]
        _, events = listen(port, streamed(64_000))
    live = np.concatenate([e.values for e in events if isinstance(e, Samples)])
    playback = Playback()
    recorded = [e.values for e in playback.feed(file.read_bytes()) if isinstance(e, Samples)]
    assert np.array_equal(live, np.concatenate(recorded))


def test_a_written_recording_is_the_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "m.rec"
    arguments = ["--machine", "vibration", "--machine", "compass", "--seconds", "3", "--seed", "9"]
    assert main(["simulate", *arguments, "--fault", "bearing:1:2", "--out", str(file)]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out == {"out": str(file), "bytes": file.stat().st_size, "seconds": 3.0}
    playback = Playback()
    samples = [e for e in playback.feed(file.read_bytes()) if isinstance(e, Samples)]
    values = np.concatenate([s.values for s in samples if s.stream == 1])
    assert values.shape == (9600, 3)
    machine: Machine = make_machine("vibration", 9)[1]
    error = np.abs(values - machine.values(0, 9600))
    assert error[:3200].max() <= 0.0039 / 2 + 1e-6
    assert error[3200:6400, 1].max() > 0.05
    assert main(["dump", str(file), "--json"]) == 0
    *frames, totals = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [f["frame"] for f in frames] == ["Identify"] + ["Data"] * (120 + 30)
    assert totals["totals"]["streams"]["accel"]["samples"] == 9600
    assert totals["totals"]["wire"]["frames"] == 151
    assert main(["dump", str(file)]) == 0
    text = capsys.readouterr().out
    assert "Data       stream=1 seq=0 first_index=0 t_us=0 n=80" in text
    assert "flags=EMULATED payload=480B" in text


def test_dump_of_a_port(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with simulator("--machine", "compass") as process:
        port = said(process)["port"]
        assert main(["dump", port, "--seconds", "1.5", "--json"]) == 0
    *frames, totals = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"Identify", "Time", "Started", "Data"} <= {f["frame"] for f in frames}
    assert totals["totals"]["problem"] is None
    assert totals["totals"]["streams"]["mag"]["samples"] > 0


@pytest.mark.parametrize(
    ("arguments", "code", "error"),
    [
        (["dump", "/nowhere"], 74, "/nowhere"),
        (["simulate", "--recording", "/nowhere"], 74, "/nowhere"),
        (["simulate", "--out", "/tmp/x"], 2, "--out needs --seconds"),
        (["simulate", "--fault", "drift:1"], 2, "vibration has"),
        (["simulate", "--fault", "bearing:1:2:1:q"], 2, "no channel 'q'"),
        (
            ["simulate", "--machine", "compass", "--machine", "vibration", "--rate", "9"],
            2,
            "--rate",
        ),
    ],
)
def test_errors_are_for_people(arguments, code, error, capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == code
    seen = capsys.readouterr().err
    assert error in seen
    assert seen.startswith("edge-board: ")


@pytest.mark.parametrize("fault", ["rust:1", "bearing", "bearing:a", "bearing:3:2"])
def test_a_bad_fault_is_a_usage_error(fault, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", "--fault", fault])
    assert stopped.value.code == 2
    assert "expected KIND:START" in capsys.readouterr().err


def test_dump_of_something_else_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    file = tmp_path / "x"
    file.write_bytes(os.urandom(5000))
    assert main(["dump", str(file)]) == 1
    assert "no IDENTIFY frame found" in capsys.readouterr().out


def test_vectors_check():
    assert main(["vectors", "--check"]) == 0


def test_ctrl_c_ends_quietly():
    with simulator() as process:
        said(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
