"""`edge-converter import`: tables become recordings, and nothing on the way is lost or made up."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
from numpy.typing import NDArray

from converter.recordings import Recording, read_recording
from tests.conftest import ROOT
from tests.programs import run


def rows_of(recording: Recording) -> NDArray[np.float32]:
    """All samples in file order."""
    return np.concatenate([batch.values for batch in recording.batches])


def noise(rows: int, columns: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).normal(size=(rows, columns)).astype(np.float32)


def fails(code: int, *arguments: object) -> str:
    """The one line on standard error of an import that must fail with `code`."""
    done = subprocess.run(
        [sys.executable, "-m", "converter", "import", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, ""), done
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("separator", [";", ",", "\t"])
def test_csv_with_time_and_labels(tmp_path: Path, separator: str, zipped: bool) -> None:
    values = noise(40, 2)
    times = pandas.date_range("2026-03-01", periods=40, freq="2s")
    lines = [separator.join(["datetime", "flow", "Temp C", "anomaly", "changepoint"])]
    for i, (row, time) in enumerate(zip(values, times, strict=True)):
        cells = [str(time), *(repr(float(v)) for v in row), f"{float(10 <= i < 15)}", "0.0"]
        lines.append(separator.join(cells))
    text = "\n".join(lines).encode()
    path = tmp_path / ("a.csv.gz" if zipped else "a.csv")
    path.write_bytes(gzip.compress(text) if zipped else text)
    (said,) = run("converter", "import", path, "--out", tmp_path, "--unit", "mixed", "--json")
    assert (said["rate_hz"], said["gaps"], said["anomalous_rows"]) == (0.5, 0, 5)
    recording = read_recording(tmp_path / "a.rec")
    assert recording.stream.channels == ("flow", "Temp C")
    assert recording.stream.rate_hz == 0.5
    np.testing.assert_array_equal(rows_of(recording), values)
    assert recording.anomalous is not None
    assert np.flatnonzero(recording.anomalous).tolist() == [10, 11, 12, 13, 14]
    labels = json.loads((tmp_path / "a.labels.json").read_text())
    assert labels == {"rows": 40, "anomalous": [[10, 15]]}


def test_decimal_commas_and_a_numeric_time_column(tmp_path: Path) -> None:
    path = tmp_path / "german.csv"
    path.write_text("Zeit;druck\n0,0;1,25\n0,1;-2,5\n0,2;3,0\n")
    run("converter", "import", path, "--out", tmp_path, "--time-column", "Zeit", "--unit", "bar")
    recording = read_recording(tmp_path / "german.rec")
    assert rows_of(recording).ravel().tolist() == [1.25, -2.5, 3.0]
    assert recording.stream.rate_hz == pytest.approx(10.0)
    assert recording.stream.unit == "bar"


def test_long_steps_and_missing_values_are_gaps_of_the_right_size(tmp_path: Path) -> None:
    times = [0.0, 1, 2, 4, 5, 6, 106, 107, 108, 109]  # a step of 2 s, one of 100 s
    values = [1.0, 2, 3, 4, 5, 6, 7, np.nan, np.nan, 10]
    pandas.DataFrame({"time": times, "v": values}).to_csv(tmp_path / "g.csv", index=False)
    (said,) = run("converter", "import", tmp_path / "g.csv", "--out", tmp_path, "--json")
    assert (said["rows"], said["rows_left_out"], said["gaps"]) == (8, 2, 2)
    batches = read_recording(tmp_path / "g.rec").batches
    assert [(b.values.ravel().tolist(), b.lost_before) for b in batches] == [
        ([1, 2, 3, 4, 5, 6], 0), ([7], 99), ([10], 2),
    ]  # fmt: skip
    run("converter", "import", tmp_path / "g.csv", "--out", tmp_path, "--gap-seconds", "1.5")
    lost = [b.lost_before for b in read_recording(tmp_path / "g.rec").batches]
    assert lost == [0, 1, 99, 2]


def test_milliseconds_since_1970_are_recognised(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"timestamp": 1_760_000_000_000 + 20 * np.arange(9), "v": range(9)})
    frame.to_csv(tmp_path / "ms.csv", index=False)
    (said,) = run("converter", "import", tmp_path / "ms.csv", "--out", tmp_path, "--json")
    assert said["rate_hz"] == pytest.approx(50.0)


def test_npz_arrays_become_channels_and_the_file_knows_its_rate(tmp_path: Path) -> None:
    values = noise(300, 2)
    path = tmp_path / "bearing.npz"
    np.savez(path, DE=values[:, 0], FE=values[:, 1], fs=np.int32(48000), rpm=1796.0)
    run("converter", "import", path, "--out", tmp_path, "--unit", "g", "--faulty")
    recording = read_recording(tmp_path / "bearing.rec")
    assert (recording.stream.channels, recording.stream.rate_hz) == (("DE", "FE"), 48000.0)
    np.testing.assert_array_equal(rows_of(recording), values)
    assert recording.anomalous is not None
    assert recording.anomalous.all()


def test_one_array_of_an_npz_with_new_channel_names(tmp_path: Path) -> None:
    values = noise(70, 3)
    path = tmp_path / "many.npz"
    np.savez(path, train=values, other=np.zeros(9))
    assert "--array" in fails(2, path, "--out", tmp_path, "--rate-hz", 10)
    run("converter", "import", path, "--out", tmp_path, "--array", "train", "--rate-hz", 10,
        "--columns", "train_2,train_0", "--channels", "z,x")  # fmt: skip
    recording = read_recording(tmp_path / "many.rec")
    assert recording.stream.channels == ("z", "x")
    assert recording.anomalous is None
    np.testing.assert_array_equal(rows_of(recording), values[:, [2, 0]])


def test_parquet(tmp_path: Path) -> None:
    values = noise(50, 2)
    frame = pandas.DataFrame(values, columns=["a", "b"])
    frame["timestamp"] = pandas.date_range("2026-01-01", periods=50, freq="10ms")
    frame.to_parquet(tmp_path / "p.parquet")
    run("converter", "import", tmp_path / "p.parquet", "--out", tmp_path)
    recording = read_recording(tmp_path / "p.rec")
    assert recording.stream.rate_hz == pytest.approx(100.0)
    np.testing.assert_array_equal(rows_of(recording), values)


def test_int16_with_a_scale_rounds_to_the_scale_and_counts_what_it_clips(tmp_path: Path) -> None:
    values = np.array([0.0, 0.104, -0.3, 5000.0])
    np.savez(tmp_path / "i.npz", v=values)
    (said,) = run("converter", "import", tmp_path / "i.npz", "--out", tmp_path, "--rate-hz", 5,
                  "--format", "i2", "--scale", 0.1, "--json")  # fmt: skip
    assert said["clipped"] == 1
    recording = read_recording(tmp_path / "i.rec")
    np.testing.assert_allclose(rows_of(recording).ravel(), [0.0, 0.1, -0.3, 3276.7], rtol=1e-6)


def test_noise_is_seeded_and_differs_between_files(tmp_path: Path) -> None:
    added: dict[tuple[str, int], bytes] = {}
    for name, seed in (("a", 1), ("b", 1), ("a", 2)):
        np.savez(tmp_path / f"{name}.npz", v=np.zeros(4000) + (name == "b"))
        for _ in range(2):
            run("converter", "import", tmp_path / f"{name}.npz", "--out", tmp_path, "--rate-hz", 9,
                "--noise-rms", 0.5, "--noise-seed", seed)  # fmt: skip
            content = (tmp_path / f"{name}.rec").read_bytes()
            assert added.setdefault((name, seed), content) == content
        assert rows_of(read_recording(tmp_path / f"{name}.rec")).std() == pytest.approx(0.5, 0.05)
    assert len(set(added.values())) == 3


def test_the_same_file_is_the_same_board_and_files_of_one_name_stay_apart(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        np.savez(tmp_path / folder / "0.npz", v=np.full(20, len(folder)))
    out = tmp_path / "out"
    files = [tmp_path / "one" / "0.npz", tmp_path / "two" / "0.npz"]
    run("converter", "import", *files, "--out", out, "--rate-hz", 1)
    assert sorted(path.name for path in out.iterdir()) == ["one-0.rec", "two-0.rec"]
    assert (out / "one-0.rec").read_bytes() == (out / "two-0.rec").read_bytes()


BROKEN = {
    "empty.csv": (b"", 1, "no rows"),
    "header.csv": (b"a,b\n", 1, "no rows"),
    "words.csv": (b"time,a\n1,x\n2,y\n", 1, "expected numbers"),
    "back.csv": (b"time,a\n3,1\n2,1\n1,1\n", 1, "backwards"),
    "hole.csv": (b"time,a\n1,1\n,1\n3,1\n", 1, "hole"),
    "ragged.csv": (b"a,b\n1,2\n1,2,3,4\n", 1, "can't be read"),
    "norate.csv": (b"a,b\n1,2\n3,4\n", 2, "--rate-hz"),
    "nothing.csv": (b"time,a\n1,\n2,\n", 1, "no row"),
    "noise.npz": (b"PK\x03\x04 not really", 1, "can't be read"),
    "noise.parquet": (b"PAR1 not really", 1, "can't be read"),
    "bad.csv.gz": (b"\x1f\x8b\x08 not really", 1, "can't be read"),
    "what.xlsx": (b"PK", 2, "expected a .csv"),
    "wide.csv": (
        ("t," + ",".join(f"c{i}" for i in range(65)) + "\n" + "1," * 65 + "1\n").encode(),
        2, "--columns",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_bad_input_is_one_line(tmp_path: Path, name: str) -> None:
    content, code, said = BROKEN[name]
    (tmp_path / name).write_bytes(content)
    assert said in fails(code, tmp_path / name, "--out", tmp_path)
    assert not list(tmp_path.glob("*.rec"))


def test_a_pickle_inside_of_an_npz_is_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", v=np.array([{"a": 1}], dtype=object))
    assert "can't be read" in fails(1, tmp_path / "p.npz", "--out", tmp_path, "--rate-hz", 1)


def test_missing_files_and_folders_end_with_74(tmp_path: Path) -> None:
    assert "No such file" in fails(74, tmp_path / "none.csv", "--out", tmp_path)
    np.savez(tmp_path / "v.npz", v=np.zeros(4))
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "below"
    assert "can't write" in fails(74, tmp_path / "v.npz", "--out", out, "--rate-hz", 1)


def test_columns_that_are_not_there_name_those_that_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", left=np.zeros(4), right=np.zeros(4))
    line = fails(2, tmp_path / "v.npz", "--out", tmp_path, "--columns", "up", "--rate-hz", 1)
    assert "up" in line
    assert "left, right" in line


def test_import_does_not_load_tensorflow(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", v=np.zeros(4))
    arguments = ["import", str(tmp_path / "v.npz"), "--out", str(tmp_path), "--rate-hz", "1"]
    script = (
        f"import sys; from converter.__main__ import main; code = main({arguments!r}); "
        "loaded = {m.split('.')[0] for m in sys.modules} & {'tensorflow', 'keras', 'tf_keras'}; "
        "sys.exit(f'{code} {loaded}' if code or loaded else 0)"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
