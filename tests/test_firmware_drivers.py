"""The real drivers against register models of their chips: which rows come, in which order, how
old, and what is said when some are lost."""

from __future__ import annotations

import pytest

from tests.firmware import Chip, Driver, Fault, Harness, Read, Row, fresh_harness
from tests.sensor_chips import (
    ADXL,
    CHIPS,
    GAP,
    HMC,
    LASTING,
    NUMBERS,
    QMC,
    flags,
    is_run,
    numbers,
    restless,
)

SYNTHETIC = [Driver.SYNTHETIC_ACCEL, Driver.SYNTHETIC_MAG]
ADXL_RATES_HZ = [100, 200, 400, 800, 1600, 3200]
# How late a row may be seen: looks are 1 ms apart where there is no FIFO, and a look takes time.
LATE_US = {ADXL: 150, QMC: 1500, HMC: 1500}


@pytest.fixture
def harness() -> Harness:
    """A new world."""
    return fresh_harness()


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
            assert read.time_us - taken_us < period_us + LATE_US[driver]
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
