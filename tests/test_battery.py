"""The battery's machine: what is anomalous in it, and that nothing else is."""

from __future__ import annotations

import numpy as np
import pytest

from converter.benchmark.battery import (
    BATTERIES,
    CHANNELS,
    EVENTS,
    GRACE_SECONDS,
    collective,
    contextual,
    coupling,
    machine,
    point,
)
from tests.programs import run

LOAD, TEMPERATURE, FAN = (CHANNELS.index(name) for name in ("load", "temperature", "fan"))


def test_the_machine_is_the_same_every_time_and_hangs_together() -> None:
    rows = machine(1, 20_000)
    np.testing.assert_array_equal(rows, machine(1, 20_000))
    assert (rows != machine(2, 20_000)).any()
    assert np.isfinite(rows).all()
    coupled = np.corrcoef(rows.T)
    assert coupled[LOAD, CHANNELS.index("current")] > 0.95
    assert coupled[TEMPERATURE, FAN] > 0.9


@pytest.mark.parametrize("name", BATTERIES)
def test_only_the_events_differ_from_health(name: str) -> None:
    rows, events = BATTERIES[name](7)
    healthy = machine(7, len(rows))
    assert len(events) == EVENTS
    touched = np.zeros(len(rows), np.bool_)
    for event in events:
        assert 0 < event.first < event.end < len(rows) - GRACE_SECONDS
        # After a stuck fan the heat takes its time to be as it would have been.
        touched[event.first : event.end + (600 if name == "coupling" else 0)] = True
    np.testing.assert_allclose(rows[~touched], healthy[~touched], atol=0.5)
    assert all((rows[e.first : e.end] != healthy[e.first : e.end]).any() for e in events)


def test_a_contextual_value_is_a_usual_one() -> None:
    rows, _ = contextual(7)
    healthy = machine(7, len(rows))
    assert (rows.min(axis=0) >= healthy.min(axis=0)).all()
    assert (rows.max(axis=0) <= healthy.max(axis=0)).all()


def test_a_point_is_far_and_a_frozen_sensor_stands_still() -> None:
    spikes, points = point(7)
    assert all(event.end - event.first == 2 for event in points)
    assert np.abs(spikes - machine(7, len(spikes))).max() > 10
    frozen, events = collective(7)
    for event in events:
        assert (np.ptp(frozen[event.first : event.end], axis=0) == 0).sum() == 1


def test_it_gets_hotter_while_the_fan_does_not_answer() -> None:
    rows, events = coupling(7)
    healthy = machine(7, len(rows))
    for event in events:
        end = slice(event.end - 60, event.end)
        assert rows[end, TEMPERATURE].mean() > healthy[end, TEMPERATURE].mean() + 1.0
        stuck = rows[event.first : event.end, FAN]
        assert np.ptp(stuck) < 8 * 12.0  # its sensor's noise alone


def test_every_other_protocol_wants_its_data() -> None:
    run("converter", "benchmark", "skab", code=2)
