"""The synthetic machine: repeatable, free of the block size, and ill where it should be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_bridge.signals import (
    ACCEL,
    MAG,
    CompassMachine,
    Fault,
    VibrationMachine,
    VibrationSettings,
    at_rate,
    batch_for,
    digitise,
    make_machine,
)

FAULTS = (Fault("bearing", 0.5, 1.0), Fault("looseness", 0.8), Fault("unbalance", 0.2, 0.9))


def band_power(values, rate_hz, low_hz, high_hz):
    power = np.abs(np.fft.rfft(values - values.mean(axis=0), axis=0)) ** 2
    hz = np.fft.rfftfreq(len(values), 1 / rate_hz)
    return power[(hz >= low_hz) & (hz < high_hz)].sum(axis=0)


def power_ratio(fault, low_hz, high_hz, seed=3):
    """Band power with the fault against the same seconds without it, a channel."""
    ill = VibrationMachine(seed, 3200, (fault,)).values(0, 16000)
    well = VibrationMachine(seed, 3200).values(0, 16000)
    return band_power(ill, 3200, low_hz, high_hz) / band_power(well, 3200, low_hz, high_hz)


@pytest.mark.parametrize(
    "machine", [VibrationMachine(5, 3200, FAULTS), CompassMachine(5, 100, (Fault("drift", 9),))]
)
@given(cuts=st.lists(st.integers(1, 2999), max_size=8))
def test_block_size_does_not_change_a_bit(machine, cuts):
    whole = machine.values(0, 3000)
    edges = [0, *sorted(set(cuts)), 3000]
    parts = [machine.values(a, b - a) for a, b in zip(edges, edges[1:], strict=False)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_seed_decides_everything():
    one, two = VibrationMachine(1, 3200), VibrationMachine(1, 3200)
    assert np.array_equal(one.values(5000, 100), two.values(5000, 100))
    assert not np.array_equal(one.values(0, 100), VibrationMachine(2, 3200).values(0, 100))


def test_a_healthy_machine_is_realistic():
    values = VibrationMachine(1, 3200).values(0, 32000)
    assert values.mean(axis=0) == pytest.approx([0, 0, 1], abs=0.01)
    rms = values.std(axis=0)
    assert np.all((rms > 0.03) & (rms < 0.2))


@pytest.mark.parametrize("channel", ["x", "y", "z"])
def test_a_bearing_fault_raises_high_frequencies_of_its_channel(channel):
    ratio = power_ratio(Fault("bearing", 0, channel=channel), 800, 1600)
    at = "xyz".index(channel)
    assert 2 < ratio[at] < 5
    assert np.all(np.delete(ratio, at) < 1.3)


def test_a_bearing_fault_is_on_y_unless_told():
    assert power_ratio(Fault("bearing", 0), 800, 1600).argmax() == 1


def test_severity_scales_the_fault():
    mild, grave = (power_ratio(Fault("bearing", 0, None, s), 800, 1600)[1] for s in (0.5, 2))
    assert 1.2 < mild < 2 < 6 < grave


def test_unbalance_is_at_shaft_speed_and_only_there():
    assert power_ratio(Fault("unbalance", 0), 27, 32)[0] > 5
    assert power_ratio(Fault("unbalance", 0), 40, 1600)[0] == pytest.approx(1, abs=0.1)


def test_looseness_has_a_subharmonic():
    assert power_ratio(Fault("looseness", 0), 13, 17)[2] > 5


def test_nothing_happens_outside_the_schedule():
    fault = Fault("bearing", 1.0, 2.0)
    ill, well = VibrationMachine(1, 3200, (fault,)), VibrationMachine(1, 3200)
    changed = np.any(ill.values(0, 12800) != well.values(0, 12800), axis=1)
    assert not changed[:3200].any()
    assert changed[3200:6400].any()
    # The last blow may ring out.
    assert not changed[6400 + 128 :].any()


def test_speed_profile_moves_the_harmonics():
    settings = VibrationSettings(profile=((0, 20), (2, 20), (4, 40), (8, 40)), wander=0.0)
    machine = VibrationMachine(1, 3200, settings=settings)
    t = np.linspace(0, 8, 100_001)
    speed = np.interp(t, [0, 2, 4, 8], [20, 20, 40, 40])
    slow_integral = np.concatenate([[0], np.cumsum((speed[1:] + speed[:-1]) / 2 * np.diff(t))])
    assert machine.turns(t) == pytest.approx(slow_integral, abs=1e-5)
    late = machine.values(5 * 3200, 6400)
    assert band_power(late, 3200, 39, 41)[0] > 20 * band_power(late, 3200, 19, 21)[0]


def test_compass_norm_drifts_only_with_the_fault():
    well = CompassMachine(1, 100).values(0, 6000)
    ill = CompassMachine(1, 100, (Fault("drift", 20),)).values(0, 6000)
    moved = ill - well
    assert np.all(moved[:2000] == 0)
    assert moved[5999] == pytest.approx([20.0, 3.0, 3.0], abs=0.05)
    assert np.ptp(well[:, 0]) > 25  # it turns
    assert 35 < np.linalg.norm(well, axis=1).mean() < 75


@pytest.mark.parametrize(
    "arguments",
    [("rust", 0), ("bearing", 5, 5), ("bearing", -1)],
)
def test_impossible_faults_are_refused(arguments):
    with pytest.raises(ValueError, match="fault"):
        Fault(*arguments)


@pytest.mark.parametrize(
    ("machine", "fault"),
    [("vibration", Fault("drift", 0)), ("compass", Fault("bearing", 0)),
     ("vibration", Fault("bearing", 0, channel="w"))],
)  # fmt: skip
def test_a_machine_refuses_a_fault_it_cannot_have(machine, fault):
    with pytest.raises(ValueError, match=r"fault|channel"):
        make_machine(machine, faults=(fault,))


def test_digitise_rounds_and_clips():
    values = np.array([[0.0039, -0.0039 * 2.4, 100.0], [0, -100, 1]])
    assert digitise(values, ACCEL).tolist() == [[1, -2, 4103], [0, -4103, 256]]
    assert digitise(values, ACCEL).dtype == np.dtype("<i2")


@pytest.mark.parametrize(
    ("stream", "rate_hz", "batch"),
    [(ACCEL, 3200, 80), (ACCEL, 100, 10), (ACCEL, 1600, 40), (ACCEL, 12800, 160), (MAG, 100, 10),
     (ACCEL, 1000, 24)],
)  # fmt: skip
def test_usual_batches(stream, rate_hz, batch):
    assert batch_for(stream, rate_hz) == batch
    assert at_rate(stream, rate_hz).batch == batch
