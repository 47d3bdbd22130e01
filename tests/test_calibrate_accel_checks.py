"""The checks beside twelve poses: each against a sensor that has it right, and one that has not."""

from __future__ import annotations

from pathlib import Path
from struct import pack

import numpy as np
import pytest

from edge_agent.calibrate.accel.checking import band_hz
from edge_agent.calibrate.accel.listening import Listening
from edge_agent.calibrate.accel.noise import noise_finding, noise_floor
from edge_agent.calibrate.accel.self_test import SelfTestTalk, ask_self_test, self_test_finding
from edge_agent.calibrate.accel.shaker import TONE_HZ, shaken, shaker_finding
from edge_agent.calibrate.accel.sides import parse_sides
from edge_agent.calibrate.accel.tap import Tapped, tap_finding, tapped
from edge_agent.calibrate.accel.task import AccelTask
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.sitting.command import Place
from edge_agent.config import BoardSettings, load_config
from edge_agent.config.settings import Config
from firmware_bridge.board import SimulatedBoard
from firmware_bridge.codec import Decoder, encode, encode_body
from firmware_bridge.frames import HEAD, DataFlag, SelfTest, SelfTestRequest, StartRequest
from firmware_bridge.samples import Samples
from firmware_bridge.schema import Schema
from firmware_bridge.signals import ACCEL, MAG, VibrationMachine
from firmware_bridge.simulator import machine_sources
from tests import programs
from tests.posed_boards import Floats, laid_down, posed_board, random_poses, wire
from tests.test_calibrate_accel import posed
from tests.test_calibrate_shelf import config_in

RATE_HZ = 3200.0


def tapping(
    hz: float, damping: float, rate_hz: float = RATE_HZ, taps: int = 5, rings: bool = True
) -> Floats:
    """Somebody taps a mounting that resonates; 4 mg of noise, gravity along z."""
    random = np.random.default_rng(0)
    rows = random.normal([0.0, 0.0, 1.0], 0.004, (round(rate_hz * (taps + 1)), 3))
    times = np.arange(len(rows)) / rate_hz
    for tap in range(taps):
        since = times - 0.7 - tap - random.uniform(0.0, 0.1)
        omega, hit = 2 * np.pi * hz, np.abs(since) < 1.0 / rate_hz
        ringing = np.exp(-damping * omega * np.maximum(since, 0.0)) * np.sin(omega * since)
        ringing *= (since >= 0.0) * 3.0 * random.uniform(0.5, 1.0) * rings
        rows += ringing[:, None] * [0.3, 0.2, 1.0] + 3.0 * hit[:, None] * [0.2, 0.2, 1.0]
    return np.asarray(rows)


@pytest.mark.parametrize("rate_hz", [800.0, 1600.0, 3200.0])
@pytest.mark.parametrize("hz", [60.0, 250.0, 500.0, 1130.0])
@pytest.mark.parametrize("damping", [0.005, 0.02, 0.05, 0.1])
def test_a_tap_shows_the_resonance_and_its_damping(
    rate_hz: float, hz: float, damping: float
) -> None:
    found = tapped(tapping(hz, damping, rate_hz), rate_hz)
    if hz > 0.42 * rate_hz:
        return  # nobody can see it there
    assert found.taps == 5
    assert found.resonance_hz == pytest.approx(hz, rel=0.02)
    assert found.damping == pytest.approx(damping, rel=0.1)


def test_a_resonance_inside_the_band_in_use_is_wrong_and_one_far_above_is_well() -> None:
    at_1300 = tapped(tapping(1300.0, 0.02), RATE_HZ)
    for band, level in ((None, "wrong"), (1000.0, "note"), (433.0, "well"), (435.0, "note")):
        finding = tap_finding(at_1300, RATE_HZ, band)
        assert finding.level == level
        assert "rings at 1300 Hz, damping 2.0%: usable up to 433 Hz" in finding.seen
    stiff = tapped(tapping(0.0, 0.0, rings=False), RATE_HZ)
    assert stiff.resonance_hz is None
    assert tap_finding(stiff, RATE_HZ).line.startswith("well   mounting: 5 taps, nothing rings")
    for rows in (tapping(500.0, 0.02, taps=2), np.zeros((3200, 3)), np.empty((0, 3))):
        none = tapped(rows, RATE_HZ) if len(rows) else Tapped(0, None, None, rows, rows)
        assert tap_finding(none, RATE_HZ).level == "wrong"


