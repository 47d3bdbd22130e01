"""The image for the STM32F103, started in QEMU: the same bytes that are flashed."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from firmware_bridge.codec import encode, encode_body
from firmware_bridge.frames import (
    Data,
    DataFlag,
    Identify,
    IdentifyRequest,
    RateSet,
    ResetReply,
    ResetRequest,
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
from firmware_bridge.recording import identify_frames, record
from firmware_bridge.schema import parse_schema
from tests.conftest import ROOT
from tests.emulator import Host, build, emulator

EVERYTHING = 0xFFFFFFFF
ACCEL, MAG = 1, 2
RESET_SOFTWARE = 2
HOST_SILENCE_SECONDS = 5.0


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with emulator(tmp_path_factory.mktemp("f103") / "board") as board:
        host = Host(board.port)
        yield host
        host.port.close()


@pytest.fixture
def host(line: Host) -> Host:
    """One board for all, stopped at the beginning of each test."""
    line.ask(StopRequest(0, 900, EVERYTHING), Stopped)
    line.data.clear()
    return line


def identify(host: Host) -> bytes:
    reply = host.ask(IdentifyRequest(0, 901, 0), Identify)
    assert reply.status == Status.OK
    assert reply.total == len(reply.json)
    assert reply.schema_crc == crc32(reply.json)
    return reply.json


def stats(host: Host) -> Stats:
    return host.ask(StatsRequest(0, 902), Stats)


def of(data: list[Data], stream: int) -> list[Data]:
    return [frame for frame in data if frame.stream == stream]


def test_the_image_is_within_its_limits() -> None:
    sizes = {
        name: (int(used), int(limit))
        for name, used, limit in re.findall(r"(\w+) +(\d+) of (\d+) bytes", build())
    }
    assert sizes["flash"][1] == 16384
    assert sizes["ram"][1] == 12288
    for used, limit in sizes.values():
        assert 4096 < used <= limit
    # The README shows what was printed.
    readme = (ROOT / "firmware_bridge" / "firmware" / "README.md").read_text()
    assert all(line in readme for line in build().splitlines()[-2:])


def test_it_says_what_it_is(host: Host) -> None:
    document = identify(host)
    schema = parse_schema(document)
    assert json.loads(document)["emulated"] is True
    assert bytes.fromhex(schema.uid) == b"EMULATED\0\0\0\0"
    assert schema.board == "bluepill-f103"
    assert [(s.id, s.name, s.sensor, s.rate_hz) for s in schema.streams] == [
        (ACCEL, "accel", "synthetic", 3200.0),
        (MAG, "mag", "synthetic", 100.0),
    ]


def test_both_streams_come_at_their_rates(host: Host) -> None:
    tag = crc32(identify(host)) & 0xFF
    assert host.ask(StartRequest(0, 1, EVERYTHING), Started).status == Status.OK
    host.listen(3.0)
    for stream, rate_hz in ((ACCEL, 3200.0), (MAG, 100.0)):
        data = of(host.data, stream)
        assert {frame.schema for frame in data} == {tag}
        assert [frame.seq for frame in data] == list(range(len(data)))
        assert data[0].first_index == 0
        for before, frame in pairwise(data):
            # A computer that is busy lets the emulator be late; the board says so, and how much.
            gap = frame.flags & DataFlag.GAP
            assert frame.flags == DataFlag.EMULATED | gap
            assert gap or frame.first_index == before.first_index + before.n
        seconds = (data[-1].t_us - data[0].t_us) * 1e-6
        assert data[-1].first_index / seconds == pytest.approx(rate_hz, rel=0.01)
        assert seconds > 2.0
    assert host.decoder.counters.damaged == 0


def test_its_clock_is_the_clock_on_the_wall(host: Host) -> None:
    """SysTick would lose a third of it here; TIM2 is right."""
    asked_s = time.monotonic()
    first = host.ask(TimeRequest(0, 1, 111), Time)
    answered_s = time.monotonic()
    host.listen(2.0)
    asked_again_s = time.monotonic()
    second = host.ask(TimeRequest(0, 2, 222), Time)
    ended_s = time.monotonic()
    assert (first.token, second.token) == (111, 222)
    assert second.t_rx_us <= second.t_tx_us
    # Between the two there was at least the time of listening, at most all of it.
    board_s = (second.t_tx_us - first.t_rx_us) * 1e-6
    assert asked_again_s - answered_s - 0.001 < board_s < ended_s - asked_s + 0.001


def test_rubbish_is_counted_and_the_next_request_answered(host: Host) -> None:
    before = stats(host)
    broken = bytearray(encode(StopRequest(0, 7, EVERYTHING)))
    broken[6] ^= 0x10
    host.port.write(bytes(broken))
    host.port.write(b"\x05\x11\x00")
    host.port.write(b"\x55" * 1100 + b"\x00")
    after = stats(host)
    assert after.rx_ok == before.rx_ok + 1
    assert after.bad_crc == before.bad_crc + 1
    assert after.bad_cobs == before.bad_cobs + 1
    assert after.oversize == before.oversize + 1
    assert after.rx_overrun == before.rx_overrun == 0
    assert after.uptime_ms >= before.uptime_ms


def test_it_never_answers_its_own_echo(host: Host) -> None:
    """Until a host switches echo off, its tty sends the board's frames back."""
    data = Data(ACCEL, 0, 0, 0, 1, 0, 0, bytes(6))
    host.port.write(encode(Stopped(0, 5, 0, 0)) + encode(data) + encode_body(b"\xff\0\0\0"))
    assert host.listen(0.5) == []


