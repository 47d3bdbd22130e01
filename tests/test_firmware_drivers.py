"""The real drivers against register models of their chips: what is read, in which order, and what
they say when it goes wrong."""

from __future__ import annotations

import random

import pytest

from firmware_bridge.frames import DataFlag
from tests.firmware import (
    Chip,
    Driver,
    Fault,
    Harness,
    Read,
    Row,
    fresh_harness,
    signal_row,
)

GAP, BUS_ERROR = int(DataFlag.GAP), int(DataFlag.BUS_ERROR)
ADXL, QMC, HMC = Driver.ADXL345, Driver.QMC5883L, Driver.HMC5883L
CHIPS = {ADXL: Chip.ADXL345, QMC: Chip.QMC5883L, HMC: Chip.HMC5883L}
SYNTHETIC = [Driver.SYNTHETIC_ACCEL, Driver.SYNTHETIC_MAG]
NUMBERS = {signal_row(number): number for number in range(20_000)}
LASTING = [Fault.ABSENT, Fault.BUS_ERROR, Fault.STUCK_HIGH, Fault.STUCK_LOW]
ADXL_RATES_HZ = [100, 200, 400, 800, 1600, 3200]
OLD_US = {  # at which age a row can be seen at the latest: looks are 1 ms apart, and cost time
    ADXL: 150,
    QMC: 1500,
    HMC: 1500,
}


@pytest.fixture
def harness() -> Harness:
    """A new world."""
    return fresh_harness()


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


# What is there


@pytest.mark.parametrize("driver", CHIPS)
def test_a_chip_that_is_there_is_found(harness: Harness, driver: Driver):
    assert harness.probe(driver)


@pytest.mark.parametrize("fault", LASTING)
@pytest.mark.parametrize("driver", CHIPS)
def test_no_chip_is_found_where_there_is_none(harness: Harness, driver: Driver, fault: Fault):
    """A QMC5883L says FF when it is well, and so does an empty bus."""
    harness.fault(CHIPS[driver], fault)
    assert not harness.probe(driver)
    assert not harness.start(driver)


@pytest.mark.parametrize("driver", Driver)
def test_what_a_driver_says_of_itself_agrees_with_itself(harness: Harness, driver: Driver):
    about = harness.about(driver)
    assert float(about.scale) * about.clip == pytest.approx(float(about.range), rel=0.003)
    assert about.rates_millihertz == sorted(set(about.rates_millihertz))
    assert about.stream_id == {"accel": 1, "mag": 2}[about.stream]


@pytest.mark.parametrize("driver", Driver)
def test_each_rate_is_the_rate(harness: Harness, driver: Driver):
    for rate_millihertz in harness.about(driver).rates_millihertz:
        assert harness.start(driver, rate_millihertz)
        found = harness.run(driver, 4000, 500)
        count = sum(len(read.rows) for read in found)
        assert flags(found) == 0
        assert 2 * rate_millihertz / 1000 - 17 <= count <= 2 * rate_millihertz / 1000 + 1
        harness.stop(driver)


# Rows, their order and their age