def test_a_machine_that_runs_is_not_taken_for_taps() -> None:
    assert tapped(VibrationMachine(1, RATE_HZ).values(0, 20_000), RATE_HZ).taps < 3


def on_calibrator(rms_m_s2: float = 10.0, hz: float = TONE_HZ, rate_hz: float = RATE_HZ) -> Floats:
    """Five seconds of it, a little askew."""
    times, random = np.arange(round(5 * rate_hz)) / rate_hz, np.random.default_rng(0)
    along = np.array([0.05, 0.03, 1.0]) / np.linalg.norm([0.05, 0.03, 1.0])
    tone = np.sqrt(2.0) * rms_m_s2 / 9.80665 * np.sin(2 * np.pi * hz * times + 0.3)
    return np.asarray(tone[:, None] * along + random.normal([0, 0, 1], 0.004, (len(times), 3)))


@pytest.mark.parametrize("rate_hz", [416.0, 800.0, 3200.0])
def test_a_calibrator_is_read_to_a_thousandth(rate_hz: float) -> None:
    found = shaken(on_calibrator(rate_hz=rate_hz), rate_hz)
    assert found is not None
    assert found.hz == pytest.approx(159.155, abs=0.1)
    assert found.rms_m_s2 == pytest.approx(10.0, rel=1e-3)
    assert found.axis == "z"
    assert found.across < 0.1
    assert shaker_finding(found, rate_hz, 10.0).level == "well"
    # 1 g of 9.81 m/s2 is 2 % less: either convention is within what is accepted.
    assert shaker_finding(found, rate_hz, 9.80665).level == "well"


@pytest.mark.parametrize(
    ("rows", "rate_hz", "level", "said"),
    [
        (on_calibrator(9.0), RATE_HZ, "wrong", "(-10.0%)"),
        (on_calibrator(10.0 / np.sqrt(2)), RATE_HZ, "wrong", "peak to RMS"),
        (on_calibrator(10.0 * np.sqrt(2)), RATE_HZ, "wrong", "peak to RMS"),
        (on_calibrator(hz=155.0), RATE_HZ, "note", "look at the sampling rate"),
        (on_calibrator(0.0), RATE_HZ, "wrong", "no tone that stands out"),
        (on_calibrator(rate_hz=400.0), 400.0, "wrong", "set a rate of 414 Hz"),
        (on_calibrator()[:100], RATE_HZ, "wrong", "no tone"),
    ],
)
def test_what_a_calibrator_does_not_say_is_named(
    rows: Floats, rate_hz: float, level: str, said: str
) -> None:
    finding = shaker_finding(shaken(rows, rate_hz), rate_hz, 10.0)
    assert finding.level == level
    assert said in finding.line


def test_the_noise_floor_is_that_of_the_noise_and_lines_are_named() -> None:
    random, times = np.random.default_rng(1), np.arange(3200) / RATE_HZ
    quiet = [random.normal(0.0, 0.004, (3200, 3)) for _ in range(12)]
    floor = noise_floor(quiet, RATE_HZ)
    # 4 mg over 1600 Hz.
    for band in floor.bands:
        assert band.density == pytest.approx(100.0, rel=0.15)
    assert floor.lines == ()
    assert noise_finding(floor, "ADXL345").level == "well"
    mains = np.sin(2 * np.pi * 50.0 * times)[:, None] * [5e-4, 0.0, 0.0]
    fan = np.sin(2 * np.pi * 237.0 * times)[:, None] * [0.0, 0.0, 5e-4]
    found = noise_floor([rows + mains + fan for rows in quiet], RATE_HZ)
    finding = noise_finding(found, "ADXL345")
    assert {(round(line.hz), line.axis) for line in found.lines} == {(50, "x"), (238, "z")}
    assert all(line.rms_mg == pytest.approx(0.35, rel=0.3) for line in found.lines)
    assert finding.level == "note"
    assert "50 Hz on x, mains 50 Hz" in finding.seen
    loud = noise_floor([40.0 * rows for rows in quiet], RATE_HZ)
    assert "supply" in noise_finding(loud, "unknown").do