def test_stop_is_silence(host: Host) -> None:
    host.ask(StartRequest(0, 1, EVERYTHING), Started)
    host.listen(0.5)
    assert host.data
    host.ask(StopRequest(0, 2, EVERYTHING), Stopped)
    assert host.listen(1.0) == []


def test_without_a_host_it_falls_silent(host: Host) -> None:
    host.ask(StartRequest(0, 1, EVERYTHING), Started)
    host.listen(HOST_SILENCE_SECONDS + 1.5)
    streamed_s = (host.data[-1].t_us - host.data[0].t_us) * 1e-6
    assert HOST_SILENCE_SECONDS - 0.5 < streamed_s < HOST_SILENCE_SECONDS + 1.0
    assert host.listen(0.5) == []
    assert stats(host).tx_dropped == 0


def test_another_rate_is_another_schema(host: Host) -> None:
    old = crc32(identify(host))
    reply = host.ask(SetRateRequest(ACCEL, 1, 1_600_000, 0), RateSet)
    assert (reply.status, reply.rate_millihertz, reply.batch) == (Status.OK, 1_600_000, 40)
    assert reply.schema_crc == crc32(identify(host)) != old
    host.ask(StartRequest(0, 2, 1 << ACCEL), Started)
    host.listen(1.5)
    first, last = host.data[0], host.data[-1]
    rate_hz = (last.first_index - first.first_index) / ((last.t_us - first.t_us) * 1e-6)
    assert rate_hz == pytest.approx(1600.0, rel=0.02)
    assert max(frame.n for frame in host.data) == 40
    host.ask(StopRequest(0, 3, EVERYTHING), Stopped)
    host.ask(SetRateRequest(ACCEL, 4, 3_200_000, 0), RateSet)
    assert crc32(identify(host)) == old


def test_reset_begins_anew(tmp_path: Path) -> None:
    with emulator(tmp_path / "board") as board:
        host = Host(board.port)
        host.listen(0.5)
        before = stats(host)
        assert before.reset_cause == 1
        # Nothing to enter here; on silicon it is the ROM.
        bootloader = host.ask(ResetRequest(0, 1, 1), ResetReply)
        assert bootloader.status == Status.BAD_ARGUMENT
        asked_s = time.monotonic()
        assert host.ask(ResetRequest(0, 2, 0), ResetReply).status == Status.OK
        after = stats(host)
        # Without the reset it would be that much more.
        assert before.uptime_ms > 400
        assert after.uptime_ms < (time.monotonic() - asked_s) * 1e3 + 1
        assert (after.reset_cause, after.rx_ok) == (RESET_SOFTWARE, 1)
        host.ask(StartRequest(0, 3, EVERYTHING), Started)
        host.listen(0.5)
        host.port.close()
    for stream in (ACCEL, MAG):
        restarted = [frame.flags & DataFlag.CLOCK_RESTARTED for frame in of(host.data, stream)]
        assert restarted[0]
        assert len(restarted) > 1
        assert not any(restarted[1:])


def test_a_recording_is_its_sensor(tmp_path: Path) -> None:
    """Every row of it comes back from the board, in its order, at the board's own times."""
    with emulator(tmp_path / "board", with_feed=True) as board:
        assert board.feed is not None
        host = Host(board.port)
        document = identify(host)
        stream = parse_schema(document).streams[0]
        rows = np.random.default_rng(7).integers(-4000, 4000, (6400, 3)).astype("<i2")
        wire = identify_frames(document) + b"".join(record(document, stream, rows))
        feeder = threading.Thread(target=board.feed.write_bytes, args=(wire,), daemon=True)
        feeder.start()
        deadline_s = time.monotonic() + 20
        while parse_schema(identify(host)).streams[0].sensor != "fed":
            assert time.monotonic() < deadline_s
        host.ask(StartRequest(0, 1, 1 << ACCEL), Started)
        while len(host.data) < len(rows) // 80:
            assert time.monotonic() < deadline_s
            host.listen(0.5)
            stats(host)
        feeder.join()
        host.port.close()
    payload = b"".join(frame.payload for frame in host.data)
    assert np.array_equal(np.frombuffer(payload, "<i2").reshape(-1, 3), rows)
    times_us = [frame.t_us for frame in host.data]
    assert min(np.diff(times_us)) > 0
    # Never faster than the rate; a late feeder is caught up with by ten milliseconds.
    assert times_us[-1] - times_us[0] > (len(times_us) - 1) * 25_000 - 12_000
    assert {frame.flags for frame in host.data} == {DataFlag.EMULATED}
