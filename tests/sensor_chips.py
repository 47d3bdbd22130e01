"""Drivers and the chips behind them in the harness, and what their counted rows tell."""

from __future__ import annotations

import random

from firmware_bridge.frames import DataFlag
from tests.firmware import Chip, Driver, Fault, Harness, Read, signal_row

GAP, BUS_ERROR = int(DataFlag.GAP), int(DataFlag.BUS_ERROR)
ADXL, QMC, HMC = Driver.ADXL345, Driver.QMC5883L, Driver.HMC5883L
CHIPS = {ADXL: Chip.ADXL345, QMC: Chip.QMC5883L, HMC: Chip.HMC5883L}
LASTING = [Fault.ABSENT, Fault.BUS_ERROR, Fault.STUCK_HIGH, Fault.STUCK_LOW]
NUMBERS = {signal_row(number): number for number in range(20_000)}


def numbers(reads: list[Read]) -> list[int]:
    """Which rows of the counting chip these are."""
    return [NUMBERS[row] for read in reads for row in read.rows]


def flags(reads: list[Read]) -> int:
    """All that was said."""
    said = 0
    for read in reads:
        said |= read.flags
    return said


def is_run(found: list[int]) -> bool:
    """One after the other, none missing."""
    return found == list(range(found[0], found[0] + len(found)))


def restless(harness: Harness, driver: Driver, seconds: float, longest_us: int) -> list[Read]:
    """Reads at random times, none later than `longest_us` after the one before."""
    dice, found = random.Random(1), []
    until_us = harness.time_us + int(seconds * 1e6)
    while harness.time_us < until_us:
        harness.time_us += dice.randint(20, longest_us)
        found.append(harness.read(driver))
    return found
