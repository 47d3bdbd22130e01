"""Numbers about the gateway: from the files they come from, and none where there is no file."""

from __future__ import annotations

import ctypes
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from edge_agent.health import machine
from edge_agent.health.clock_state import STA_UNSYNC, ClockSteps, synchronised
from edge_agent.spans import SLOTS, Percentiles, Spans, percentiles, timed


def test_percentiles_are_numpys_of_all_rings_together() -> None:
    rings, seconds = (Spans(), Spans()), np.linspace(0.001, 0.9, 300)
    for number, each in enumerate(seconds):
        rings[number % 2].take(each)
    wanted = np.percentile(seconds, (50, 99)) * 1e3
    assert percentiles(rings) == pytest.approx(tuple(wanted), abs=1e-3)


def test_a_ring_keeps_the_newest_and_no_more() -> None:
    ring = Spans()
    for number in range(3 * SLOTS + 5):
        ring.take(float(number))
    assert sorted(ring.kept()) == list(range(2 * SLOTS + 5, 3 * SLOTS + 5))
    ring.begin()
    assert percentiles([ring]) == percentiles([]) == Percentiles(None, None)
    ring.take(0.5)
    assert percentiles([ring]) == Percentiles(500.0, 500.0)


def test_a_timed_call_answers_the_same_and_is_counted_when_it_answers() -> None:
    ring = Spans()
    assert timed(abs, ring)(-3) == 3
    with pytest.raises(TypeError):
        timed(abs, ring)("x")  # type: ignore[arg-type]
    assert ring.count == 1
    assert 0.0 <= ring.kept()[0] < 1.0


def test_only_jumps_of_the_wall_clock_are_steps() -> None:
    clock = ClockSteps(1000.0, 5.0)
    for tick in range(1000):  # slewed by 500 ppm
        clock.look(1000.0 + 0.10005 * tick, 5.0 + 0.1 * tick)
    assert (clock.steps, clock.last_step_s) == (0, None)
    clock.look(1e9, 105.0)
    assert clock.steps == 1
    assert clock.last_step_s == pytest.approx(1e9 - 1100.0, abs=1.0)
    clock.look(1e9 - 30.0, 106.0)
    assert (clock.steps, clock.last_step_s) == (2, -31.0)


def test_the_clock_is_right_if_systemd_or_the_kernel_says_so(tmp_path: Path) -> None:
    mark = tmp_path / "synchronized"
    assert synchronised(mark) is _kernels_word()
    mark.touch()
    assert synchronised(mark) is True


def _kernels_word() -> bool | None:
    """`ntp_adjtime` of the C library, read by another layout: six words, and the status in it."""
    words = (ctypes.c_long * 64)()
    state = ctypes.CDLL(None).ntp_adjtime(ctypes.byref(words))
    return None if state < 0 else not words[5] & STA_UNSYNC


def test_what_the_kernel_says_of_this_process() -> None:
    files, before = [open(os.devnull) for _ in range(5)], threading.Event()  # noqa: SIM115
    opened, count = machine.open_descriptors(), machine.threads()
    waiting = threading.Thread(target=before.wait)
    waiting.start()
    for file in files:
        file.close()
    assert opened
    assert machine.open_descriptors() == opened - 5
    assert count
    assert machine.threads() == count + 1
    before.set()
    waiting.join()
    assert machine.rss_bytes() or 0 > 1e6


def test_what_was_written_is_counted_and_a_day_of_it_estimated(tmp_path: Path) -> None:
    (tmp_path / "io").write_text("rchar: 9\nwrite_bytes: 8192\ncancelled_write_bytes: 4096\n")
    assert machine.written_bytes(tmp_path) == 8192
    assert machine.written_bytes(tmp_path / "none") is None
    assert machine.written_bytes_per_day(8192, 864.0) == 819_200
    assert machine.written_bytes_per_day(8192, 60.0) is None
    assert machine.written_bytes_per_day(None, 864.0) is None


@pytest.mark.parametrize(
    ("said", "flags"),
    [
        ("0", (0, 0, 0, 0)),
        ("50005", (1, 1, 1, 1)),
        ("0x50000", (0, 1, 0, 1)),
        ("20002", (0, 0, 1, 1)),
    ],
)
def test_a_raspberry_tells_of_its_supply(tmp_path: Path, said: str, flags: tuple[int, ...]) -> None:
    file = tmp_path / "get_throttled"
    file.write_text(f"{said}\n")
    names = ("undervoltage", "undervoltage_seen", "throttled", "throttled_seen")
    assert machine.power(file) == dict(zip(names, flags, strict=True))


@pytest.mark.parametrize("said", ["", "no", "\xff\xfe"])
def test_where_there_is_no_such_thing_there_is_no_number(tmp_path: Path, said: str) -> None:
    file = tmp_path / "file"
    assert machine.power(file) == {}
    assert machine.temperature_c(file) is None
    file.write_text(said)
    assert machine.power(file) == {}
    assert machine.temperature_c(file) is None
    file.write_text("-3500\n")
    assert machine.temperature_c(file) == -3.5
