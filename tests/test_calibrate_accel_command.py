"""`edge-agent calibrate accel` as a technician or a script calls it: files, and boards on ptys."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from edge_agent.__main__ import main
from edge_agent.calibrate.shelf.applying import Applied
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.shelf.stored import Draft, Stored
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Samples
from tests import programs
from tests.conftest import ROOT
from tests.posed_boards import (
    UID,
    Floats,
    laid_down,
    posed_board,
    random_poses,
    wire,
    write_wire,
)
from tests.test_calibrate_accel_checks import on_calibrator, tapping
from tests.test_calibrate_shelf import config_in

BOARD = posed_board(1)
UP = random_poses(np.random.default_rng(5), 14)
AGAIN = ("--repeat", "--speed", 8)
RATE_HZ, STILL_S, MOVING_S = 800.0, 1.6, 0.7
SUMMARY = ["verdict", "bias_g", "matrix", "worst_error_mg", "before_mg", "poses", "dropped",
           "gap_deg", "noise_mg", "gravity_g", "rate_hz", "rate_ppm", "saved", "reason",
           "id"]  # fmt: skip


def rows_of(poses: Floats = UP[:12]) -> Floats:
    return laid_down(BOARD, poses, RATE_HZ, STILL_S, MOVING_S)


def asked(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> list[Any]:
    """The JSON lines."""
    assert main(["calibrate", "accel", "--json", *map(str, arguments)]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def text(rows: Floats, header: str = "", rate_hz: float | None = RATE_HZ) -> bytes:
    times = [f"{i / rate_hz:.6f}," if rate_hz else "" for i in range(len(rows))]
    lines = [f"{t}{x:.6f},{y:.6f},{z:.6f}" for t, (x, y, z) in zip(times, rows, strict=True)]
    return "\n".join([header, *lines]).encode()


def test_twelve_poses_of_a_recording_are_found_by_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_wire(tmp_path / "poses.rec", rows_of(), RATE_HZ)
    read, *steps, last = asked(capsys, "--replay", path)
    poses = [step for step in steps if step.get("step") == "pose"]
    checks = [step for step in steps if step["step"] == "check"]
    assert (read["uid"], read["unit"], read["rows"]) == (UID, "g", 12 * (1280 + 560))
    assert [pose["number"] for pose in poses] == list(range(1, 13))
    assert all(abs(pose["residual_mg"]) < 1.0 for pose in poses)
    assert [(c["about"], c["level"]) for c in checks] == [
        ("sampling rate", "well"), ("axes", "well"), ("noise floor", "well"),
    ]  # fmt: skip
    assert list(last) == SUMMARY
    assert (last["verdict"], last["poses"], last["saved"]) == ("pass", 12, False)
    assert last["rate_ppm"] == pytest.approx(0.0, abs=5.0)
    matrix, bias = np.array(last["matrix"]), np.array(last["bias_g"])
    error = BOARD.worst_mg(lambda r: (r - bias) @ matrix.T, np.random.default_rng(0))
    assert error < 1.0
    assert last["worst_error_mg"] == pytest.approx(error, abs=0.6)


def moved(rows: Floats, place: int, off_mg: float) -> Floats:
    """The same with one pose that was pushed meanwhile."""
    still, moving = round(STILL_S * RATE_HZ), round(MOVING_S * RATE_HZ)
    first = place * (still + moving) + moving
    rows = rows.copy()
    rows[first : first + still] += UP[place] * off_mg * 1e-3
    return rows


@cache
def broken() -> dict[str, tuple[bytes, list[str], list[str]]]:
    """Files that hold no calibration, how they are read, and words of what must be said."""
    rows, random = rows_of(), np.random.default_rng(0)
    dead, noisy, copied = rows.copy(), rows.copy(), rows.copy()
    dead[:, 2], copied[:, 2] = 0.5, rows[:, 1]
    noisy[:, 2] = 0.02 + random.normal(0.0, 0.004, len(rows))
    shaken = rows + 0.05 * random.normal(size=rows.shape)
    fast = ["--rate", "800"]
    return {
        "too few": (wire(rows_of(UP[:8]), RATE_HZ), [], ["8 of 12 poses", "lay it on the side"]),
        "eleven": (wire(rows_of(UP[:11]), RATE_HZ), [], ["11 of 12 poses"]),
        "the same pose twelve times": (
            wire(rows_of(np.repeat(UP[:1], 12, 0)), RATE_HZ), [],
            ["1 of 12 poses", "11 times it was laid down as it had lain before"],
        ),
        "moving": (wire(shaken, RATE_HZ), [], ["it never lay still", "10 mg are allowed"]),
        "one pose moved": (
            wire(moved(rows, 6, 20.0), RATE_HZ), [],
            ["11 of 12 poses", "pose 7 at ", "moved while it was taken"],
        ),
        "stuck axis": (wire(dead, RATE_HZ), [], ["axis z says 0.499 g all the time"]),
        "dead axis with noise": (wire(noisy, RATE_HZ), [], ["axis z does not move"]),
        "an axis read twice": (wire(copied, RATE_HZ), [], ["axis z says what y says"]),
        "saturated": (wire(np.clip(rows, -0.8, 0.8), RATE_HZ), [], ["is cut off at", "wider"]),
        "m/s2 called g": (wire(rows, RATE_HZ, unit="m/s2", declared="g"), [], ["look like m/s2"]),
        "mg called g": (wire(rows, RATE_HZ, unit="mg", declared="g"), [], ["look like mg"]),
        "g called mg": (wire(rows, RATE_HZ, declared="mg"), [], ["look like g"]),
        "another board": (wire(rows, RATE_HZ), ["--uid", "ff"], [UID, "ff was expected"]),
        "zeros": (wire(0.0 * rows, RATE_HZ), [], ["every reading is zero"]),
        "constant": (wire(0.0 * rows + 0.5, RATE_HZ), [], ["every reading is the same"]),
        "nothing but nan": (b"nan,nan,nan\n" * 999, fast, ["numbers"]),
        "zeros in text": (b"0,0,0\n" * 9999, fast, ["every reading is zero"]),
        "no rate": (text(rows, rate_hz=None), [], ["tell it with --rate"]),
        "slow": (text(rows, rate_hz=2.0), ["--rate", "2"], ["2 samples a second"]),
        "words": (b"it lay still\n" * 99, fast, ["no line with three numbers"]),
        "empty": (b"", [], ["the file is empty"]),
        "junk": (bytes(random.integers(0, 256, 5000, dtype=np.uint8)), [], ["no IDENTIFY"]),
        "two boards": (
            wire(rows_of(UP[:6]), RATE_HZ) + wire(rows_of(UP[6:12]), RATE_HZ, uid="other"), [],
            ["two boards"],
        ),
    }  # fmt: skip


@pytest.mark.parametrize("name", broken())
def test_what_holds_no_calibration_gets_words_and_nothing_is_stored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content, more, said = broken()[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    report = tmp_path / "report"
    *_, last = asked(capsys, "--replay", path, "--report", report, *more, code=1)
    assert list(last) == SUMMARY
    assert (last["verdict"], last["saved"], last["id"]) == ("fail", False, None)
    for words in said:
        assert words in last["reason"]
    assert main(["calibrate", "accel", "--replay", str(path), *more]) == 1
    out = capsys.readouterr().out
    assert "FAIL" in out
    assert "Nothing was stored" in out


@pytest.mark.parametrize(
    ("content", "more"),
    [
        (text(rows_of(), "t,ax [g],ay [g],az [g]"), []),
        (text(rows_of() * 9.80665, "t,ax (m/s2),ay (m/s2),az (m/s2)"), []),
        (text(rows_of() * 1e3, "time,x,y,z"), ["--unit", "mg"]),
        (text(rows_of(), rate_hz=None), ["--rate", "800"]),
        (text(rows_of(), "ms,x,y,z", RATE_HZ / 1e3), []),
        (text(np.insert(rows_of(), [5, 9000], np.nan, axis=0)), []),
    ],
    ids=["g", "m/s2", "mg told", "rate told", "milliseconds", "some are no numbers"],
)
def test_text_of_a_logger_is_as_good(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, more: list[str]
) -> None:
    path = tmp_path / "poses.csv"
    path.write_bytes(content)
    read, *_, last = asked(capsys, "--replay", path, *more)
    assert last["verdict"] == "pass"
    assert read["uid"] is None
    assert last["rate_hz"] == pytest.approx(RATE_HZ, rel=1e-3)
    assert last["rate_ppm"] is None


def test_gravity_of_the_site_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_wire(tmp_path / "poses.rec", rows_of(), RATE_HZ)
    here = asked(capsys, "--replay", path, "--latitude", 0, "--height", 2000)[-1]
    nowhere = asked(capsys, "--replay", path)[-1]
    assert (here["gravity_g"], nowhere["gravity_g"]) == (pytest.approx(0.996686, abs=1e-6), 1.0)
    shrunk = np.array(here["matrix"]) / np.array(nowhere["matrix"])
    assert np.diagonal(shrunk) == pytest.approx(here["gravity_g"], rel=1e-4)
    assert main(["calibrate", "accel", "--replay", str(path), "--height", "3"]) == 2
    assert "--height needs --latitude" in capsys.readouterr().err
    assert main(["calibrate", "accel", "--replay", str(path), "--sides", "up"]) == 2
    assert "expected sides like +z" in capsys.readouterr().err
    *_, last = asked(capsys, "--replay", path, "--sides=-z", code=1)
    assert "the axes are swapped or turned" in last["reason"]


def test_taps_and_a_calibrator_are_checked_beside_it_or_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poses = write_wire(tmp_path / "poses.rec", rows_of(), RATE_HZ)
    taps = write_wire(tmp_path / "taps.rec", tapping(1130.0, 0.03), 3200.0)
    tone = write_wire(tmp_path / "tone.rec", BOARD.feels(on_calibrator()), 3200.0)
    *steps, last = asked(capsys, "--replay", poses, "--tap", taps, "--shaker", tone,
                         "--report", tmp_path / "r")  # fmt: skip
    told = {step["about"]: step for step in steps if step["step"] == "check"}
    assert "rings at 1130 Hz, damping 3.0%: usable up to 377 Hz" in told["mounting"]["seen"]
    assert told["mounting"]["level"] == "wrong"
    # Corrected by what the poses have found.
    assert told["shaker"]["level"] == "well"
    assert "10.00" in told["shaker"]["seen"] or "9.99" in told["shaker"]["seen"]
    assert last["verdict"] == "pass"
    check, last = asked(capsys, "--replay", taps, "--tap", "--band", 300)
    assert (check["level"], last["verdict"], last["saved"]) == ("well", "pass", False)
    assert last["resonance_hz"] == pytest.approx(1130.0, rel=0.01)
    assert last["damping"] == pytest.approx(0.03, rel=0.1)
    (check, last) = asked(capsys, "--replay", taps, "--tap", code=1)
    assert check["level"] == "wrong"
    asked(capsys, "--replay", tone, "--shaker", "--shaker-rms", 9.80665)
    asked(capsys, "--replay", tone, "--shaker", "--shaker-rms", 14.1, code=1)
    assert main(["calibrate", "accel", "--replay", str(taps), "--tap", "--shaker"]) == 2
    assert main(["calibrate", "accel", "--replay", str(poses), "--tap", "none.rec"]) == 74
    assert "none.rec" in capsys.readouterr().err
    *steps, _ = asked(capsys, "--replay", poses, "--tap", __file__)
    assert steps[-1]["level"] == "wrong"
    assert main(["calibrate", "accel", "--replay", str(taps), "--tap"]) == 1
    assert "mounting" in capsys.readouterr().out
    (page,) = (tmp_path / "r").glob("*.html")
    assert "taps: rings at 1130 Hz" in page.read_text()


def test_the_report_is_one_page_and_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_wire(tmp_path / "p<1>.rec", rows_of(), RATE_HZ)
    last = asked(capsys, "--replay", path, "--report", tmp_path / "new" / "dir")[-1]
    data, page = sorted((tmp_path / "new" / "dir").iterdir(), key=lambda p: p.suffix, reverse=True)
    told = json.loads(data.read_text())
    assert {name: told[name] for name in SUMMARY[:-1]} == {n: last[n] for n in SUMMARY[:-1]}
    assert (told["board_uid"], len(told["poses_taken"])) == (UID, 12)
    html = page.read_text()
    assert "p<1>" not in html
    assert "src=" not in html
    plots = [ElementTree.fromstring("<svg" + part.partition("</svg>")[0] + "</svg>")
             for part in html.split("<svg")[1:]]  # fmt: skip
    assert [plot.attrib["aria-label"] for plot in plots] == [
        "poses xy", "poses yz", "poses zx", "residuals", "noise of x (blue), y (grey), z (red)",
    ]  # fmt: skip
    dots = [sum(node.tag.endswith("circle") for node in plot.iter()) for plot in plots]
    assert dots[:4] == [12, 12, 12, 24]


# --- live ---


def plugged(tmp_path: Path, poses: Floats = UP) -> Path:
    """A recording for `edge-board simulate`. With --repeat a pose comes again: what a slow machine
    has not heard at this speed it hears then."""
    return write_wire(tmp_path / "poses.rec", rows_of(poses), RATE_HZ)


def live(tmp_path: Path) -> list[str]:
    return ["calibrate", "accel", "--config", str(config_in(tmp_path)), "--json"]


def stored_in(tmp_path: Path) -> Stored | None:
    return Shelf(tmp_path / "state", "b1").current("accel")


def test_a_board_laid_down_twelve_times_is_stored_and_applied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = plugged(tmp_path)
    with programs.board(tmp_path / "board", "--recording", recording, *AGAIN):
        assert main([*live(tmp_path), "--report", str(tmp_path / "r")]) == 0
    check, board, *steps, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert (check["about"], check["level"]) == ("self test", "well")
    assert board["uid"] == UID
    kinds = {step["step"] for step in steps}
    assert kinds == {"live", "pose", "check"}
    shown = [step for step in steps if step["step"] == "live"]
    assert shown[0]["next_move"]
    assert shown[-1]["verdict"] == "pass"
    assert (last["verdict"], last["saved"], last["uid"]) == ("pass", True, UID)
    stored = stored_in(tmp_path)
    assert stored is not None
    assert (stored.id, stored.uid, stored.kind) == (last["id"], UID, "accel")
    assert "self test" in {check["about"] for check in stored.details["checks"]}
    playback = Playback()
    events = playback.feed(wire(BOARD.feels(UP), RATE_HZ))
    assert playback.schema is not None
    applied = Applied([stored], playback.schema)
    (samples,) = [applied.apply(event) for event in events if isinstance(event, Samples)]
    # Half a step of the sensor is what a single reading is off.
    assert np.linalg.norm(samples.values, axis=1) == pytest.approx(1.0, abs=0.005)
    assert json.loads(next((tmp_path / "r").glob("*.json")).read_text())["saved"] is True


def test_a_board_that_goes_silent_is_told_and_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = plugged(tmp_path, UP[:7])
    with programs.board(tmp_path / "board", "--recording", first, "--speed", 8):
        assert main(live(tmp_path)) == 74
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "no samples of accel for" in last["reason"]
    assert last["saved"] is False
    seen = last["poses"]
    assert 3 <= seen <= 7
    assert stored_in(tmp_path) is None
    second = plugged(tmp_path, UP[3:])
    with programs.board(tmp_path / "board", "--recording", second, *AGAIN):
        assert main(live(tmp_path)) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[1]["resumed"] is True
    assert lines[-1]["saved"] is True
    assert lines[-1]["poses"] >= 12
    assert [step["number"] for step in lines if step.get("step") == "pose"][:seen] == [
        *range(1, seen + 1)
    ]


def test_what_cannot_be_calibrated_live_is_told_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = rows_of(UP[:4])
    recording = write_wire(tmp_path / "p.rec", rows, RATE_HZ, unit="m/s2", declared="g")
    with programs.board(tmp_path / "board", "--recording", recording, *AGAIN):
        assert main(live(tmp_path)) == 1
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert "they look like m/s2" in last["reason"]
    assert (last["verdict"], last["saved"]) == ("fail", False)
    with programs.board(tmp_path / "board", "--machine", "compass"):
        assert main(live(tmp_path)) == 1
    assert "expected one of three channels in g" in capsys.readouterr().out.splitlines()[-1]


def test_taps_are_heard_live(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recording = write_wire(tmp_path / "p.rec", tapping(300.0, 0.02, 1600.0, taps=9), 1600.0)
    with programs.board(tmp_path / "board", "--recording", recording, "--repeat", "--speed", 2):
        assert main([*live(tmp_path), "--tap"]) == 1
    *shown, check, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert shown[-1]["tap"] >= 3
    assert "rings at 300 Hz" in check["seen"]
    assert (last["saved"], last["verdict"]) == (False, "fail")
    assert stored_in(tmp_path) is None


def test_ctrl_c_keeps_the_old_one(tmp_path: Path) -> None:
    recording = plugged(tmp_path)
    draft = Draft(kind="accel", board="b1", uid=UID, verdict="pass", reason="of yesterday")
    old = Shelf(tmp_path / "state", "b1").put(draft)
    with programs.board(tmp_path / "board", "--recording", recording, *AGAIN):
        child = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", *live(tmp_path)],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert child.stdout
        for line in child.stdout:
            if json.loads(line).get("poses", 0) >= 2:
                break
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=20)
    assert child.returncode == 1
    assert f"{old.id} stays in use" in json.loads(out.splitlines()[-1])["reason"]
    assert err == ""
    assert stored_in(tmp_path) == old