def test_white_noise_of_any_length_has_no_lines() -> None:
    random, seen = np.random.default_rng(2), 0
    for count, rows in ((1, 3200), (3, 800), (12, 400), (12, 100), (1, 16)) * 8:
        seen += len(noise_floor([random.normal(0, 0.004, (rows, 3)) for _ in range(count)],
                                float(rows)).lines)  # fmt: skip
    assert seen <= 2


@pytest.mark.parametrize(
    ("ppm", "level"), [(0, "well"), (9000, "well"), (-20_000, "note"), (60_000, "wrong")]
)
def test_the_true_rate_is_told_against_the_clock_of_the_board(ppm: int, level: str) -> None:
    board = posed_board(1)
    rows = laid_down(board, random_poses(np.random.default_rng(5), 3), 800.0, 1.6)
    task = posed(wire(rows, 800.0, true_hz=800.0 * (1.0 + 1e-6 * ppm)))
    finding = task.rate.finding()
    assert finding.level == level
    assert task.rate.off_ppm == pytest.approx(ppm, abs=20.0)
    assert f"{ppm:+d} ppm"[:3] in finding.seen
    assert posed(wire(rows[:200], 800.0)).rate.finding().level == "note"


def test_swapped_axes_are_found_if_somebody_says_which_side_is_down() -> None:
    board, random = posed_board(1), np.random.default_rng(8)
    up = np.vstack(([[0.1, 0.0, -1.0], [-1.0, 0.1, 0.0]], random_poses(random, 14)))
    up = up / np.linalg.norm(up, axis=1, keepdims=True)
    rows = laid_down(board, up, 200.0, 1.6)
    for order, said, words in (
        ([0, 1, 2], "+z,+x", None),
        ([1, 0, 2], "+z,+x", "pose 2 shows +y down"),
        ([0, 1, 2], "+z,-x", "the opposite: its sign is turned"),
        ([2, 0, 1], "+z", "pose 1 shows +x down"),
    ):
        task = AccelTask()
        task.sides = parse_sides(said)
        found = posed(wire(rows[:, order], 200.0), task).verdict()
        assert (found.verdict == "fail") == (words is not None)
        assert words is None or words in found.reason
        assert "order of axes" in {finding.about for finding in task.findings()}
    for text in ("", "z", "+w", "+x;+y"):
        with pytest.raises(ValueError, match="expected sides like"):
            parse_sides(text)


def test_flags_of_the_board_are_heeded() -> None:
    board = posed_board(1)
    rows = laid_down(board, random_poses(np.random.default_rng(5), 3), 800.0, 1.6)
    one, none = AccelTask(), AccelTask()
    schema = Schema("b", "u", "1", (ACCEL,), 0)
    for task, flags in ((one, DataFlag.CLIPPED), (none, DataFlag.SELF_TEST)):
        task.begin(schema)
        for batch in batches(np.repeat(rows, 4, 0)):
            task.take(batch._replace(flags=int(flags)))
    cut = next(finding for finding in one.findings() if finding.about == "axes")
    assert cut.level == "note"
    assert "batches at the end of the range" in cut.seen
    assert len(one.poses.kept) >= 2
    # A sensor that pushes itself says nothing of gravity.
    assert none.poses.kept == []


# --- self test ---


def self_test_line(
    mask: int = 7, status: int = 0, channels: int = 3, limits: bytes | None = None
) -> str:
    told = pack("<3h", 300, 50, 540) * 3 if limits is None else limits
    return self_test_finding(SelfTest(1, 1, status, 3, mask, told), ACCEL).line


def test_the_self_test_is_told_in_g() -> None:
    assert self_test_line() == ("well   self test: it moved by x +1.17, y +1.17, z +1.17 g; "
                        "expected 0.19 to 2.11 g")  # fmt: skip
    assert "x and z failed" in self_test_line(mask=0b010)
    assert self_test_line(status=3).startswith("wrong")
    assert self_test_line(limits=b"\0").startswith("wrong")


