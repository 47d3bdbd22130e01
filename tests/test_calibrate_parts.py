"""What a live calibration is made of: pairing, keeping, guiding, drawing; and the board it is tried
with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.calibrate.compass.accuracy import fields
from edge_agent.calibrate.compass.guide import HOLDS, Guide
from edge_agent.calibrate.compass.kept import LIMIT_ROWS, Kept
from edge_agent.calibrate.compass.pairing import Pairing
from edge_agent.calibrate.compass.sphere_map import sphere_map
from edge_agent.calibrate.sphere import SECTIONS, sections
from firmware_bridge.schema import Schema
from firmware_bridge.signals import MAG
from firmware_bridge.turned import (
    WAYS,
    Attitudes,
    TurnedAccelerometer,
    TurnedMagnetometer,
    turned_sources,
)

DIP_DEG = 65.0


def kept() -> Kept:
    return Kept(Schema("b", "u", "1", (MAG,), 0), MAG)


def rows(field: np.ndarray) -> np.ndarray:
    """Without gravity."""
    return np.column_stack((np.arange(len(field)) / 100.0, field, np.full((len(field), 3), np.nan)))


def test_gravity_is_that_of_the_moment_and_never_guessed_ahead() -> None:
    pairing = Pairing(with_gravity=True)
    for start in range(5):
        t = start + np.arange(10) / 10.0
        pairing.feel(float(start), 10.0, np.column_stack((t, 2.0 * t, 0.0 * t)))
    pairing.field(1.0, 10.0, np.ones((50, 3)))
    paired = pairing.paired()
    # The last mean of the accelerometer stands for 4.45 s: what came later waits.
    assert paired[-1, 0] == pytest.approx(4.4)
    assert paired[:, 4] == pytest.approx(paired[:, 0])
    assert paired[:, 5] == pytest.approx(2.0 * paired[:, 0])
    assert len(pairing.paired()) == 0
    pairing.feel(7.0, 10.0, np.zeros((10, 3)))
    assert pairing.paired()[-1, 0] == pytest.approx(5.9)


def test_a_silent_accelerometer_holds_nothing_up_for_long() -> None:
    pairing = Pairing(with_gravity=True)
    pairing.field(0.0, 100.0, np.ones((300, 3)))
    paired = pairing.paired()
    assert len(paired) == pytest.approx(100, abs=2)
    assert np.isnan(paired[:, 4:]).all()
    alone = Pairing(with_gravity=False)
    alone.field(0.0, 100.0, np.ones((5, 3)))
    assert len(alone.paired()) == 5


def test_what_is_kept_is_bounded_and_spread() -> None:
    mine = kept()
    mag = TurnedMagnetometer(Attitudes("full", 1), 1, 100.0)
    for start in range(0, 60_000, 500):
        mine.add(rows(mag.values(start, 500)))
    assert 600 < len(mine.rows) < LIMIT_ROWS
    before = len(mine.rows)
    mine.add(rows(np.tile(mag.values(7, 1), (5000, 1))))
    assert len(mine.rows) <= before + 2
    assert not mine.cloud


def test_a_board_that_rests_leaves_little_and_then_is_turned() -> None:
    mine, random = kept(), np.random.default_rng(0)
    for _ in range(50):
        mine.add(rows(np.array([20.0, 5.0, 40.0]) + random.normal(0.0, 0.3, (100, 3))))
        assert len(mine.rows) <= 20
    assert mine.cloud
    mag = TurnedMagnetometer(Attitudes("full", 1, 4.0), 1, 100.0)
    for start in range(0, 2000, 50):
        mine.add(rows(mag.values(start, 50)))
    assert not mine.cloud
    assert len(mine.rows) > 300


@pytest.mark.parametrize("z_up", [False, True])
def test_whoever_follows_the_guide_sees_the_whole_sphere(z_up: bool) -> None:
    guide, seen, asked = Guide(), np.zeros(SECTIONS, np.bool_), []
    for _ in range(40):
        words = guide.advice(seen, DIP_DEG, z_up).removesuffix(" and turn it slowly all round")
        if not asked or asked[-1] != words:
            asked.append(words)
        field, _ = fields(DIP_DEG, HOLDS[words], z_up)
        seen[np.unique(sections(field))] = True
    assert asked[0] == "hold it level"
    assert seen.sum() > 75
    assert len(asked) <= 14


def test_a_move_that_nobody_follows_is_not_asked_for_for_ever() -> None:
    guide, seen = Guide(), np.zeros(SECTIONS, np.bool_)
    asked = [guide.advice(seen, DIP_DEG, z_up=False) for _ in range(200)]
    assert len(set(asked)) > 5
    # Each stands long enough to be read and tried.
    changes = [i for i in range(1, 200) if asked[i] != asked[i - 1]]
    assert min(np.diff(changes)) >= 10


@given(
    seen=st.lists(st.booleans(), min_size=SECTIONS, max_size=SECTIONS),
    now=st.none() | st.integers(0, SECTIONS - 1), z_up=st.booleans(),
)  # fmt: skip
def test_the_map_shows_each_section(seen: list[bool], now: int | None, z_up: bool) -> None:
    lines = sphere_map(np.array(seen), now, z_up)
    assert len(lines) == 12
    assert {len(line) for line in lines} == {77}
    cells = "".join(line[9:] for line in lines)
    assert ("@" in cells) == (now is not None)
    others = [s for i, s in enumerate(seen) if i != now]
    assert ("#" in cells) == any(others)
    assert ("." in cells) == (not all(others))


@pytest.mark.parametrize("how", [*WAYS, "0", "45"])
def test_block_size_does_not_change_a_bit_of_a_turned_board(how: str) -> None:
    for sensor in (TurnedMagnetometer, TurnedAccelerometer):
        machine = sensor(Attitudes(how, 3), 3, 100.0)
        whole = machine.values(0, 2500)
        parts = [machine.values(a, b - a) for a, b in ((0, 7), (7, 1500), (1500, 2500))]
        assert np.array_equal(np.concatenate(parts), whole)
        lengths = np.linalg.norm(whole - whole.mean(axis=0), axis=1)
        assert (lengths.max() < 3.0) == (how == "still" or sensor is TurnedAccelerometer)


@pytest.mark.parametrize("how", ["round", "-1", "91", "nan", ""])
def test_a_way_that_nobody_turns_is_refused(how: str) -> None:
    with pytest.raises(ValueError, match="turn"):
        turned_sources(how, 1, 1.0, None, None)
