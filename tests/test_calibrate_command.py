"""`edge-agent calibrate compass` as a technician or a script calls it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from edge_agent.__main__ import main
from edge_agent.calibrate.heading import attitudes
from tests import programs
from tests.test_boundaries import importers, loaded_by
from tests.turned_boards import DOWN, turned_board

SUMMARY = ["verdict", "bias", "matrix", "radius", "radius_cv", "heading_sigma_deg", "coverage",
           "saved", "reason", "check"]  # fmt: skip


def csv(path: Path, rows: np.ndarray) -> Path:
    np.savetxt(path, rows, delimiter=",", fmt="%.6g")
    return path


def npz(path: Path, field: np.ndarray, acceleration: np.ndarray) -> Path:
    times = np.arange(len(field)) / 50.0
    file = io.BytesIO()
    np.savez(file, mag_t_xyz=np.column_stack((times, field)),
             acc_t_xyz=np.column_stack((times, acceleration)))  # fmt: skip
    path.write_bytes(file.getvalue())
    return path


def asked(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> list[Any]:
    """The JSON lines."""
    assert main(["calibrate", "compass", "--json", *map(str, arguments)]) == code
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_last_line_is_what_scripts_hang_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = turned_board(1)
    assert board.readings.acceleration is not None
    first = npz(tmp_path / "turned.npz", board.readings.field, board.readings.acceleration)
    turned = attitudes(np.linspace(0.0, -720.0, 500))
    second = npz(tmp_path / "second.npz", board.feels(turned), -turned @ DOWN)
    read, fit, last = asked(capsys, "--replay", first, "--check", second)
    assert (read["step"], fit["step"]) == ("read", "fit")
    assert read["accelerometer"] is True
    assert list(last) == SUMMARY
    assert last["verdict"] == "pass"
    assert last["saved"] is False
    assert np.shape(last["matrix"]) == (3, 3)
    assert last["check"]["net_turn_deg"] == pytest.approx(-720.0, abs=1.0)
    assert last["check"]["norm_cv"] < 0.005
    error = board.heading_error_deg(np.array(last["matrix"]), np.array(last["bias"]), 20.0)
    assert error < 0.5
    assert last["heading_sigma_deg"] == pytest.approx(error, abs=0.2)


def test_a_recording_of_a_simulated_board_is_read_and_judged(tmp_path: Path) -> None:
    path = tmp_path / "compass.rec"
    programs.run(
        "firmware_bridge", "simulate", "--machine", "compass", "--seconds", 30, "--out", path
    )
    *steps, last = programs.run(
        "edge_agent", "calibrate", "compass", "--replay", path, "--json", code=1
    )
    assert steps[0]["unit"] == "uT"
    # It slews about the vertical only, and never all the way round with its nose up or down.
    assert last["verdict"] == "fail"
    assert last["heading_sigma_deg"] > 2.0
    assert "turn it once all round" in last["reason"]


def test_a_page_for_people_says_what_to_do_next(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv(tmp_path / "m.csv", turned_board(1, 20.0).readings.field)
    assert main(["calibrate", "compass", "--replay", str(path)]) == 0
    out = capsys.readouterr().out
    for text in ("MARGINAL", "next", "turn it once all round", "Nothing was stored", "bias"):
        assert text in out
    assert max(map(len, out.splitlines()[1:])) <= 80


def test_the_report_is_one_page_and_its_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    board = turned_board(1)
    path = csv(tmp_path / "m<b>.csv", board.readings.field)
    turned = csv(tmp_path / "t.csv", board.feels(attitudes(np.linspace(0.0, 360.0, 3000))))
    last = asked(capsys, "--replay", path, "--check", turned, "--report", tmp_path / "new" / "dir",
                 "--latitude", 51.5, "--longitude", -0.1)[-1]  # fmt: skip
    data, page = sorted((tmp_path / "new" / "dir").iterdir(), key=lambda p: p.suffix, reverse=True)
    told = json.loads(data.read_text())
    assert {name: told[name] for name in SUMMARY} == last
    assert told["site"]["declination_deg"] == pytest.approx(1.24, abs=0.1)
    assert told["versions"]["scipy"]
    assert last["radius"] == pytest.approx(49.1, abs=0.1)
    html = page.read_text()
    body = html.partition("<body>")[2] or html[html.index("<body") :]
    assert "m<b>" not in html
    assert "src=" not in html
    assert "href=" not in html
    plots = [ElementTree.fromstring("<svg" + part.partition("</svg>")[0] + "</svg>")
             for part in body.split("<svg")[1:]]  # fmt: skip
    labels = [plot.attrib["aria-label"] for plot in plots]
    assert labels == ["raw xy", "raw yz", "raw zx", "corrected xy", "corrected yz", "corrected zx",
                      "residuals", f"coverage: {last['coverage']} of 100 sections",
                      "heading check: 360.0°"]  # fmt: skip
    dots = [sum(node.tag.endswith("circle") for node in plot.iter()) for plot in plots]
    assert dots == [300] * 7 + [0, 2000]
    assert sum(node.tag.endswith("rect") for node in plots[7].iter()) == 100


def hostile() -> dict[str, tuple[bytes, str]]:
    """Files that hold no turned board, and a word of what must be said."""
    field, random = turned_board(1).readings.field, np.random.default_rng(0)
    angle = np.radians(random.uniform(0.0, 360.0, 300))
    plane = np.column_stack((200.0 * np.cos(angle) + 50.0, 200.0 * np.sin(angle), 0.0 * angle))

    def text(rows: np.ndarray) -> bytes:
        file = io.BytesIO()
        np.savetxt(file, rows, fmt="%.6e")
        return file.getvalue()

    stuck, cut, wild = field.copy(), field.copy(), random.normal(100.0, 1.0, (300, 3))
    stuck[:, 2] = 7.0
    cut[:, 0] = np.minimum(cut[:, 0], np.quantile(cut[:, 0], 0.85))
    return {
        "empty": (b"", "empty"),
        "nan": (b"nan nan nan\n" * 99, "numbers"),
        "zeros": (b"0 0 0\n" * 99, "every reading is zero"),
        "constant": (b"1 2 3\n" * 99, "every reading is the same"),
        "ten": (text(field[:10]), "10 readings; at least 30"),
        "two points": (text(field[[0, 1] * 50]), "only 2 different"),
        "one plane": (text(plane), "axis z does not move"),
        "tilted plane": (text(plane @ np.linalg.qr(random.normal(size=(3, 3)))[0]), "hard iron"),
        "line": (text(np.outer(np.linspace(-1.0, 1.0, 99), [1.0, 2.0, 3.0])), "lie on one line"),
        "stuck axis": (text(stuck), "axis z does not move"),
        "cut off": (text(cut), "axis x is cut off"),
        "noise": (text(wild), "not turned"),
        "huge": (text(field * 1e200), "no row"),
        "junk": (bytes(random.integers(0, 256, 5000, dtype=np.uint8)), "no IDENTIFY"),
        "words": ("Größe, ja, nein\n".encode() * 99, "no line with three numbers"),
        "zip": (b"PK\x03\x04junk", "not a readable NPZ"),
    }


@pytest.mark.parametrize("name", hostile())
def test_files_that_hold_no_turned_board_get_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content, said = hostile()[name]
    path = tmp_path / "file"
    path.write_bytes(content)
    last = asked(capsys, "--replay", path, code=1)[-1]
    assert list(last) == SUMMARY
    assert last["verdict"] == "fail"
    assert said in last["reason"]
    assert main(["calibrate", "compass", "--replay", str(path), "--report", str(tmp_path)]) == 1
    assert "FAIL" in capsys.readouterr().out


def test_what_is_not_there_is_input_and_what_makes_no_sense_is_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", "compass", "--replay", str(tmp_path / "none")]) == 74
    assert "none" in capsys.readouterr().err
    path = csv(tmp_path / "m.csv", turned_board(1).readings.field)
    assert main(["calibrate", "compass", "--replay", str(path), "--longitude", "3"]) == 2
    assert "needs --latitude" in capsys.readouterr().err
    for arguments in ([], ["compass"], ["compass", "--replay", "x", "--latitude", "91"]):
        with pytest.raises(SystemExit) as stopped:
            main(["calibrate", *arguments])
        assert stopped.value.code == 2


def test_a_check_that_cannot_be_made_is_a_no(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = csv(tmp_path / "m.csv", turned_board(1).readings.field)
    (tmp_path / "bad").write_text("nothing")
    *_, refused, last = asked(capsys, "--replay", path, "--check", tmp_path / "bad", code=1)
    assert "no line with three numbers" in refused["refused"]
    assert (last["verdict"], last["check"]) == ("pass", None)


def test_only_who_calibrates_loads_scipy() -> None:
    for module in ("service", "__main__", "calibrate.heading"):
        assert not loaded_by(f"import edge_agent.{module}") & {"scipy", "pygeomag"}
    assert importers("pygeomag") == {"edge_agent/calibrate/compass/earth_field.py"}
    agents = {name for name in importers("scipy") if name.startswith("edge_agent")}
    assert "edge_agent/calibrate/ellipsoid.py" in agents
    assert {name for name in agents if not name.startswith("edge_agent/calibrate/")} == set()
