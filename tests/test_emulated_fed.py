"""A real motor's recording through the firmware itself: fed into the board's second UART, sampled,
framed and timed by the STM32's image in QEMU, judged by the agent, told by Mosquitto.

The motor is CWRU's. 48 kHz are played at 3200 Hz, fifteen times slower: a board's line carries no
more, and to the numbers it is all the same.
"""

from __future__ import annotations

import json
import os
import select
import threading
import time
import tty
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.judging.pipeline import Fact, Judgement
from firmware_bridge.recording import identify_frames, record
from firmware_bridge.signals import ACCEL, board_document
from tests.conftest import Mosquitto
from tests.emulator import emulator
from tests.programs import mosquitto_sub, replay, run
from tests.test_emulated_board import running

pytestmark = [pytest.mark.data("cwru"), pytest.mark.alone]

FIRST_SHARE = 0.7
FAULTS = ("B007_0hp", "IR007_0hp", "OR007at6_0hp")
PIECE_ROWS = 14_400  # 4.5 s
DOCUMENT = board_document("0" * 24, (ACCEL,))
Rows = NDArray[np.int16]
CONFIG = """
[gateway]
id = "lab"
[mqtt]
port = {port}
[storage]
state_dir = "state"
[boards.emulated]
port = "board.tty"
[assets.motor]
board = "emulated"
stream = "accel"
bundle = "{bundle}"
# The faults follow each other within seconds, and each is to be told.
[assets.motor.alarm]
re_alarm_seconds = 0.0
"""


def as_accelerations(file: Path) -> Rows:
    """A recording as an ADXL345 would say it: int16[n, 3]. The motor was measured at two places;
    the third axis gets their difference."""
    with np.load(file) as arrays:
        drive_end, fan_end = arrays["DE"], arrays["FE"]
    axes = np.stack([drive_end, fan_end, drive_end - fan_end], axis=1)
    return np.rint(np.clip(axes, -15.9, 15.9) / ACCEL.scale).astype(np.int16)


def write_recording(file: Path, rows: Rows) -> Path:
    file.write_bytes(identify_frames(DOCUMENT) + b"".join(record(DOCUMENT, ACCEL, rows)))
    return file


def feed(device: Path, rows: Rows, stop: threading.Event) -> None:
    """Writes the rows into the board's second port, as fast as it takes them."""
    fd = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    tty.setraw(fd)
    for frame in record(DOCUMENT, ACCEL, rows):
        left = frame
        while left and not stop.is_set():
            _, ready, _ = select.select([], [fd], [], 0.1)
            left = left[os.write(fd, left) :] if ready else left
    stop.wait()
    os.close(fd)


@pytest.fixture(scope="module")
def motor(tmp_path_factory: pytest.TempPathFactory, data_dir: Path) -> Path:
    """A folder with `motor.otolith`, built on the first 70 % of the healthy recording, and with
    `played.rec`: health it has not seen, a fault, health, the next fault, health..."""
    folder, source = tmp_path_factory.mktemp("fed"), data_dir / "cwru"
    normal = as_accelerations(source / "Normal_0_part1.npz")
    known = round(FIRST_SHARE * len(normal))
    faulty = [as_accelerations(source / f"{name}.npz") for name in FAULTS]
    built = run(
        "converter", "build", "--normal", write_recording(folder / "known.rec", normal[:known]),
        "--name", "motor",
        "--front-end", "spectral", "--segment-length", 1024, "--segment-hop", 512,
        "--hop", 480, "--train-hop", 120, "--family", "dense", "--epochs", 60,
        "--on-delay", 10, "--off-delay", 20, "--factor", 1.5, "--out", folder / "motor.otolith",
        "--json",
    )[-1]  # fmt: skip
    assert built["accepted"], built["reasons"]
    unseen = normal[known:]
    pieces = [unseen[:PIECE_ROWS]]
    for number, rows in enumerate(faulty):
        pieces += [rows[:PIECE_ROWS], unseen[number * PIECE_ROWS :][:PIECE_ROWS]]
    np.save(folder / "played.npy", np.concatenate(pieces))
    write_recording(folder / "played.rec", np.concatenate(pieces))
    return folder


def test_each_fault_is_one_alert(motor: Path, mosquitto: Mosquitto, tmp_path: Path) -> None:
    config, rows = tmp_path / "agent.toml", np.load(motor / "played.npy")
    config.write_text(CONFIG.format(port=mosquitto.port, bundle=motor / "motor.otolith"))
    offline = replay(motor / "played.rec", motor / "motor.otolith", "--scores")
    expected = [line["score"] for line in offline if line.get("kind") == "score"]
    judged: list[float] = []

    def observe(fact: Fact) -> None:
        if isinstance(fact, Judgement):
            judged.append(fact.score.value)

    fed = threading.Event()
    with emulator(tmp_path / "board.tty", with_feed=True) as board:
        assert board.feed
        feeder = threading.Thread(target=feed, args=(board.feed, rows, fed))
        feeder.start()
        with (
            mosquitto_sub(mosquitto.port, "otolith/lab/motor/event") as received,
            running(config, observe),
        ):
            deadline_s = time.monotonic() + 3 * len(rows) / ACCEL.rate_hz
            while len(judged) < len(expected) and time.monotonic() < deadline_s:
                time.sleep(0.1)
        fed.set()
        feeder.join()
    kinds = [json.loads(payload)["kind"] for _, payload in received]
    assert [kind for kind in kinds if kind != "update"] == ["begin", "end"] * len(FAULTS)
    # What the firmware sampled is what was fed: not a row less, not a number else.
    assert judged[: len(expected)] == expected
