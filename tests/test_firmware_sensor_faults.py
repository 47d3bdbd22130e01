"""The real drivers when a chip or its bus fails, and the chips' own self tests."""

from __future__ import annotations

import pytest

from tests.firmware import Chip, Driver, Fault, Harness, fresh_harness
from tests.sensor_chips import (
    ADXL,
    BUS_ERROR,
    CHIPS,
    HMC,
    LASTING,
    NUMBERS,
    QMC,
    flags,
    is_run,
    numbers,
)


@pytest.fixture
def harness() -> Harness:
    """A new world."""
    return fresh_harness()


@pytest.mark.parametrize("transfer", [*range(1, 19), 40])
@pytest.mark.parametrize("driver", CHIPS)
def test_a_transfer_that_fails_gives_no_row(harness: Harness, driver: Driver, transfer: int):
    """Whichever it is: the look, the status, a row in the middle of a burst."""
    harness.start(driver)
    before = harness.run(driver, 100, 1000)
    harness.fault_once(CHIPS[driver], transfer)
    during = harness.run(driver, 200, 1000)
    (bad,) = [read for read in during if read.flags & BUS_ERROR]
    assert bad.rows == []
    assert all(row in NUMBERS for read in during for row in read.rows)
    assert harness.start(driver)
    after = harness.run(driver, 200, 1000)
    assert flags(after) == 0
    assert is_run(numbers(after))
    assert numbers(after)[0] > numbers(before)[-1]


@pytest.mark.parametrize("fault", [Fault.STUCK_HIGH, Fault.STUCK_LOW, Fault.GLITCH])
@pytest.mark.parametrize("transfer", range(1, 12))
def test_a_line_that_is_disturbed_gives_no_row(harness: Harness, transfer: int, fault: Fault):
    """On SPI nobody acknowledges: a row of -1 or 0 would be as good as any."""
    harness.start(ADXL)
    harness.time_us += 20_000
    harness.fault_once(Chip.ADXL345, transfer, fault)
    bad = harness.read(ADXL)
    assert bad.flags & BUS_ERROR
    assert bad.rows == []


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("driver", CHIPS)
def test_a_chip_that_goes_is_missed_and_comes_back(harness: Harness, driver: Driver, fault: Fault):
    """Silence isn't enough: a line that is stuck says that there is nothing new."""
    harness.start(driver)
    harness.run(driver, 100, 1000)
    harness.fault(CHIPS[driver], fault)
    gone = harness.run(driver, 150, 1000)
    assert flags(gone) & BUS_ERROR
    assert numbers(gone) == []
    assert not harness.start(driver)
    harness.fault(CHIPS[driver], Fault.WELL)
    harness.power_cycle(CHIPS[driver])
    assert harness.start(driver)
    found = harness.run(driver, 200, 1000)
    assert flags(found) == 0
    assert is_run(numbers(found))
    assert len(numbers(found)) >= 15


@pytest.mark.parametrize("driver", [ADXL, QMC])
def test_a_chip_that_lost_its_power_is_noticed(harness: Harness, driver: Driver):
    """It answers, but it has forgotten what it was told: no rows for ever, or of another scale."""
    harness.start(driver)
    harness.run(driver, 100, 1000)
    harness.power_cycle(CHIPS[driver])
    found = harness.run(driver, 30, 1000)
    assert found[0].flags == BUS_ERROR
    assert numbers(found) == []


def test_a_honeywell_without_power_loses_a_row_at_most(harness: Harness):
    """What it begins with is what it was told: it goes on by itself."""
    harness.start(HMC)
    harness.run(HMC, 100, 1000)
    harness.power_cycle(Chip.HMC5883L)
    found = harness.run(HMC, 200, 1000)
    assert is_run(numbers(found))
    assert len(numbers(found)) >= 18


@pytest.mark.parametrize("driver", [QMC, HMC])
def test_a_measurement_that_does_not_end_is_noticed(harness: Harness, driver: Driver):
    """A chip with the right settings and no rows would be silent for ever."""
    harness.ppm(CHIPS[driver], -990_000)
    harness.start(driver)
    found = harness.run(driver, 100, 1000)
    assert flags(found) & BUS_ERROR
    assert numbers(found) == []


@pytest.mark.parametrize("transfer", range(1, 10))
def test_a_start_of_which_a_word_was_lost_has_no_old_rows(harness: Harness, transfer: int):
    """On SPI the word is lost in silence: either it is missed, or it changes nothing."""
    harness.start(ADXL, 800_000)
    harness.time_us += 200_000
    harness.registers(ADXL, 0, 1)  # the model catches up when it is spoken to
    before = harness.chip(Chip.ADXL345).taken
    harness.fault_once(Chip.ADXL345, transfer, Fault.STUCK_HIGH)
    there = harness.start(ADXL, 3_200_000)
    harness.fault_once(Chip.ADXL345, 0)
    assert there is (transfer in (1, 3))  # it rested already, or had that range already
    found = harness.run(ADXL, 200, 1000) if there else []
    assert flags(found) == 0
    assert len(numbers(found)) >= 620 * there
    assert all(number >= before for number in numbers(found))
    assert not there or is_run(numbers(found))


