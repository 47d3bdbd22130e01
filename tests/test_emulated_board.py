"""The agent behind the firmware itself: the image of the STM32F103 in QEMU, on a pty."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import serial

from edge_agent.config import load_config
from edge_agent.judging.pipeline import Fact
from edge_agent.service import Service
from firmware_bridge.clock import BoardClock
from firmware_bridge.codec import Decoder, encode
from firmware_bridge.frames import Time, TimeRequest
from firmware_bridge.link import Link, State
from tests.conftest import Mosquitto
from tests.emulator import emulator
from tests.programs import COMPASS, VIBRATION, mosquitto_sub

pytestmark = pytest.mark.alone

SECONDS = 60.0
PINGS = 400
# A round trip may lie half before and half after the stamps of the board: that is as well as two
# clocks can be compared. The error must stay below half of it: 0.1 ms where nothing else runs.
MAX_CLOCK_ERROR = 0.25
CONFIG = f"""
[gateway]
id = "lab"
[mqtt]
port = {{port}}
[storage]
state_dir = "state"
[health]
interval_seconds = 5
[boards.emulated]
port = "board.tty"
uid = "454d554c4154454400000000"
[assets.pump]
board = "emulated"
stream = "accel"
bundle = "{VIBRATION}"
[assets.mast]
board = "emulated"
stream = "mag"
bundle = "{COMPASS}"
"""


@contextmanager
def running(config: Path, observe: Callable[[Fact], None] | None = None) -> Iterator[Service]:
    """The service of `edge-agent run`, in a thread."""
    stop, service = threading.Event(), Service(load_config(config), observe)
    loop = threading.Thread(target=service.run, args=(stop,))
    loop.start()
    try:
        yield service
    finally:
        stop.set()
        loop.join()


def wait_for_streaming(link: Link) -> None:
    deadline_s = time.monotonic() + 20
    while link.state is not State.STREAMING:
        assert time.monotonic() < deadline_s, link.state
        time.sleep(0.05)


def pings(port: Path) -> BoardClock:
    """The board's clock as many quick questions have it, asked by nobody but us."""
    clock, decoder = BoardClock(), Decoder(sync=True)
    with serial.Serial(str(port), timeout=0.25, exclusive=True) as device:
        device.write(b"\0")
        for seq in range(PINGS):
            sent_s = time.monotonic()
            device.write(encode(TimeRequest(0, seq, seq)))
            replies: list[Any] = []
            while not replies and time.monotonic() < sent_s + 1:
                replies = decoder.feed(device.read(device.in_waiting or 1))
            received_s = time.monotonic()
            for reply in replies:
                if isinstance(reply, Time) and reply.token == seq:
                    clock.exchange(sent_s, reply.t_rx_us, reply.t_tx_us, received_s)
    return clock


@pytest.mark.timeout(180)
def test_a_minute_without_a_loss(tmp_path: Path, mosquitto: Mosquitto) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG.format(port=mosquitto.port))
    with emulator(tmp_path / "board.tty") as board:
        with (
            mosquitto_sub(mosquitto.port, "otolith/lab/health") as received,
            running(config) as service,
        ):
            link = service._sessions["emulated"].link
            wait_for_streaming(link)
            time.sleep(SECONDS)
            clock, assemblers = link.clock, link.assemblers.values()
        truth = pings(board.port)
    assert link.decoder.counters.damaged == 0
    for stream, rate_hz in zip(assemblers, (3200, 100), strict=True):
        one = stream.counters
        assert one.lost_on_wire == one.lost_on_board == one.gaps == one.refused == 0
        assert one.samples == pytest.approx(SECONDS * rate_hz, rel=0.02)
    at_us = max(stream._last_t_us for stream in assemblers)
    assert clock.round_trip_s is not None
    assert truth.round_trip_s is not None
    both_seconds = clock.round_trip_s + truth.round_trip_s
    assert abs(clock.host_s(at_us) - truth.host_s(at_us)) <= MAX_CLOCK_ERROR * both_seconds
    said = [json.loads(payload) for _, payload in received]
    assert said[-1]["boards_streaming"] == 1
    assert said[-1]["frames_damaged"] == 0
    assert said[-1]["samples_lost"] == 0
    assert said[-1]["board_sessions"] == 1
