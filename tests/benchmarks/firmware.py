"""Firmware: what streaming 3 x 3200 Hz costs an STM32F103, counted in instructions.

The image that is flashed runs on a model of the chip and its sensor (`tests/blue_pill.py`); waits
for the sensor's bus are instructions too.
"""

from __future__ import annotations

from tests.benchmarks.row import Row
from tests.blue_pill import CORE_HZ, CYCLES, BluePill, Session
from tests.emulator import ELF, build

RATE_HZ = 3200
# Beyond this there would be no room for another sensor.
GOAL = 0.25
START_SECONDS, SECONDS = 0.2, 0.5


def measure() -> list[Row]:
    """The row `firmware_core`."""
    build()
    session = Session(BluePill(ELF))
    session.open()
    session.run(START_SECONDS)
    board = session.board
    before, begin_us = board.instructions, board.now_us
    session.run(SECONDS)
    a_second = (board.instructions - before) / (board.now_us - begin_us) * 1e6
    unit = f"cycles a second, {a_second / RATE_HZ:.0f} instructions a sample x {CYCLES}"
    return [Row("firmware_core", unit, a_second * CYCLES, "72 MHz", CORE_HZ, GOAL, "low")]
