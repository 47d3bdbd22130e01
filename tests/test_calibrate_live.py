"""`edge-agent calibrate compass --config`: simulated boards on real ptys, being turned or not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.__main__ import main
from edge_agent.broker.payloads import Compass
from edge_agent.calibrate.compass.kept import Kept, Partial
from edge_agent.calibrate.shelf.shelf import Shelf
from edge_agent.calibrate.shelf.stored import Stored
from firmware_bridge.port import Port
from firmware_bridge.schema import Schema
from firmware_bridge.signals import MAG, Fault
from firmware_bridge.turned import turned_sources
from tests import programs
from tests.conftest import ROOT, Mosquitto
from tests.sockets import Socket
from tests.test_calibrate_shelf import config_in, draft
from tests.turned_boards import played, tumbled

SPEED = 8.0  # all round in less than a second


@pytest.fixture
def socket(tmp_path: Path) -> Iterator[Socket]:
    """Where the board b1 of `config_in` is plugged in."""
    socket = Socket(tmp_path / "board")
    yield socket
    socket.end()


def in_hand(how: str = "full", seed: int = 1, faults: tuple[Fault, ...] = ()) -> Any:
    """A board that is turned quickly."""
    return turned_sources(how, seed, SPEED, None, 200.0, faults)


def shelf_in(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path / "state", "b1")


def current(tmp_path: Path) -> Stored | None:
    return shelf_in(tmp_path).current("compass")


def calibrate(tmp_path: Path, *arguments: object) -> list[str]:
    return ["calibrate", "compass", "--config", str(config_in(tmp_path)), "--json",
            *map(str, arguments)]  # fmt: skip


def asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0
) -> list[Any]:
    """The JSON lines."""
    assert main(calibrate(tmp_path, *arguments)) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@contextmanager
def sitting(tmp_path: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """As a program of its own, that can be interrupted."""
    child = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", *calibrate(tmp_path, *arguments)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def until(child: subprocess.Popen[str], field: str, least: float) -> None:
    """Reads steps until one of them says so much."""
    assert child.stdout
    for line in child.stdout:
        if (json.loads(line).get(field) or 0) >= least:
            return
    raise AssertionError(f"it ended before {field} was {least}")


def test_a_board_turned_well_is_stored_and_its_report_says_of_which(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    uid = socket.plug(made=in_hand())
    board, *steps, last = asked(tmp_path, capsys, "--report", tmp_path / "report")
    assert (board["step"], board["uid"], board["limit_seconds"]) == ("board", uid, 600.0)
    assert board["source"] == str(tmp_path / "board")
    assert steps[0]["verdict"] == "fail"
    assert steps[0]["next_move"]
    assert (last["verdict"], last["saved"], last["uid"]) == ("pass", True, uid)
    stored = current(tmp_path)
    assert stored is not None
    assert last["id"] == stored.id
    assert (stored.uid, stored.verdict, stored.error_unit) == (uid, "pass", "deg")
    assert stored.temperature_c == pytest.approx(23.0, abs=0.5)
    assert stored.software.startswith("otolith")
    assert stored.band is not None
    assert stored.band.dip_deg == pytest.approx(65.6, abs=1.5)
    _, sources = in_hand()
    iron = sources[1].machine.hard_iron_ut
    assert stored.correction is not None
    assert stored.correction.bias == pytest.approx(iron, abs=0.5)
    told = json.loads(next((tmp_path / "report").glob("*.json")).read_text())
    assert (told["board"], told["board_uid"], told["id"]) == ("b1", uid, stored.id)
    assert (told["saved"], told["temperature_c"]) == (True, stored.temperature_c)
    assert stored.id in next((tmp_path / "report").glob("*.html")).read_text()


def magnet(field: np.ndarray) -> np.ndarray:
    """A magnet passes by in the middle of the readings."""
    where = np.linspace(-4.0, 4.0, len(field))[:, None]
    return field + 30.0 / (1.0 + where**2) ** 1.5 * np.array([1.0, -0.5, 0.3])


def broken() -> dict[str, tuple[np.ndarray, np.ndarray | None, str, str]]:
    """What a board says that nobody should believe, in which unit, and the verdict's words."""
    field, gravity = tumbled()
    stuck, cut = field.copy(), field.copy()
    stuck[:, 2] = 7.0
    cut[:, 0] = np.minimum(cut[:, 0], np.quantile(cut[:, 0], 0.8))
    two = np.tile(field[[0, 100]], (300, 1))
    return {
        "stuck axis": (stuck, gravity, "uT", "axis z does not move"),
        "swapped axes": (field[:, [1, 0, 2]], gravity, "uT", "are swapped"),
        "saturation": (cut, None, "uT", "axis x is cut off"),
        "two points": (two, None, "uT", "only 2 different readings"),
        "wrong unit": (field, None, "mG", "check the unit"),
        "a magnet passing by": (magnet(field), None, "uT", "something magnetic moved"),
        "zeros": (0.0 * field, gravity, "uT", "every reading is zero"),
        "at rest": (field[:1] + 0.1 * np.random.default_rng(0).normal(size=(600, 3)), None, "uT",
                    "the board rests"),
    }  # fmt: skip


