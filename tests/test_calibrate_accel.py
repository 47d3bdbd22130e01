"""Twelve poses against boards with known errors: right, and honest about how right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from edge_agent.calibrate.accel.accuracy import worst_error_mg
from edge_agent.calibrate.accel.fit import fit_poses
from edge_agent.calibrate.accel.grading import calibrate
from edge_agent.calibrate.accel.moved import moved
from edge_agent.calibrate.accel.moves import move_words, next_side
from edge_agent.calibrate.accel.partial import read_partial, write_partial
from edge_agent.calibrate.accel.poses import (
    APART_DEG,
    SIDES,
    Pose,
    Poses,
    degrees_between,
    directions,
)
from edge_agent.calibrate.accel.recording import read_recording
from edge_agent.calibrate.accel.seconds import Second, Seconds
from edge_agent.calibrate.accel.task import AccelTask
from edge_agent.calibrate.accel.units import in_g, local_gravity_g
from edge_agent.calibrate.sitting.task import CannotCalibrate, Refused
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema, StreamSchema
from tests.posed_boards import (
    FIRST_SEED,
    NOISE_G,
    ROWS,
    SIX,
    Floats,
    laid_down,
    posed_board,
    random_poses,
    six_trial,
    trial,
    twelve_poses,
    wire,
)

TRIALS = 40
SEEDS = range(FIRST_SEED, FIRST_SEED + TRIALS)
RATE_HZ = 800.0


def kept(means: Floats, spread_g: float = NOISE_G, rows: int = ROWS) -> list[Pose]:
    """Poses of these means, of so many rows each."""
    noise = np.full(3, NOISE_G / np.sqrt(rows))
    return [
        Pose(n, Second(2.0 * n, mean, np.full(3, spread_g), noise, np.empty((0, 3))),
             mean / np.linalg.norm(mean))
        for n, mean in enumerate(means, 1)
    ]  # fmt: skip


def posed(data: bytes, task: AccelTask | None = None) -> AccelTask:
    """A recording through a task."""
    task, playback = task or AccelTask(), Playback()
    for start in range(0, len(data), 1 << 16):
        for event in playback.feed(data[start : start + (1 << 16)]):
            if isinstance(event, Samples):
                task.take(event)
            else:
                task.begin(event.schema)
    task.ended()
    return task


def test_twelve_random_poses_leave_a_third_of_a_milli_g_and_six_positions_ten() -> None:
    errors, _ = zip(*(trial(seed) for seed in SEEDS), strict=True)
    ours = float(np.median(errors))
    sys.stdout.write(f"12 random poses: {ours:.3f} mg\n")
    assert ours <= 0.3
    for name in SIX:
        for wrong_deg in (1.0, 3.0):
            theirs = float(np.median([six_trial(seed, name, wrong_deg) for seed in SEEDS]))
            sys.stdout.write(f"{name}, {wrong_deg:g} deg: {theirs:.1f} mg\n")
            assert theirs > 30.0 * ours


@pytest.mark.parametrize(("count", "half"), [(10, False), (12, False), (18, False), (12, True)])
def test_the_predicted_error_is_the_true_one(count: int, half: bool) -> None:
    predicted, true = [], []
    for seed in SEEDS:
        board, random = posed_board(seed), np.random.default_rng([seed, 4])
        up = random_poses(random, count, 20.0, half)
        fit = twelve_poses(board.means(up, random))
        predicted.append(worst_error_mg(fit))
        true.append(board.worst_mg(fit.correct, random))
    ratio = np.median(predicted) / np.median(true)
    assert 1.0 / 1.5 < ratio < 1.6, ratio


def test_what_lay_on_all_sides_passes_and_what_was_never_turned_over_does_not() -> None:
    board, random, rows = posed_board(1), np.random.default_rng(1), 800
    all_over = board.means(random_poses(random), random, rows)
    assert calibrate(kept(all_over, rows=rows), None, 1.0).verdict == "pass"
    upright = kept(board.means(random_poses(random, 12, 22.0, half=True), random, rows), rows=rows)
    found = calibrate(upright, None, 1.0)
    assert found.verdict != "pass"
    assert found.error_mg is not None
    assert found.error_mg > 1.0
    side = next_side(upright)
    assert side is not None
    # What it asks for is beneath, and halves the error.
    assert SIDES[side][2] > 0
    more = board.means(-directions()[side][None], random, rows)
    means = np.vstack([pose.second.mean for pose in upright] + [more])
    again = calibrate(kept(means, rows=rows), None, 1.0)
    assert again.error_mg is not None
    assert again.error_mg < found.error_mg / 2


def test_following_the_moves_is_better_than_poses_at_random() -> None:
    errors = []
    for seed in SEEDS[:10]:
        board, random = posed_board(seed), np.random.default_rng([seed, 5])
        poses: list[Pose] = []
        for _ in range(12):
            side = next_side(poses)
            assert side is not None
            assert move_words(side)
            toward = -directions()[side] + 0.1 * random.normal(size=3)
            up = toward / np.linalg.norm(toward)
            means = [pose.second.mean for pose in poses] + [*board.means(up[None], random)]
            poses = kept(np.array(means))
        fit = twelve_poses(np.array([pose.second.mean for pose in poses]))
        errors.append(board.worst_mg(fit.correct, random))
    assert np.median(errors) < 0.18
    assert [move_words(next_side(poses[:n]))[:6] for n in (0, 1)] == ["lay it", "lay it"]


def test_the_pose_that_moved_is_named_and_none_of_a_good_dozen_is() -> None:
    wrongly, named = 0, 0
    for seed in SEEDS:
        board, random = posed_board(seed), np.random.default_rng([seed, 6])
        up = random_poses(random)
        means = board.means(up, random)
        wrongly += moved(means, twelve_poses(means)) is not None
        place = seed % 12
        means[place] += 0.02 * up[place]
        found = moved(means, twelve_poses(means))
        named += found is not None and found.place == place
        if found is not None and found.place == place:
            assert found.off_mg == pytest.approx(20.0, abs=5.0)
    assert wrongly == 0
    assert named >= 0.9 * TRIALS


def test_a_moved_pose_that_is_not_named_is_at_least_not_passed() -> None:
    for seed in SEEDS:
        board, random = posed_board(seed), np.random.default_rng([seed, 6])
        up = random_poses(random)
        means = board.means(up, random)
        means[seed % 12] += 0.008 * up[seed % 12]
        found = calibrate(kept(means), None, 1.0)
        assert found.verdict != "pass"


def test_a_sensor_that_is_not_linear_is_told_by_its_error_and_comes_to_an_end() -> None:
    board = posed_board(3)
    rows = laid_down(board, random_poses(np.random.default_rng(3), 14), 200.0, 1.6)
    task = posed(wire(rows + 0.02 * rows**3, 200.0))
    found = task.verdict()
    assert found.error_mg is not None
    assert found.error_mg > 1.0
    assert len(task.dropped) <= 3


def test_a_quiet_sensor_with_coarse_steps_is_not_believed_too_much() -> None:
    """Half a step of noise hides what is less than a step: no mean brings it back."""
    for seed in range(3):
        board, random = posed_board(seed), np.random.default_rng([seed, 7])
        rows = laid_down(board, random_poses(random), RATE_HZ, 1.6, noise_g=0.0006)
        task = posed(wire(rows, RATE_HZ))
        found = task.verdict()
        assert found.fit is not None
        assert found.error_mg is not None
        true = board.worst_mg(found.fit.correct, random)
        assert found.error_mg > 2.0
        assert true < 2.5 * found.error_mg


def test_local_gravity_is_what_welmec_says() -> None:
    assert local_gravity_g(None) == 1.0
    assert local_gravity_g(45.0) * 9.80665 == pytest.approx(9.80620, abs=2e-5)
    assert local_gravity_g(0.0) * 9.80665 == pytest.approx(9.780318, abs=1e-6)
    assert local_gravity_g(-52.5, 40.0) == pytest.approx(local_gravity_g(52.5) - 1.26e-5, abs=1e-6)
    board, random = posed_board(1), np.random.default_rng(1)
    up, here = random_poses(random), local_gravity_g(0.0, 2000.0)
    found = calibrate(kept(board.feels(up, here)), None, here)
    assert found.fit is not None
    lengths = np.linalg.norm(found.fit.correct(board.feels(up, 1.0)), axis=1)
    assert lengths == pytest.approx(1.0, abs=1e-6)


def test_units_are_known_by_name_only() -> None:
    assert in_g("g") == 1.0
    assert in_g(" MG ") == 1e-3
    assert in_g("m/s^2") == pytest.approx(1 / 9.80665)
    assert in_g("uT") is None


@pytest.mark.parametrize("unit", ["g", "mg", "m/s2"])
def test_the_unit_of_the_stream_changes_nothing(unit: str) -> None:
    board = posed_board(1)
    rows = laid_down(board, random_poses(np.random.default_rng(5)), RATE_HZ, 1.6)
    task = posed(wire(rows, RATE_HZ, unit=unit))
    draft = task.finish("b", 21.0)
    assert not isinstance(draft, Refused)
    assert (draft.kind, draft.verdict, draft.error_unit, draft.temperature_c) == (
        "accel", "pass", "mg", 21.0,
    )  # fmt: skip
    assert draft.correction is not None
    assert draft.correction.unit == unit
    times = {"g": 1.0, "mg": 1e3, "m/s2": 9.80665}[unit]
    matrix, bias = np.array(draft.correction.matrix), np.array(draft.correction.bias)

    def corrected(readings_g: Floats) -> Floats:
        return np.asarray((readings_g * times - bias) @ matrix.T / times)

    error = board.worst_mg(corrected, np.random.default_rng(0))
    assert error < 1.0
    assert draft.error is not None
    assert draft.error == pytest.approx(error, abs=0.6)
    assert draft.details["checks"]


def test_a_second_is_still_or_not_and_no_gap_is_bridged() -> None:
    seconds = Seconds(100.0)
    still = np.tile([0.0, 0.0, 1.0], (100, 1))
    assert seconds.take(still[:95], 5.0) == []
    (found,) = seconds.take(still[:5], 5.95)
    assert found.still
    assert found.t_s == pytest.approx(6.0)
    assert found.mean == pytest.approx([0.0, 0.0, 1.0])
    seconds.restart()
    assert seconds.take(still[:99], 7.0) == []
    (shaken,) = seconds.take(still[:1] + [0.2, 0.0, 0.0], 7.99)
    assert not shaken.still
    # Batches of any size give the same seconds.
    rows = np.random.default_rng(0).normal(0.0, 0.004, (1000, 3))
    whole, parts = Seconds(100.0), Seconds(100.0)
    one = whole.take(rows, 0.0)
    two = [s for i in range(0, 1000, 7) for s in parts.take(rows[i : i + 7], i / 100.0)]
    assert len(one) == len(two) == 91
    assert all(np.array_equal(a.mean, b.mean) and abs(a.t_s - b.t_s) < 1e-9
               for a, b in zip(one, two, strict=True))  # fmt: skip


def test_a_pose_near_an_earlier_one_is_refused_however_often() -> None:
    poses = Poses()
    seconds = Seconds(100.0)
    random, taken = np.random.default_rng(0), []
    angles = [0.0, 20.0, 24.0, 26.0, 10.0, 52.0]
    for number, angle in enumerate(np.radians(angles)):
        up = np.array([np.sin(angle), 0.0, np.cos(angle)])
        rows = np.vstack((random.normal(0.0, 0.3, (50, 3)), np.tile(up, (350, 1))))
        rows += random.normal(0.0, 0.002, rows.shape)
        for second in seconds.take(rows, 4.0 * number):
            pose = poses.take(second)
            taken += [angles[number]] if pose else []
    assert taken == [0.0, 26.0, 52.0]
    assert poses.again == 3
    for one in poses.kept:
        for other in poses.kept:
            assert one is other or degrees_between(one.up, other.up) >= APART_DEG


def test_noise_about_what_is_allowed_is_no_movement() -> None:
    poses, seconds = Poses(), Seconds(100.0)
    rows = np.random.default_rng(0).normal([0.0, 0.0, 1.0], 0.0098, (6000, 3))
    for second in seconds.take(rows, 0.0):
        poses.take(second)
    assert len(poses.kept) == 1
    assert poses.again == 0


def test_the_end_of_a_movement_is_not_part_of_a_pose() -> None:
    """A tail of 25 mg in the first tenth is still enough to be called still; the next are taken."""
    poses, seconds = Poses(), Seconds(100.0)
    rows = np.tile([0.0, 0.0, 1.0], (350, 1))
    rows[:10, 0] += 0.025
    for second in seconds.take(rows, 0.0):
        poses.take(second)
    (pose,) = poses.kept
    assert pose.second.mean[0] == 0.0


def test_a_pose_is_the_mean_of_all_the_seconds_that_it_lay_still() -> None:
    """Three seconds scatter by 1 / sqrt(3) of what one does; one with a shake in it is left out."""
    errors = {150: [], 350: [], -350: []}
    for rows_still, found in errors.items():
        for seed in range(60):
            poses, seconds = Poses(), Seconds(100.0)
            rows = np.random.default_rng(seed).normal([0.0, 0.0, 1.0], 0.002, (400, 3))
            if rows_still < 0:
                rows[140:150, 0] += 0.02
            for second in seconds.take(rows[: abs(rows_still)], 0.0):
                poses.take(second)
            poses.restart()
            (pose,) = poses.kept
            found.append(np.abs(pose.second.mean - [0.0, 0.0, 1.0]).max())
            assert pose.second.noise.max() < 0.5e-3
    one, three, shaken = (float(np.median(found)) for found in errors.values())
    assert three < 0.7 * one
    assert shaken < one


def test_a_sitting_goes_on_from_its_poses_and_trusts_no_file() -> None:
    board = posed_board(1)
    up = random_poses(np.random.default_rng(5), 13)
    first = posed(wire(laid_down(board, up[:7], RATE_HZ, 1.6), RATE_HZ))
    saved = first.partial()
    assert saved is not None
    assert first.schema is not None
    again = AccelTask()
    again.begin(first.schema)
    assert again.resume(saved)
    posed(wire(laid_down(board, up[7:], RATE_HZ, 1.6), RATE_HZ), again)
    assert again.verdict().verdict == "pass"
    assert [pose.number for pose in again.poses.kept] == list(range(1, 14))
    told = json.loads(saved)
    assert read_partial(saved, "another") == []
    for key, value in (("mean", [1e9, 0, 0]), ("mean", [0, 0, 0]), ("spread", [1, 0, 0]),
                       ("noise", [-1, 0, 0]), ("mean", "x"), ("t_s", None)):  # fmt: skip
        hostile = {**told, "poses": [{**told["poses"][0], key: value}]}
        assert read_partial(json.dumps(hostile).encode(), told["uid"]) == []
    many = {**told, "poses": told["poses"] * 9}
    assert read_partial(json.dumps(many).encode(), told["uid"]) == []
    assert read_partial(b"\xff" * 99, told["uid"]) == []
    assert read_partial(write_partial("u", []), "u") == []


def test_a_board_that_has_no_accelerometer_is_told_so() -> None:
    def schema(**more: object) -> Schema:
        fields = {"id": 1, "name": "s", "sensor": "S", "format": "<i2", "channels": ("x", "y", "z"),
                  "unit": "g", "scale": 0.001, "rate_hz": 100.0, "batch": 10}  # fmt: skip
        return Schema("b", "u", "1", (StreamSchema(**(fields | more)),), 0)  # type: ignore[arg-type]

    for more, said in (({"unit": "uT"}, "expected one of three channels in g"),
                       ({"rate_hz": 5.0}, "5 samples a second"),
                       ({"channels": ("x",)}, "expected one of three")):  # fmt: skip
        with pytest.raises(CannotCalibrate, match=said):
            AccelTask().begin(schema(**more))
    with pytest.raises(CannotCalibrate, match="no stream 'other'"):
        AccelTask(stream="other").begin(schema())
    with pytest.raises(CannotCalibrate, match="expected g, mg or m/s2"):
        AccelTask(stream="s").begin(schema(unit="counts"))
    with pytest.raises(ValueError, match="nine parameters need 9"):
        fit_poses(np.eye(3), 1e-3)


@pytest.mark.data("mag")
def test_a_real_sensor_that_was_never_moved_shows_one_pose(data_dir: Path) -> None:
    """An MPU6050, logged with times of arrival that jitter by a quarter of a second."""
    recorded = read_recording(
        data_dir / "mag" / "sunsided_set_2_unmoved_with_x_pointing_forward.npz"
    )
    task = AccelTask()
    task.begin(recorded.schema)
    for batch in recorded.batches:
        task.take(batch)
    task.ended()
    assert task.rate.rate_hz == pytest.approx(77.0, abs=0.5)
    assert len(task.poses.kept) == 1
    assert task.verdict().reason == "1 of 12 poses"
    floor = task.floor()
    assert floor is not None
    # The data sheet has 400 ug/sqrt(Hz).
    assert 200.0 < float(np.median(floor.bands[-1].density)) < 800.0


def test_the_screen_says_how_far_it_is_and_rings_for_each_pose() -> None:
    board = posed_board(1)
    up = random_poses(np.random.default_rng(5), 12)
    data = wire(laid_down(board, up[:5], RATE_HZ, 1.6), RATE_HZ)
    progress = posed(data).progress()
    assert progress.bells == progress.fields["poses"] == 5
    assert progress.headline == "5 of 12 poses"
    assert progress.verdict is None
    assert (progress.enough, progress.acceptable, progress.over) == (False, False, False)
    assert len(progress.picture) <= 12
    assert max(map(len, progress.picture)) <= 76
    assert len(progress.rows) <= 5
    bar = next(line for line in progress.picture if line.startswith("poses"))
    assert bar.count("#") == 20
    assert sum(line.count("@@@") for line in progress.picture) == 1
    json.dumps(progress.fields, allow_nan=False)
    done = posed(wire(laid_down(board, up, RATE_HZ, 1.6), RATE_HZ)).progress()
    assert (done.verdict, done.enough, done.bells) == ("pass", True, 12)
