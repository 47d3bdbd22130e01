"""Real magnetometers, with answers that others have published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_agent.calibrate.compass.calibration import Calibration
from edge_agent.calibrate.compass.compass import calibrate
from edge_agent.calibrate.compass.turning import check
from edge_agent.calibrate.reading.files import read_readings

pytestmark = pytest.mark.data("mag")

PUBLISHED = {
    "jremington_mag3_raw.csv": ((9955.1517, -7948.2646, 8511.8045), 0.0155),
    "aleksandrbazhin_mag_out.txt": ((-68.107, 82.848, -133.430), 0.0206),
    "sunsided_set_2_full_sphere.npz": ((-0.0065, -0.1054, 0.0202), 0.0046),
}


def found_in(folder: Path, name: str) -> Calibration:
    return calibrate(read_readings(folder / "mag" / name))


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_answer_is_found(data_dir: Path, name: str) -> None:
    published, variation = PUBLISHED[name]
    found = found_in(data_dir, name)
    assert found.verdict == "pass"
    assert found.bias is not None
    assert found.radius is not None
    assert found.radius_cv is not None
    assert np.linalg.norm(found.bias - published) < 0.001 * found.radius
    assert round(found.radius_cv, 4) <= variation
    lengths = np.linalg.norm(found.correct(read_readings(data_dir / "mag" / name).field), axis=1)
    assert round(lengths.std() / lengths.mean(), 4) <= variation
    assert found.coverage >= 90


def test_two_turns_are_two_turns(data_dir: Path) -> None:
    found = found_in(data_dir, "sunsided_set_2_full_sphere.npz")
    turned = check(
        found,
        read_readings(data_dir / "mag" / "sunsided_set_2_rotate_ccw_around_z_pointing_up.npz"),
    )
    assert turned.net_turn_deg == pytest.approx(720.0, abs=8.0)
    assert turned.norm_cv < 0.005
    back = check(
        found, read_readings(data_dir / "mag" / "sunsided_set_2_roll_and_tilt_at_45_90.npz")
    )
    assert back.net_turn_deg == pytest.approx(0.0, abs=8.0)


def test_gravity_finds_a_rotation_that_other_recordings_confirm(data_dir: Path) -> None:
    found = found_in(data_dir, "sunsided_set_2_full_sphere.npz")
    assert found.rotation_deg == pytest.approx(3.8, abs=0.5)
    assert found.matrix is not None
    assert found.bias is not None
    left, _, right = np.linalg.svd(found.matrix)
    for name in ("rotate_ccw_around_z_pointing_up", "roll_and_tilt_at_45_90"):
        second = read_readings(data_dir / "mag" / f"sunsided_set_2_{name}.npz")
        assert second.acceleration is not None
        field = found.correct(second.field)
        scatter = [
            np.std(np.einsum("ij,ij->i", rows, second.acceleration) / np.linalg.norm(rows, axis=1))
            for rows in (field, field @ (left @ right))
        ]
        assert scatter[0] < scatter[1]


def test_what_was_not_turned_enough_is_refused(data_dir: Path) -> None:
    flat = found_in(data_dir, "sunsided_set_2_rotate_ccw_around_z_pointing_up.npz")
    assert flat.verdict == "fail"
    assert "upside down" in flat.next_move or "tip" in flat.next_move
    still = found_in(data_dir, "sunsided_set_2_unmoved_with_x_pointing_forward.npz")
    assert still.verdict == "fail"
    assert "not turned" in still.reason