@pytest.mark.parametrize("ppm", [-50_000, 0, 50_000])
@pytest.mark.parametrize("rate_hz", ADXL_RATES_HZ)
def test_no_row_of_the_fifo_is_lost_or_doubled(harness: Harness, rate_hz: int, ppm: int):
    """Its oscillator may be several per cent off; the loop looks when it has time."""
    harness.ppm(Chip.ADXL345, ppm)
    harness.start(ADXL, rate_hz * 1000)
    # The longest that its 32 rows bear from just below the watermark on, less one look.
    longest_us = min(4000, 14_000_000 // rate_hz)
    found = restless(harness, ADXL, 3 if rate_hz < 1000 else 1, longest_us)
    assert flags(found) == 0
    assert numbers(found)[0] == 0
    assert is_run(numbers(found))
    assert len(numbers(found)) > rate_hz * 0.9
    assert harness.chip(Chip.ADXL345).early_reads == 0


@pytest.mark.parametrize("driver", [QMC, HMC])
@pytest.mark.parametrize("rate_hz", [10, 50, 100])
def test_no_row_of_a_magnetometer_is_lost_or_doubled(
    harness: Harness, driver: Driver, rate_hz: int
):
    harness.ppm(CHIPS[driver], 30_000)
    harness.start(driver, rate_hz * 1000)
    found = restless(harness, driver, 3, 1500)
    assert flags(found) == 0
    assert is_run(numbers(found))
    assert len(numbers(found)) > 3 * rate_hz * 0.95
    assert max(len(read.rows) for read in found) == 1


def test_a_call_each_five_milliseconds_is_enough_for_a_honeywell(harness: Harness):
    """Its measurement is seen one call late, and the next one has to begin with that same call."""
    harness.start(HMC)
    found = harness.run(HMC, 400, 5000)
    assert flags(found) == 0
    assert is_run(numbers(found))
    assert len(found) >= 195


@pytest.mark.parametrize("driver", CHIPS)
def test_the_newest_row_of_a_read_is_less_than_a_period_old(harness: Harness, driver: Driver):
    """The sampler's times rest on it (sensor.h)."""
    for rate_millihertz in harness.about(driver).rates_millihertz:
        period_us = 1e9 / rate_millihertz
        harness.start(driver, rate_millihertz)
        begun_us, before = harness.time_us, harness.chip(CHIPS[driver]).taken
        found = [read for read in restless(harness, driver, 1, 1200) if read.rows]
        for read in found:
            newest = NUMBERS[read.rows[-1]]
            # An HMC5883L measures when it is asked to; its rows have no time of their own.
            taken_us = begun_us + (newest - before + (driver is not HMC)) * period_us
            assert read.time_us - taken_us < period_us + OLD_US[driver]
        harness.stop(driver)
        harness.power_cycle(CHIPS[driver])


@pytest.mark.parametrize("rate_hz", ADXL_RATES_HZ)
def test_no_row_waits_longer_than_ten_milliseconds(harness: Harness, rate_hz: int):
    harness.start(ADXL, rate_hz * 1000)
    begun_us = harness.time_us
    found = harness.run(ADXL, 20_000, 50)
    assert len(found) >= 50
    for read in found:
        oldest_us = begun_us + (NUMBERS[read.rows[0]] + 1) * 1e6 / rate_hz
        # A batch's rows are 10 ms at most; the look that finds them comes within one more.
        assert read.time_us - oldest_us < 10_000 + 1100
        assert len(read.rows) <= 20


@pytest.mark.parametrize(("spi_byte_ns", "look_ns"), [(1600, 50), (1600, 1000), (4000, 333)])
def test_the_fifo_has_its_five_microseconds(harness: Harness, spi_byte_ns: int, look_ns: int):
    """From the fastest clock that the chip bears, 5 MHz, and however long a look at ours takes."""
    harness.costs(look_ns=look_ns, spi_byte_ns=spi_byte_ns)
    harness.start(ADXL)
    found = harness.run(ADXL, 200, 1000)
    assert is_run(numbers(found))
    assert len(numbers(found)) > 600
    assert harness.chip(Chip.ADXL345).early_reads == 0


@pytest.mark.parametrize("driver", CHIPS)
def test_between_rows_the_bus_is_left_alone(harness: Harness, driver: Driver):
    """At most one look a millisecond, however often the loop comes by."""
    harness.start(driver)
    before = harness.chip(CHIPS[driver]).transfers
    rows = sum(len(read.rows) for read in harness.run(driver, 50_000, 20))
    looks = harness.chip(CHIPS[driver]).transfers - before - rows
    assert rows > 90
    assert looks <= {ADXL: 1000 + rows / 16 + 1, QMC: 4 * rows, HMC: 3 * rows}[driver]


@pytest.mark.parametrize("driver", CHIPS)
def test_a_start_has_no_rows_of_before(harness: Harness, driver: Driver):
    """The board may have been reset while the chip went on, its FIFO full."""
    harness.start(driver)
    harness.time_us += 200_000
    harness.read(driver)
    for stopped in (False, True):
        if stopped:
            harness.stop(driver)
        harness.time_us += 200_000
        harness.chip(CHIPS[driver])
        harness.start(driver)
        begun_us = harness.time_us
        first = next(read for read in harness.run(driver, 100, 1000) if read.rows)
        rate_hz = harness.about(driver).rates_millihertz[-1] / 1000
        assert flags([first]) == 0
        assert len(first.rows) <= (first.time_us - begun_us) * 1e-6 * rate_hz + 1
        assert is_run(numbers([first]))
        # None was taken while nobody had asked for it.
        taken = harness.chip(CHIPS[driver]).taken
        passed = (harness.time_us - begun_us) * 1e-6 * rate_hz
        assert NUMBERS[first.rows[0]] >= taken - passed - 1


def test_the_order_of_a_honeywell_is_x_z_y(harness: Harness):
    harness.still(Chip.HMC5883L, (100, -200, 1300))
    harness.start(HMC)
    found = harness.run(HMC, 100, 1000)
    assert found
    assert {row for read in found for row in read.rows} == {(100, -200, 1300)}


# What is lost is said


@pytest.mark.parametrize("rate_hz", [400, 3200])
def test_an_overrun_is_a_gap_once_and_then_all_is_well(harness: Harness, rate_hz: int):
    harness.start(ADXL, rate_hz * 1000)
    before = [read for read in harness.run(ADXL, 200, 1000) if read.rows]
    harness.time_us += 50 * 1_000_000 // rate_hz
    late, *after = [read for read in harness.run(ADXL, 200, 1000) if read.rows]
    assert flags(before) == flags(after) == 0
    assert late.flags == GAP
    assert len(late.rows) == 32
    assert NUMBERS[late.rows[0]] > numbers(before)[-1] + 10
    assert is_run(numbers([late, *after]))


def test_a_fifo_that_is_nearly_full_has_lost_nothing(harness: Harness):
    harness.start(ADXL)
    begun_us = harness.time_us
    harness.time_us = begun_us + 31 * 312 + 200
    assert harness.read(ADXL).flags == 0
    found = harness.run(ADXL, 20, 1000)
    assert flags(found) == 0
    assert numbers(found)[0] == 31


def test_a_row_that_a_magnetometer_skipped_is_a_gap(harness: Harness):
    harness.start(QMC)
    before = harness.run(QMC, 100, 1000)
    harness.time_us += 35_000
    late, *after = harness.run(QMC, 100, 1000)
    assert flags(before) == flags(after) == 0
    assert late.flags == GAP
    assert NUMBERS[late.rows[0]] >= numbers(before)[-1] + 3
    assert is_run(numbers([late, *after]))


@pytest.mark.parametrize("phase", range(10))
def test_a_row_that_was_read_too_late_is_a_gap(harness: Harness, phase: int):
    """Also with a chip that measures only when it is asked: then it wasn't asked in time, or the
    row that it has is old."""
    harness.start(HMC)
    before = harness.run(HMC, 100 + phase, 1000)
    harness.time_us += 35_000
    late, *after = harness.run(HMC, 100, 1000)
    assert flags(before) == 0
    assert late == Read(late.time_us, GAP, [])
    assert flags(after) == 0
    assert is_run(numbers(after))
    assert len(after) > 7


@pytest.mark.parametrize(
    ("driver", "rate_hz", "felt", "told"),
    [
        (ADXL, 3200, (5000, -5000, 4093), (4094, -4096, 4092)),
        (ADXL, 800, (5000, -5000, 4093), (4095, -4096, 4093)),
        (QMC, 100, (40_000, -40_000, 23_999), (32_767, -32_768, 23_999)),
        (HMC, 100, (3000, -3000, 2046), (-4096, -4096, 2046)),
    ],
)
def test_what_is_out_of_range_is_at_the_end_of_it(
    harness: Harness, driver: Driver, rate_hz: int, felt: Row, told: Row
):
    """x and y are, z is just not: `clip` must tell them apart."""
    harness.still(CHIPS[driver], felt)
    harness.start(driver, rate_hz * 1000)
    found = harness.run(driver, 100, 1000)
    clip = harness.about(driver).clip
    assert {row for read in found for row in read.rows} == {told}
    assert [value >= clip or value < -clip for value in told] == [True, True, False]


# What goes wrong


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


# Without a chip


@pytest.mark.parametrize("driver", SYNTHETIC)
def test_synthetic_rows_depend_on_their_number_alone(harness: Harness, driver: Driver):
    harness.start(driver)
    often = [row for read in harness.run(driver, 20_000, 100) for row in read.rows]
    harness.start(driver)
    found = restless(harness, driver, 2, 9000)
    assert flags(found) == 0
    seldom = [row for read in found for row in read.rows]
    assert seldom[: len(often)] == often[: len(seldom)]
    assert len(set(often)) > len(often) // 10
    assert len(often) == 2 * harness.about(driver).rates_millihertz[-1] // 1000


def test_a_synthetic_backlog_is_given_piece_by_piece(harness: Harness):
    harness.start(Driver.SYNTHETIC_ACCEL)
    whole = [row for read in harness.run(Driver.SYNTHETIC_ACCEL, 50, 1000) for row in read.rows]
    harness.start(Driver.SYNTHETIC_ACCEL)
    harness.time_us += 25_000
    pieces = harness.run(Driver.SYNTHETIC_ACCEL, 5, 0)
    assert [len(read.rows) for read in pieces] == [33, 33, 14]
    assert flags(pieces) == 0
    assert [row for read in pieces for row in read.rows] == whole[:80]


@pytest.mark.parametrize("late_us", [41_000, 5_000_000, 3_000_000_000])
def test_a_synthetic_overrun_is_a_gap_and_the_signal_goes_on(harness: Harness, late_us: int):
    harness.start(Driver.SYNTHETIC_ACCEL)
    harness.time_us += late_us
    late = harness.read(Driver.SYNTHETIC_ACCEL)
    assert late.flags == GAP
    assert len(late.rows) == 32
    after = harness.run(Driver.SYNTHETIC_ACCEL, 10, 1000)
    assert flags(after) == 0
    if late_us < 100_000:
        harness.start(Driver.SYNTHETIC_ACCEL)
        reads = harness.run(Driver.SYNTHETIC_ACCEL, 60, 1000)
        whole = [row for read in reads for row in read.rows]
        at = whole.index(late.rows[0])
        assert whole[at : at + 32] == late.rows
        assert at == late_us * 3200 // 1_000_000 - 32


# The harness itself


def test_a_finding_ends_the_process_and_fails_the_call():
    harness = Harness()
    with pytest.raises(AssertionError, match="no such operation"):
        harness.call(0xFE)
    assert not harness.alive


def test_the_process_ends_well_if_nothing_was_found():
    harness = Harness()
    harness.start(ADXL)
    harness.run(ADXL, 100, 1000)
    assert harness.close() == 0
