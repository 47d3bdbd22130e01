"""The real image on the model of an F103 (`tests/blue_pill.py`): what QEMU has none of.

Crystal and PLL, the 16-bit timer, DMA, SPI with an ADXL345 on it, the watchdog, the UID; and how
many instructions a sample costs.
"""

from __future__ import annotations

import numpy as np
import pytest

from firmware_bridge.codec import encode
from firmware_bridge.frames import ResetRequest
from firmware_bridge.link import Identified, State, StateChanged
from firmware_bridge.samples import Samples
from tests.benchmarks import firmware
from tests.blue_pill import UID, Adxl345, BluePill, Session
from tests.emulator import ELF, build

SYSRESETREQ = 0x05FA0004
AIRCR, BKP_DR1 = 0xE000ED0C, 0x40006C04


class Bench(Session):
    """What the session has brought to light."""

    def __init__(self, crystal: bool = True) -> None:
        build()
        super().__init__(BluePill(ELF, crystal))

    @property
    def samples(self) -> list[Samples]:
        return [event for event in self.events if isinstance(event, Samples)]

    @property
    def reasons(self) -> list[str]:
        return [event.reason for event in self.events if isinstance(event, StateChanged)]


@pytest.fixture(scope="module")
def streaming() -> Bench:
    """A second of samples."""
    bench = Bench()
    bench.open()
    bench.run(1.1)
    assert bench.link.state is State.STREAMING, bench.reasons
    return bench


def test_it_says_that_it_is_silicon(streaming: Bench) -> None:
    (said,) = [event for event in streaming.events if isinstance(event, Identified)]
    assert said.schema.board == "bluepill-f103"
    assert said.schema.uid == UID.hex()
    # Nothing answers on I2C: no magnetometer, and no complaint.
    assert [stream.sensor for stream in said.schema.streams] == ["ADXL345"]
    assert b'"clk_ppm":50' in said.document
    assert b"emulated" not in said.document


def test_every_sample_of_the_sensor_arrives_in_its_order(streaming: Bench) -> None:
    values = np.concatenate([samples.values for samples in streaming.samples])
    expected = np.array([Adxl345.row(n) for n in range(len(values))])
    assert len(values) > 3100
    assert np.rint(values / 0.0039).astype(int).tolist() == expected.tolist()
    assert all(samples.contiguous and samples.flags == 0 for samples in streaming.samples)
    assert streaming.board.chip.overruns == 0
    assert streaming.link.decoder.counters.damaged == 0


def test_samples_have_the_time_at_which_they_were_taken(streaming: Bench) -> None:
    """Over 17 turns of a 16-bit timer; a row's time may be wrong by a period (sampler.h)."""
    last = streaming.samples[-1]
    taken_s = last.first_index / 3200 + (streaming.samples[0].t0 - 0.0)
    assert last.t0 == pytest.approx(taken_s, abs=1 / 3200)
    assert streaming.board.now_us * 1e-6 - last.t0 < 0.05


def test_the_watchdog_is_fed_all_the_time(streaming: Bench) -> None:
    gaps_us = np.diff(streaming.board.fed_us)
    assert len(gaps_us) > 500
    assert gaps_us.max() < 100_000


def test_a_sample_costs_a_small_share_of_the_core() -> None:
    """`make bench` prints the figure."""
    (row,) = firmware.measure()
    assert row.name == "firmware_core"
    assert row.ok, row


def test_without_a_crystal_it_runs_on_what_is_inside_and_says_so() -> None:
    bench = Bench(crystal=False)
    bench.open()
    bench.run(0.3)
    (said,) = [event for event in bench.events if isinstance(event, Identified)]
    assert b'"clk_ppm":10000' in said.document
    assert bench.link.state is State.STREAMING


def test_without_its_sensor_start_says_that_it_does_not_answer() -> None:
    bench = Bench()
    bench.board.chip.absent = True
    bench.open()
    bench.run(0.5)
    assert bench.link.state is State.STALE
    assert "START: status 3" in bench.reasons[-1]


@pytest.mark.parametrize(("mode", "note"), [(0, 0), (1, 0xB007)])
def test_a_reset_is_answered_and_then_done(mode: int, note: int) -> None:
    bench = Bench()
    bench.board.run(0.02)
    bench.board.hear(b"\0" + encode(ResetRequest(0, 1, mode)))
    bench.board.run(0.05)
    assert bench.board.sent
    assert bench.board.word(AIRCR) == SYSRESETREQ
    assert bench.board.word(BKP_DR1) == note