def asked(talk: SelfTestTalk, refusal: bytes = b"", deaf: bool = False) -> str:
    """With a simulated board that streams already; `refusal` instead of its answer."""
    board = SimulatedBoard(*machine_sources(["vibration"], 1), 0.0)
    board.feed(encode(StartRequest(0, 9, 1)), 0.0)
    for step in range(1000):
        if talk.finding is not None:
            return talk.finding.line
        out = b"" if deaf else talk.outgoing(0.1 * step)
        if deaf:
            talk.outgoing(0.1 * step)
        if refusal and (tests := _self_tests(out)):
            talk.feed(encode_body(HEAD.pack(0x86, 1, tests[0].seq) + refusal))
            continue
        board.feed(out, 0.1 * step)
        talk.feed(board.poll(0.1 * step))
    raise AssertionError("it never ends")


def _self_tests(out: bytes) -> list[SelfTestRequest]:
    return [f for f in Decoder().feed(out) if isinstance(f, SelfTestRequest)]


def test_the_board_is_asked_once_it_is_stopped() -> None:
    assert asked(SelfTestTalk(None)).startswith("well   self test: it moved by x +1.17")
    assert asked(SelfTestTalk("accel")).startswith("well")
    assert "no stream 'mag'" in asked(SelfTestTalk("mag"))
    assert "is configured" in asked(SelfTestTalk(None, "ff" * 12))
    assert "did not answer in time" in asked(SelfTestTalk(None), deaf=True)


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        (b"\xff\0\0\0", "does not offer one"),
        (b"\x01" + bytes(7), "does not offer one"),
        (b"\x03" + bytes(7), "status 3: the sensor does not answer"),
        (b"\x02" + bytes(7), "did not answer in time"),
        (b"", "it moved by"),
    ],
)
def test_a_board_that_refuses_has_its_reasons(refusal: bytes, said: str) -> None:
    assert said in asked(SelfTestTalk(None), refusal)


def test_a_port_that_is_not_there_is_not_asked(tmp_path: Path) -> None:
    finding = ask_self_test(BoardSettings(port=tmp_path / "none"), None)
    assert finding.level == "note"
    assert "not asked" in finding.seen


def test_a_failed_self_test_is_a_reason_to_store_nothing() -> None:
    board = posed_board(1)
    data = wire(laid_down(board, random_poses(np.random.default_rng(5)), 200.0, 1.6), 200.0)
    task = AccelTask()
    task.self_test = self_test_finding(
        SelfTest(1, 1, 0, 3, 3, pack("<3h", 300, 50, 540) * 3), ACCEL
    )
    found = posed(data, task).verdict()
    assert found.verdict == "fail"
    assert "z failed" in found.reason


# --- live listening ---


def batches(rows: Floats) -> list[Samples]:
    values = rows.astype(np.float32)
    return [Samples(1, i, i / RATE_HZ, RATE_HZ, values[i : i + 80], 0, False, 0)
            for i in range(0, len(rows), 80)]  # fmt: skip


def test_listening_ends_when_it_has_heard_enough_and_keeps_half_a_minute_at_most() -> None:
    schema = Schema("b", "u", "1", (ACCEL, MAG), 0)
    for what, rows, count in (("tap", tapping(500.0, 0.02), 5), ("shaker", on_calibrator(), 5)):
        task = Listening(what)  # type: ignore[arg-type]
        task.begin(schema)
        assert task.streams == (ACCEL.id,)
        assert not task.progress().over
        for batch in batches(rows):
            task.take(batch)
        progress = task.progress()
        assert progress.over
        assert progress.fields == {what: count}
        for batch in batches(np.zeros((34 * 3200, 3))):
            task.take(batch)
        assert len(task.rows) <= 30 * RATE_HZ
        task.take(batches(rows)[0]._replace(lost_before=3))
        assert len(task.rows) == 80


def test_the_band_in_use_is_what_the_bundles_of_the_board_look_at(tmp_path: Path) -> None:
    path = config_in(tmp_path)
    for bundle, band in ((programs.VIBRATION, 1600.0), (programs.COMPASS, None)):
        config: Config = load_config(path)
        asset = next(iter(config.assets.values())).model_copy(
            update={"board": "b1", "stream": "s", "bundle": bundle}
        )
        config = config.model_copy(update={"assets": {"a": asset}})
        place = Place(config, "b1", config.boards["b1"], Shelf(tmp_path, "b1"))
        found = band_hz(place, "s")
        assert found is not None
        assert found == band if band else found < 100.0
        assert band_hz(place._replace(board="b2"), "s") is None
        assert band_hz(place, "other") is None
