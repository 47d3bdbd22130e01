"""Files as loggers really write them, and files that are none."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.calibrate.reading.files import read_readings
from edge_agent.calibrate.reading.readings import Readings, ReadingsError
from firmware_bridge.recording import identify_frames, record
from firmware_bridge.schema import StreamSchema, write_schema
from tests.turned_boards import turned_board

BOARD = turned_board(1).readings
ROWS = BOARD.field[:60]
assert BOARD.acceleration is not None
PULLS = BOARD.acceleration[:60]


def read(folder: Path, content: bytes | str, stream: str | None = None) -> Readings:
    path = folder / "file"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_readings(path, stream)


def lines(form: str, columns: np.ndarray = ROWS) -> str:
    return "".join(form.format(*row, i=i) for i, row in enumerate(columns.tolist()))


@pytest.mark.parametrize(
    "text",
    [
        lines("{0:.6f},{1:.6f},{2:.6f}\n"),
        lines("{0:.6f} {1:.6f}   {2:.6f}\n"),
        lines("{0:.6f}\t{1:.6f}\t{2:.6f}\r\n"),
        lines("{0:.6f};{1:.6f};{2:.6f};\n"),
        lines("{0:.6f};{1:.6f};{2:.6f}\n").replace(".", ","),
        lines("{0:.6f} | {1:.6f} | {2:.6f}\n"),
        lines("[{0:.6f}, {1:.6f}, {2:.6f}]\n"),
        lines("x={0:.6f} y={1:.6f} z={2:.6f}\n"),
        lines("mag: {0:.6f}, {1:.6f}, {2:.6f}\n"),
        lines("{0:.6e}/{1:.6e}/{2:.6e}\n"),
        "# a comment\n% another\n// and one\n\n" + lines("{0:.6f},{1:.6f},{2:.6f}\n"),
        "x,y,z\n" + lines("{0:.6f},{1:.6f},{2:.6f}\n"),
        "﻿mag_x (mG),mag_y (mG),mag_z (mG)\n" + lines("{0:.6f},{1:.6f},{2:.6f}\n"),
        "t,x,y,z\n" + lines("{i},{0:.6f},{1:.6f},{2:.6f}\n"),
        lines("{i},{0:.6f},{1:.6f},{2:.6f}\n"),
        lines("17{i:03}.5 {0:.6f} {1:.6f} {2:.6f}\n"),
        lines("2026-11-22T10:00:{i:02},{0:.6f},{1:.6f},{2:.6f}\n"),
        lines("2026-11-22 10:00:{i:02} {0:.6f} {1:.6f} {2:.6f}\n"),
        lines("{0:.6f},{1:.6f},{2:.6f},21.5\n"),
        "z,y,x,temp\n" + lines("{2:.6f},{1:.6f},{0:.6f},21.5\n"),
        "time;Hx;Hy;Hz\n" + lines("{i};{0:.6f};{1:.6f};{2:.6f}\n"),
        "ax ay az gx gy gz mx my mz\n" + lines("0 0 1 5 6 7 {0:.6f} {1:.6f} {2:.6f}\n"),
        "mx,my,mz,ax,ay,az\n" + lines("{0:.6f},{1:.6f},{2:.6f},0,0,1\n"),
        "boot ok\nsensor 1 ready\n" + lines("{0:.6f},{1:.6f},{2:.6f}\n") + "bye\n",
        "# z y x\n" + lines("{2:.6f} {1:.6f} {0:.6f}\n"),
        "z (uT), y (uT), x (uT)\n" + lines("{2:.6f}, {1:.6f}, {0:.6f}\n"),
        "z [nT] y [nT] x [nT]\n" + lines("{2:.6f} {1:.6f} {0:.6f}\n"),
        "mag_z_uT,mag_y_uT,mag_x_uT\n" + lines("{2:.6f},{1:.6f},{0:.6f}\n"),
        "t,z,y,x\ns,uT,uT,uT\n" + lines("{i},{2:.6f},{1:.6f},{0:.6f}\n"),
        lines("{i},17{i:03}.5,{0:.6f},{1:.6f},{2:.6f}\n"),
    ],
)  # fmt: skip
def test_columns_are_found(tmp_path: Path, text: str) -> None:
    found = read(tmp_path, text)
    assert found.field == pytest.approx(ROWS, abs=1e-3)
    assert found.dropped == 0


@pytest.mark.parametrize(
    ("form", "order"),
    [
        ("{0:.6f},{1:.6f},{2:.6f},{3:.6f},{4:.6f},{5:.6f}\n", (PULLS, ROWS)),
        ("{0:.6f},{1:.6f},{2:.6f},{3:.6f},{4:.6f},{5:.6f}\n", (ROWS, PULLS)),
        ("{i} {0:.6f} {1:.6f} {2:.6f} {3:.6f} {4:.6f} {5:.6f}\n", (PULLS, ROWS)),
        ("Raw:{0:.6f},{1:.6f},{2:.6f},{3:.6f},{4:.6f},{5:.6f},{6:.6f},{7:.6f},{8:.6f}\n",
         (PULLS, 0 * PULLS, ROWS)),
    ],
)  # fmt: skip
def test_an_accelerometer_beside_it_is_told_apart(
    tmp_path: Path, form: str, order: tuple[np.ndarray, ...]
) -> None:
    found = read(tmp_path, lines(form, np.hstack(order)))
    assert found.field == pytest.approx(ROWS, abs=1e-3)
    assert found.acceleration == pytest.approx(PULLS, abs=1e-3)
    assert "for a magnetometer" in " ".join(found.notes)


def test_rows_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    rows = ROWS.copy()
    rows[[3, 9]] = np.nan
    rows[20, 1] = np.inf
    rows[30] = 1e300
    found = read(tmp_path, lines("{0},{1},{2}\n", rows) + "1,2\n")
    assert found.dropped == 4
    assert len(found.field) == 56
    assert "1 lines are not like the others" in found.notes[-1]


def arrays(**members: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **members)
    return file.getvalue()


def test_arrays_are_found_by_their_names(tmp_path: Path) -> None:
    times = np.arange(60.0)
    timed = np.column_stack((times, ROWS))
    # The accelerometer has a clock of its own.
    faster = np.arange(-1.0, 61.0, 0.25)
    steady = np.column_stack([np.interp(faster, times, column) for column in PULLS.T])
    for content in (
        arrays(mag_t_xyz=timed, acc_t_xyz=np.column_stack((faster, steady))),
        arrays(acc=PULLS, mag=ROWS),
        arrays(mag_xyz=ROWS, accel_xyz=PULLS),
    ):
        found = read(tmp_path, content)
        assert found.field == pytest.approx(ROWS)
        assert found.acceleration == pytest.approx(PULLS, abs=1e-9)
    for content in (
        arrays(x=ROWS[:, 0], y=ROWS[:, 1], z=ROWS[:, 2]),
        arrays(anything=ROWS),
        arrays(anything=timed),
        arrays(anything=ROWS.T),
        arrays(x=ROWS[:, 0], y=ROWS[:, 1], z=ROWS[:, 2], t=times),
    ):
        found = read(tmp_path, content)
        assert found.field == pytest.approx(ROWS)
        assert found.acceleration is None
    file = io.BytesIO()
    np.save(file, ROWS)
    assert read(tmp_path, file.getvalue()).field == pytest.approx(ROWS)


def recording(unit: str = "uT", named: str = "mag") -> bytes:
    """A board with an accelerometer and a magnetometer, half as fast."""
    kinds = [
        ("accel", "g", 0.001, 100.0, np.repeat(PULLS, 2, axis=0)),
        (named, unit, 0.1, 50.0, ROWS),
    ]
    streams = tuple(
        StreamSchema(i + 1, name, "chip", "<i2", ("x", "y", "z"), unit, scale, rate_hz, 10)
        for i, (name, unit, scale, rate_hz, _) in enumerate(kinds)
    )
    document = write_schema("board", "5A5A", "1.0", streams)
    parts = [identify_frames(document)]
    for stream, (*_, scale, _, values) in zip(streams, kinds, strict=True):
        parts += record(document, stream, np.rint(values / scale).astype("<i2"))
    return b"".join(parts)


def test_a_recording_gives_field_gravity_unit_and_board(tmp_path: Path) -> None:
    found = read(tmp_path, recording())
    assert found.field == pytest.approx(ROWS, abs=0.06)
    assert found.acceleration is not None
    assert found.acceleration[:-1] == pytest.approx(PULLS[:-1], abs=0.001)
    assert (found.unit, found.uid) == ("uT", "5A5A")
    assert read(tmp_path, recording(), "mag").field == pytest.approx(ROWS, abs=0.06)
    assert read(tmp_path, recording("mg", "compass")).field == pytest.approx(ROWS, abs=0.06)


def test_a_recording_without_a_compass_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ReadingsError, match=r"accel \(3 channels in g\), other .* --stream"):
        read(tmp_path, recording("Pa", "other"))
    with pytest.raises(ReadingsError, match="it has: accel, mag"):
        read(tmp_path, recording(), "gyro")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\x00\x01\x02" * 1000, "no IDENTIFY frame found"),
        (bytes(range(128, 256)) * 20, "neither text nor NPZ"),
        (b"to be or not to be\n" * 20, "no line with three numbers"),
        (b"1,2\n3,4\n" * 20, "no line with three numbers"),
        (b"nan,nan,nan\n" * 20, "hardly any of them is of numbers"),
        (b"1e300,1e300,-1e300\n" * 20, "no row has three numbers"),
        (b"PK\x03\x04 and no more", "not a readable NPZ"),
        (b"\x93NUMPY\x01\x00", "not a readable NPZ"),
        (arrays(mag=np.array([{}], dtype=object)), "not a readable NPZ"),
        (arrays(mag=np.zeros((5, 7))), "expected arrays mag_t_xyz"),
        (arrays(mag=np.zeros((0, 3))), "expected arrays mag_t_xyz"),
        (arrays(name=np.array(["x"])), "expected arrays mag_t_xyz"),
    ],
)
def test_what_holds_no_readings_is_refused_in_words(
    tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(ReadingsError, match=said):
        read(tmp_path, content)


def test_times_that_run_back_leave_the_accelerometer_out(tmp_path: Path) -> None:
    timed = np.column_stack((np.arange(60.0), ROWS))
    back = np.column_stack((np.arange(60.0)[::-1], PULLS))
    found = read(tmp_path, arrays(mag_t_xyz=timed, acc_t_xyz=back))
    assert found.acceleration is None
    assert "do not rise" in found.notes[0]


@pytest.mark.parametrize(
    ("header", "unit"),
    [
        ("t,x (uT),y (uT),z (uT)", "uT"),
        ("t,Bx [nT],By [nT],Bz [nT]", "nT"),
        ("# t, x (mG), y (mG), z (mG)", "mG"),
        ("t_ms,mag_x_uT,mag_y_uT,mag_z_uT", "uT"),
        ("t,x (G),y (G),z (G)", "gauss"),
        ("t,mx,my,mz\ns,uT,uT,uT", "uT"),
        ("t,mx,my,mz", None),
    ],
)
def test_the_unit_is_what_the_header_says(tmp_path: Path, header: str, unit: str | None) -> None:
    assert read(tmp_path, header + "\n" + lines("{i},{0},{1},{2}\n")).unit == unit


@pytest.mark.parametrize(
    ("header", "step"), [("t", 0.02), ("t", 20.0), ("t", 20e3), ("t", 20e6), ("t_ms", 0.2)]
)
def test_moments_are_told_in_seconds(tmp_path: Path, header: str, step: float) -> None:
    rows = np.column_stack((step * np.arange(60), ROWS))
    found = read(tmp_path, f"{header},x,y,z\n" + lines("{0},{1},{2},{3}\n", rows))
    assert found.seconds is not None
    expected = 0.0118 if header == "t_ms" else 1.18
    assert found.seconds[-1] - found.seconds[0] == pytest.approx(expected)


def test_times_that_are_none_are_not_told(tmp_path: Path) -> None:
    text = "time,x,y,z\n" + lines("2026-11-22T10:00:{i:02},{0},{1},{2}\n")
    assert read(tmp_path, text).seconds is None
    back = np.column_stack((np.arange(60.0)[::-1], ROWS))
    assert read(tmp_path, "t,x,y,z\n" + lines("{0},{1},{2},{3}\n", back)).seconds is None


def test_an_accelerometer_alone_is_no_compass(tmp_path: Path) -> None:
    for content in ("ax,ay,az\n" + lines("{0},{1},{2}\n", PULLS), arrays(acc=PULLS)):
        with pytest.raises(ReadingsError, match="an accelerometer only"):
            read(tmp_path, content)


def test_a_row_for_each_sensor_is_put_together(tmp_path: Path) -> None:
    felt = np.column_stack((np.arange(60.0), PULLS))
    text = "t,ax,ay,az,mx,my,mz\n" + "".join(
        f"{t},{x},{y},{z},,,\n{t + 0.5},,,,{a},{b},{c}\n"
        for (t, x, y, z), (a, b, c) in zip(felt.tolist(), ROWS.tolist(), strict=True)
    )
    found = read(tmp_path, text)
    assert found.field == pytest.approx(ROWS)
    assert found.acceleration is not None
    assert found.acceleration[0] == pytest.approx((PULLS[0] + PULLS[1]) / 2)


def test_windows_writes_text_too(tmp_path: Path) -> None:
    text = "mx (µT),my (µT),mz (µT)\r\n" + lines("{0:.6f},{1:.6f},{2:.6f}\r\n")
    for encoding in ("utf-16", "utf-8-sig", "cp1252"):
        found = read(tmp_path, text.encode(encoding))
        assert found.field == pytest.approx(ROWS, abs=1e-5)
        assert found.unit == "µT"


def test_a_packed_file_is_unpacked(tmp_path: Path) -> None:
    packed = gzip.compress(lines("{0},{1},{2}\n").encode())
    assert read(tmp_path, packed).field == pytest.approx(ROWS)
    with pytest.raises(ReadingsError, match="damaged gzip"):
        read(tmp_path, packed[:10] + b"\xff" * 20)