@pytest.mark.parametrize("driver", CHIPS)
def test_a_start_that_fails_says_so(harness: Harness, driver: Driver):
    transfers = harness.chip(CHIPS[driver]).transfers
    assert harness.start(driver)
    for transfer in range(1, harness.chip(CHIPS[driver]).transfers - transfers + 1):
        harness.fault_once(CHIPS[driver], transfer)
        assert not harness.start(driver)


# Self tests


@pytest.mark.parametrize("ppm", [-50_000, 50_000])
@pytest.mark.parametrize("driver", [ADXL, HMC])
def test_a_good_chip_passes_its_self_test(harness: Harness, driver: Driver, ppm: int):
    harness.still(CHIPS[driver], (100, -50, 256))
    harness.ppm(CHIPS[driver], ppm)
    begun_us = harness.time_us
    test = harness.self_test(driver)
    assert test is not None
    assert test.passed == [True, True, True]
    assert harness.time_us - begun_us < 250_000
    assert test.delta == {ADXL: (300, -300, 500), HMC: (1263, 1263, 1176)}[driver]
    # And then it measures as before: neither force nor another gain is left.
    harness.start(driver)
    found = harness.run(driver, 100, 1000)
    assert {row for read in found for row in read.rows} == {(100, -50, 256)}


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("driver", [ADXL, HMC])
def test_an_axis_that_does_not_move_fails_it(harness: Harness, driver: Driver, axis: int):
    harness.still(CHIPS[driver], (0, 0, 256))
    force = {ADXL: [300, -300, 500], HMC: [1160, 1160, 1080]}[driver]
    force[axis] = 0
    harness.self_test_force(CHIPS[driver], (force[0], force[1], force[2]))
    test = harness.self_test(driver)
    assert test is not None
    assert test.passed == [other != axis for other in range(3)]


def test_a_force_to_the_wrong_side_fails_it(harness: Harness):
    harness.still(Chip.ADXL345, (0, 0, 256))
    harness.self_test_force(Chip.ADXL345, (-300, 300, 2000))
    test = harness.self_test(ADXL)
    assert test is not None
    assert test.passed == [False, False, False]


@pytest.mark.parametrize("driver", [ADXL, HMC])
def test_a_chip_that_never_ends_its_self_test_is_left(harness: Harness, driver: Driver):
    harness.ppm(CHIPS[driver], -990_000)
    begun_us = harness.time_us
    assert harness.self_test(driver) is None
    assert harness.time_us - begun_us < 250_000


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("driver", [ADXL, HMC])
def test_a_chip_that_is_gone_has_no_self_test(harness: Harness, driver: Driver, fault: Fault):
    harness.fault(CHIPS[driver], fault)
    begun_us = harness.time_us
    assert harness.self_test(driver) is None
    assert harness.time_us - begun_us < 250_000


def test_after_a_self_test_the_chip_rests_without_its_force(harness: Harness):
    for transfer in (0, 30):
        for driver in (ADXL, HMC):
            harness.fault_once(CHIPS[driver], transfer and 10)
            assert (harness.self_test(driver) is None) is (transfer > 0)
        accel, mag = (harness.chip(chip).registers for chip in (Chip.ADXL345, Chip.HMC5883L))
        assert (accel[0x31], accel[0x2D]) == (0x0B, 0)
        assert (mag[0], mag[1]) == (0x10, 0x20)
    assert harness.chip(Chip.ADXL345).early_reads == 0


# Registers


@pytest.mark.parametrize(
    ("driver", "first", "expected"),
    [(ADXL, 0x00, b"\xe5"), (QMC, 0x0D, b"\xff"), (HMC, 0x0A, b"H43\0")],
)
def test_registers_are_what_the_chip_has(
    harness: Harness, driver: Driver, first: int, expected: bytes
):
    harness.still(CHIPS[driver], (0, 0, 0))
    assert harness.registers(driver, first, len(expected)) == expected
    whole = harness.registers(driver, 0, 64)
    assert whole is not None
    assert whole[first : first + len(expected)] == expected
    assert harness.registers(driver, 60, 5) is None
    harness.fault(CHIPS[driver], Fault.BUS_ERROR)
    assert harness.registers(driver, first, len(expected)) is None