@pytest.mark.parametrize("how", broken())
def test_what_a_broken_board_says_is_named_and_not_stored(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str], how: str
) -> None:
    before = shelf_in(tmp_path).put(draft())
    field, gravity, unit, said = broken()[how]
    socket.plug(made=played(field, gravity, unit))
    *_, last = asked(tmp_path, capsys, "--seconds", 3, "--accept-marginal", code=1)
    assert (last["verdict"], last["saved"], last["id"]) == ("fail", False, None)
    assert said in last["reason"]
    assert f"{before.id} stays in use" in last["reason"]
    assert current(tmp_path) == before
    assert shelf_in(tmp_path).partial("compass") is None


def test_another_board_is_named_with_both_uids(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    uid = socket.plug(made=in_hand())
    config = config_in(tmp_path)
    config.write_text(
        config.read_text().replace("[boards.b2]", f'uid = "{"ee" * 12}"\n[boards.b2]')
    )
    arguments = ["calibrate", "compass", "--config", str(config), "--json"]
    assert main(arguments) == 74
    (last,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert last["saved"] is False
    assert uid in last["reason"]
    assert "ee" * 12 in last["reason"]
    assert current(tmp_path) is None


@pytest.mark.parametrize("noise", [b"", b"AT+OK\r\nready\r\n" * 9, bytes(range(256))])
def test_a_port_that_says_no_samples_ends_it(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str], noise: bytes
) -> None:
    socket.plug(made=in_hand())
    socket.frozen = not noise
    socket.babble = noise or None
    (last,) = asked(tmp_path, capsys, code=74)
    assert "no answer" in last["reason"]
    assert "Traceback" not in capsys.readouterr().err


def test_a_port_that_is_not_there_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (last,) = asked(tmp_path, capsys, code=74)
    assert "does not exist" in last["reason"]
    assert last["saved"] is False


def test_readings_that_are_no_numbers_are_no_samples(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    socket.plug(made=played(np.full((600, 3), np.nan)))
    *_, last = asked(tmp_path, capsys, code=74)
    assert "no samples of mag for" in last["reason"] or "no data" in last["reason"]
    assert last["saved"] is False


def test_a_board_without_a_magnetometer_is_told_so(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    socket.plug()
    (last,) = asked(tmp_path, capsys, code=1)
    assert "accel (3 channels in g); expected one of three channels in uT" in last["reason"]


def test_marginal_is_stored_only_if_somebody_accepts_it(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    socket.plug(made=in_hand("14"))
    *_, last = asked(tmp_path, capsys, "--seconds", 4, code=1)
    assert (last["verdict"], last["saved"]) == ("marginal", False)
    assert "--accept-marginal" in last["reason"]
    assert current(tmp_path) is None
    *_, last = asked(tmp_path, capsys, "--seconds", 4, "--accept-marginal")
    assert (last["verdict"], last["saved"]) == ("marginal", True)
    stored = current(tmp_path)
    assert stored is not None
    assert stored.verdict == "marginal"


def test_a_board_that_cannot_be_turned_gets_its_hard_iron_and_is_told_so(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    socket.plug(made=in_hand("arc"))
    *_, last = asked(tmp_path, capsys, "--fixed", "--seconds", 5, "--accept-marginal")
    assert (last["verdict"], last["saved"]) == ("marginal", True)
    assert "hard iron only" in last["reason"]
    assert last["heading_sigma_deg"] > 2.0
    stored = current(tmp_path)
    assert stored is not None
    assert stored.correction is not None
    assert stored.correction.offset_only
    # The same board without being told so: refused.
    *_, last = asked(tmp_path, capsys, "--seconds", 1, "--accept-marginal", code=1)
    assert last["verdict"] == "fail"
    assert current(tmp_path) == stored


def test_a_lost_board_is_told_and_gone_on_with(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    socket.plug(made=in_hand())
    with sitting(tmp_path) as child:
        until(child, "kept", 100)
        socket.unplug()
        out, err = child.communicate(timeout=20)
    assert child.returncode == 74
    last = json.loads(out.splitlines()[-1])
    assert last["saved"] is False
    assert "goes on with it" in last["reason"]
    assert "Traceback" not in err
    kept = len(json.loads(shelf_in(tmp_path).partial("compass") or b"")["rows"])
    assert kept >= 100
    socket.plug(made=in_hand())
    board, first, *_, last = asked(tmp_path, capsys)
    assert board["resumed"] is True
    assert first["kept"] > 0.8 * kept  # spread anew over a sphere that is better known
    assert (last["verdict"], last["saved"]) == ("pass", True)
    assert shelf_in(tmp_path).partial("compass") is None


def test_a_dropped_connection_saves_and_an_interrupted_sitting_does_not(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    before, shelf = shelf_in(tmp_path).put(draft()), shelf_in(tmp_path)
    socket.plug(made=in_hand("still"))
    for number, saves in ((signal.SIGHUP, True), (signal.SIGTERM, True), (signal.SIGINT, False)):
        with sitting(tmp_path, "--anew") as child:
            until(child, "kept", 2)
            child.send_signal(number)
            out, err = child.communicate(timeout=20)
        assert child.returncode == 1, err
        last = json.loads(out.splitlines()[-1])
        assert f"{before.id} stays in use" in last["reason"]
        assert (shelf.partial("compass") is not None) == saves
        assert current(tmp_path) == before
        assert err == ""


def test_only_a_young_sitting_of_the_same_board_is_gone_on_with(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    shelf = shelf_in(tmp_path)
    uid = socket.plug(made=in_hand("still"))
    row = [0.0, 1.0, 2.0, 3.0, None, None, None]
    mine = {"version": 1, "uid": uid, "stream": "mag", "unit": "uT", "rows": [row] * 40}

    def resumes(content: object, age_seconds: float, *arguments: str) -> bool:
        shelf.save_partial("compass", json.dumps(content).encode())
        then = time.time() - age_seconds
        os.utime(shelf.folder / "compass.partial", (then, then))
        board, *_ = asked(tmp_path, capsys, "--seconds", 0.5, *arguments, code=1)
        return bool(board["resumed"])

    assert resumes(mine, 60.0)
    assert not resumes(mine, 60.0, "--anew")
    assert not resumes(mine, 3600.0)
    assert resumes(mine, 3600.0, "--resume")


def test_what_a_dropped_sitting_left_is_not_trusted() -> None:
    mine = Partial(uid="u", stream="mag", unit="uT", rows=((0.0,) * 7,)).model_dump()
    kept = Kept(Schema("b", "u", "1", (MAG,), 0), MAG)
    for hostile in (
        mine | {"uid": "v"}, mine | {"unit": "mG"}, mine | {"stream": "m"}, mine | {"rows": []},
        [1], "x", mine | {"rows": [[1.0] * 6]}, mine | {"rows": [[1e300] * 7]},
        mine | {"version": 2}, mine | {"rows": [[None] * 7] * 40}, mine | {"more": 1},
        mine | {"rows": [[1.0] * 7] * 9000},
    ):  # fmt: skip
        assert not kept.restore(json.dumps(hostile).encode())
    assert not kept.restore(b"[" * 100_000)
    assert len(kept.rows) == 0
    assert kept.restore(json.dumps(mine).encode())
    assert kept.restore(kept.save())


def test_the_running_service_shares_its_board_and_takes_it_up_at_once(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str], mosquitto: Mosquitto,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    socket.plug(made=in_hand())
    monkeypatch.setenv("OTOLITH__MQTT__PORT", str(mosquitto.port))
    config = config_in(tmp_path)
    topic = "otolith/g/board/b1/compass"
    with programs.mosquitto_sub(mosquitto.port, topic) as heard, programs.agent(config):
        log, deadline_s = config.with_suffix(".log"), time.monotonic() + 20.0
        while "streaming" not in log.read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.1)
        board, *_, last = asked(tmp_path, capsys)
        assert board["source"] == "the running service"
        assert last["saved"] is True
        while f"calibrated by {last['id']}" not in log.read_text():
            assert time.monotonic() < deadline_s + 30.0
            time.sleep(0.1)
        mosquitto_settled(mosquitto.port, topic, last["id"])
    assert "Traceback" not in log.read_text()
    states = [json.loads(payload) for _, payload in heard]
    assert [(state["state"], state.get("calibration")) for state in states][:2] == [
        ("uncalibrated", None), ("ok", last["id"]),
    ]  # fmt: skip
    assert all(set(state) <= set(Compass.model_fields) for state in states)


def mosquitto_settled(port: int, topic: str, text: str) -> None:
    """Waits until what is retained there says so."""
    deadline_s = time.monotonic() + 20.0
    while True:
        done = subprocess.run(
            ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "-t", topic, "-C", "1",
             "-W", "2"], capture_output=True, text=True, check=False,
        )  # fmt: skip
        if text in done.stdout:
            return
        assert time.monotonic() < deadline_s, done.stdout


def test_a_shelf_that_cannot_be_written_is_told_before_anybody_turns_a_board(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").write_text("a file")
    assert main(calibrate(tmp_path)) == 74
    assert str(tmp_path / "state") in capsys.readouterr().err


def test_what_makes_no_sense_is_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = ["calibrate", "compass", "--config", "f", "--replay", "g"]
    for arguments in (both, ["calibrate", "compass", "--config", "f", "--resume", "--anew"]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    assert main([*calibrate(tmp_path), "--board", "b9"]) == 1
    assert "no board 'b9'" in capsys.readouterr().err
    assert main(["calibrate", "compass", "--config", str(tmp_path / "none")]) == 74


def test_two_technicians_at_one_board_are_told_so(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    socket.plug(made=in_hand())
    first = Port(str(tmp_path / "board"), 115200)
    try:
        (last,) = asked(tmp_path, capsys, code=74)
    finally:
        first.close()
    assert "another calibration has it" in last["reason"]


def test_a_board_that_never_was_heard_leaves_nothing_to_go_on_with(
    tmp_path: Path, socket: Socket, capsys: pytest.CaptureFixture[str]
) -> None:
    socket.plug(made=in_hand())
    config = config_in(tmp_path)
    told = config.read_text().replace('/board"', '/board"\nuid = "0123456789abcdef01234567"', 1)
    config.write_text(told)
    assert main(["calibrate", "compass", "--config", str(config), "--json"]) == 74
    *_, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert "is configured for this port" in last["reason"]
    assert "is kept" not in last["reason"]
