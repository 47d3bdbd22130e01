"""The method against boards with known iron: as good as the best fit known, and honest about it."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from edge_agent.calibrate.compass.compass import calibrate
from edge_agent.calibrate.compass.site import site_at
from edge_agent.calibrate.compass.turning import check
from edge_agent.calibrate.heading import attitudes, heading_deg, level_turns_deg
from tests.turned_boards import (
    CASES,
    DOWN,
    FIELD,
    FIRST_SEED,
    Case,
    rotation,
    solved,
    tumbled,
    turned_board,
)

# Few, to be quick: a median of 16 is off by a tenth. `python -m tests.turned_boards` does more.
SEEDS = 16


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_headings_are_as_right_as_the_best_fit_known(case: Case) -> None:
    errors, took_s = [], []
    for seed in range(SEEDS):
        board = case.board(FIRST_SEED + seed)
        began_s = time.process_time()
        found = calibrate(board.readings)
        took_s.append(time.process_time() - began_s)
        errors.append(board.heading_error_deg(*solved(found), 20.0))
    sys.stdout.write(f"{np.median(errors):.3f} deg, {1e3 * np.median(took_s):.0f} ms a fit\n")
    assert np.median(errors) <= case.goal_deg


@pytest.mark.parametrize("tilt_deg", [None, 90.0, 60.0, 45.0, 30.0, 20.0, 15.0, 10.0])
def test_the_predicted_error_is_the_true_one(tilt_deg: float | None) -> None:
    predicted, true = [], []
    for seed in range(SEEDS):
        board = turned_board(100 + seed, tilt_deg)
        found = calibrate(board.readings._replace(acceleration=None))
        assert found.error is not None
        predicted.append(found.error.sigma_deg)
        true.append(board.heading_error_deg(*solved(found), 10.0))
    ratio = np.median(predicted) / np.sqrt(np.mean(np.square(true)))
    assert 1.0 / 1.5 < ratio < 1.5


def test_a_motor_switched_on_at_half_time_does_not_pass() -> None:
    for seed in range(4):
        board, count = turned_board(9500 + seed), 900
        random, t = np.random.default_rng(seed), np.linspace(0.0, 60.0, count)
        turned = attitudes(360.0 * t / 9.3, 70.0 * np.sin(t / 7.1), 170.0 * np.sin(t / 17.0))
        field = board.feels(turned) + random.normal(0.0, 3.0, (count, 3))
        steady = calibrate(board.readings._replace(field=field, acceleration=None))
        assert steady.verdict == "pass"
        field[count // 2 :] += 40.0 * np.array([0.6, 0.64, -0.48])
        found = calibrate(board.readings._replace(field=field, acceleration=None))
        assert found.verdict != "pass"
        assert "motor" in found.next_move or "magnetic moved" in found.reason
        assert found.error is not None
        assert found.error.sigma_deg > board.heading_error_deg(*solved(found), 10.0) / 3.0


def test_what_gravity_could_not_rule_out_is_in_the_error() -> None:
    """A shaken accelerometer does not see a degree between the sensors: no board may pass so."""
    predicted, true = [], []
    for seed in range(SEEDS):
        board = turned_board(7000 + seed, 45.0, misaligned_deg=1.0, accelerometer_noise=0.04)
        found = calibrate(board.readings)
        assert found.error is not None
        predicted.append(found.error.sigma_deg)
        true.append(board.heading_error_deg(*solved(found), 10.0))
    assert np.sqrt(np.mean(np.square(predicted))) > np.sqrt(np.mean(np.square(true))) / 1.5


def test_what_was_turned_well_passes_and_what_lay_flat_does_not() -> None:
    assert calibrate(turned_board(1).readings).verdict == "pass"
    marginal = calibrate(turned_board(1, 20.0).readings)
    assert marginal.verdict == "marginal"
    assert "tip" in marginal.next_move or "turn" in marginal.next_move
    flat = calibrate(turned_board(1, 5.0).readings)
    assert flat.verdict == "fail"
    assert flat.error is not None
    assert flat.error.sigma_deg > 2.0


def test_the_move_that_is_asked_for_brings_what_it_promises() -> None:
    board = turned_board(3, 12.0)
    found = calibrate(board.readings)
    assert found.next_move.startswith("tip the nose 45° ") or "upside down" in found.next_move
    random = np.random.default_rng(0)
    turned = attitudes(np.arange(0.0, 360.0, 5.0), 45.0 if "down" in found.next_move else -45.0)
    if "upside" in found.next_move:
        turned = attitudes(np.arange(0.0, 360.0, 5.0), 0.0, 180.0)
    more = board.feels(turned) + random.normal(0.0, 3.0, (len(turned), 3))
    field = np.concatenate((board.readings.field, more))
    again = calibrate(board.readings._replace(field=field, acceleration=None))
    assert again.error is not None
    assert found.error is not None
    assert again.error.sigma_deg < found.error.sigma_deg / 2
    assert board.heading_error_deg(*solved(again), 10.0) < 1.0


def test_the_unit_of_the_readings_changes_nothing() -> None:
    board = turned_board(2, 45.0)
    one = calibrate(board.readings._replace(unit=None))
    for scale in (1e-6, 0.1, 7.3e4):
        other = calibrate(board.readings._replace(field=board.readings.field * scale, unit=None))
        assert other.verdict == one.verdict
        assert solved(other)[1] == pytest.approx(solved(one)[1] * scale, rel=1e-4)
        assert other.error is not None
        assert one.error is not None
        assert other.error.sigma_deg == pytest.approx(one.error.sigma_deg, rel=1e-3)


def test_a_rest_does_not_outweigh_the_turn() -> None:
    board, random = turned_board(4), np.random.default_rng(1)
    rest = board.feels(attitudes(np.full(20_000, 30.0), 10.0))
    # A rest beside a motor: noise that a turn elsewhere does not have.
    rest += random.normal(0.0, 3.0, rest.shape) + 6.0
    field = np.concatenate((rest, board.readings.field))
    found = calibrate(board.readings._replace(field=field, acceleration=None))
    assert found.kept < 2000
    assert board.heading_error_deg(*solved(found), 10.0) < 1.0


def test_residuals_that_hang_together_are_not_believed() -> None:
    board = turned_board(5)
    drift = 12.0 * np.sin(np.linspace(0.0, 12.0, 300))[:, None] * np.array([1.0, 0.5, -0.7])
    order = np.lexsort(board.readings.field.T)
    field = board.readings.field[order] + drift
    found = calibrate(board.readings._replace(field=field, acceleration=None))
    shuffled = np.random.default_rng(0).permutation(300)
    mixed = calibrate(board.readings._replace(field=field[shuffled], acceleration=None))
    assert found.error is not None
    assert mixed.error is not None
    assert found.error.sigma_deg > 1.25 * mixed.error.sigma_deg


def test_the_field_of_the_place_sets_the_scale_and_finds_a_wrong_unit() -> None:
    site = site_at(51.5, -0.1, 2026.9)
    assert site.field is not None
    assert site.field.declination_deg == pytest.approx(1.24, abs=0.01)
    assert site.field.dip_deg == pytest.approx(66.5, abs=0.1)
    assert site.field.strength_ut == pytest.approx(49.1, abs=0.1)
    board = turned_board(6)
    found = calibrate(board.readings, site)
    assert found.verdict == "pass"
    assert found.radius == pytest.approx(site.field.strength_ut)
    assert np.linalg.norm(found.correct(board.readings.field), axis=1).mean() == pytest.approx(
        site.field.strength_ut, rel=1e-3
    )
    wrong = calibrate(board.readings._replace(unit="uT"), site)
    assert wrong.verdict == "fail"
    assert "check the unit" in wrong.reason
    assert "check the unit" in calibrate(board.readings._replace(unit="uT")).reason


def test_a_year_that_the_model_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="2025 to 2030"):
        site_at(51.5, -0.1, 2031.0)


@pytest.mark.parametrize(("order", "named"), [((1, 0, 2), "y x z"), ((2, 0, 1), "z x y")])
def test_swapped_axes_are_named(order: tuple[int, ...], named: str) -> None:
    readings = turned_board(7).readings
    assert readings.acceleration is not None
    back = np.argsort(order)
    found = calibrate(readings._replace(acceleration=readings.acceleration[:, back]))
    assert found.verdict == "fail"
    assert named in found.reason


def test_an_accelerometer_that_says_nothing_is_left_out() -> None:
    readings = turned_board(8).readings
    alone = calibrate(readings._replace(acceleration=None))
    nothing = np.random.default_rng(0).normal(size=(300, 3))
    for acceleration in (np.zeros((300, 3)), nothing / np.linalg.norm(nothing, axis=1)[:, None]):
        found = calibrate(readings._replace(acceleration=acceleration))
        assert found.verdict == alone.verdict
        assert solved(found)[0] == pytest.approx(solved(alone)[0])


def test_a_sensor_that_reads_gravity_instead_of_its_opposite_gives_the_same() -> None:
    board = turned_board(9, misaligned_deg=2.0)
    assert board.readings.acceleration is not None
    one = calibrate(board.readings)
    other = calibrate(board.readings._replace(acceleration=-9.81 * board.readings.acceleration))
    assert one.method == "ellipsoid and gravity"
    assert solved(other)[0] == pytest.approx(solved(one)[0])


def test_a_board_south_of_the_equator_is_calibrated_too() -> None:
    board = turned_board(10, misaligned_deg=2.0)
    # The field points up there: the same as north of it with the board upside down.
    flip = np.diag([1.0, -1.0, -1.0])
    assert board.readings.acceleration is not None
    readings = board.readings._replace(acceleration=-board.readings.acceleration)
    north, south = calibrate(board.readings), calibrate(readings, site_at(-35.0, 149.0, 2026.5))
    assert north.dip_deg == pytest.approx(65.0, abs=1.0)
    assert south.dip_deg == pytest.approx(-65.0, abs=1.0)
    level = attitudes(np.arange(0.0, 360.0, 10.0)) @ flip @ FIELD
    magnetic = heading_deg(level, DOWN)
    assert (magnetic + 1.0) % 360.0 == pytest.approx(np.arange(1.0, 360.0, 10.0))


@pytest.mark.parametrize("tilt", [(0.0, 0.0), (30.0, 0.0), (0.0, -50.0), (-20.0, 40.0)])
def test_headings_do_not_depend_on_the_tilt(tilt: tuple[float, float]) -> None:
    truth = np.arange(0.0, 360.0, 15.0)
    turned = attitudes(truth, *tilt)
    magnetic = heading_deg(turned @ FIELD, turned @ DOWN)
    assert (magnetic + 1.0) % 360.0 == pytest.approx(truth + 1.0)
    true = heading_deg(turned @ FIELD, turned @ DOWN, declination_deg=10.0)
    assert (true - 9.0) % 360.0 == pytest.approx(truth + 1.0)


def test_turns_are_counted_beyond_360() -> None:
    turned = attitudes(np.linspace(0.0, -1080.0, 500))
    assert level_turns_deg(turned @ FIELD)[-1] == pytest.approx(-1080.0)


def test_the_check_counts_tilted_turns_and_the_field() -> None:
    board = turned_board(11)
    found = calibrate(board.readings)
    turned = attitudes(np.linspace(0.0, 720.0, 400), 25.0, -15.0)
    second = board.readings._replace(field=board.feels(turned), acceleration=-(turned @ DOWN))
    answer = check(found, second)
    assert answer.tilt_compensated
    assert answer.net_turn_deg == pytest.approx(720.0, abs=1.0)
    assert answer.norm_cv < 0.005
    level = check(found, second._replace(acceleration=None))
    assert not level.tilt_compensated


def test_a_magnet_that_passes_by_is_told_with_its_time() -> None:
    readings = turned_board(12).readings
    field = readings.field.copy()
    field[100:170] += np.linspace(80.0, 400.0, 70)[:, None] * np.array([1.0, 0.5, 0.2])
    found = calibrate(readings._replace(field=field, seconds=np.arange(300.0)))
    assert found.verdict == "fail"
    assert "something magnetic moved near the board" in found.reason
    first = float(found.reason.partition("from ")[2].split(" ")[0])
    assert 95.0 < first < 120.0


def test_a_board_that_cannot_be_turned_gets_its_hard_iron_and_the_error() -> None:
    board, random = turned_board(13), np.random.default_rng(0)
    turned = attitudes(random.uniform(-50.0, 50.0, 400))
    field = board.feels(turned) + random.normal(0.0, 3.0, (400, 3))
    found = calibrate(board.readings._replace(field=field, acceleration=None))
    assert found.method == "hard iron only"
    assert found.verdict == "fail"
    assert "only the hard iron" in found.reason
    assert found.error is not None
    true = board.heading_error_deg(*solved(found), 3.0)
    assert found.error.sigma_deg > 5.0
    assert true < 3.0 * found.error.sigma_deg


def test_rotations_of_the_generator_are_rotations() -> None:
    turned = rotation(np.array([0.3, -0.2, 0.5]))
    assert turned @ turned.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(turned) == pytest.approx(1.0)


@pytest.mark.parametrize("count", [40, 300])
def test_a_level_turn_says_nothing_of_the_field_across_it(count: int) -> None:
    board = turned_board(14, 1.0, count=count)
    found = calibrate(board.readings)
    assert (found.method, found.verdict) == ("hard iron only", "fail")
    assert found.error is not None
    assert found.error.sigma_deg > 0.7 * board.heading_error_deg(*solved(found), 10.0)


@pytest.mark.parametrize("peak_ut", [10.0, 30.0, 100.0])
def test_a_magnet_that_passes_slowly_bends_the_fit_and_is_seen(peak_ut: float) -> None:
    field, _ = tumbled(3)
    clean = turned_board(1).readings._replace(field=field, acceleration=None, unit="uT")
    assert calibrate(clean).verdict == "pass"
    where = np.linspace(-4.0, 4.0, len(field))[:, None]
    bent = field + peak_ut / (1.0 + where**2) ** 1.5 * np.array([1.0, -0.5, 0.3])
    assert calibrate(clean._replace(field=bent)).verdict == "fail"
