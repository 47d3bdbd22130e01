"""The protocols of slow channels, end to end on small folders of the same layout."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converter.benchmark import asd, nab, smd, tep
from converter.benchmark.slow import Said, mean_measures, same_keys, with_interval
from tests.programs import run

FIDELITY = {"spearman", "auc_delta", "f1_delta", "size_ratio", "top_channel_same"}


def report(name: str, data: Path, cache: Path) -> dict[str, Any]:
    """The last line of the command, which is the report."""
    said = run(
        "converter", "benchmark", name, "--data", data, "--seeds", 1, "--jobs", 1,
        "--cache", cache, "--json",
    )  # fmt: skip
    found: dict[str, Any] = said[-1]
    keys = set(found["rows"][0])
    assert all(set(row) == keys for row in found["rows"])
    assert keys >= FIDELITY | {"detector", "shipped", "int8", "seeds"}
    shipped = [row for row in found["rows"] if row["shipped"]]
    assert [row["detector"] for row in shipped] == ["dense int8"]
    assert shipped[0]["int8"]
    assert shipped[0]["spearman"] > 0.9
    return found


def row_of(found: dict[str, Any], detector: str) -> dict[str, Any]:
    """The one row of a detector."""
    (row,) = (row for row in found["rows"] if row["detector"] == detector)
    return dict(row)


def write_table(
    path: Path, header: list[str], lines: Iterable[Iterable[object]], delimiter: str = ","
) -> None:
    """A CSV file, gzip'd if its name says so."""
    target = io.StringIO()
    writer = csv.writer(target, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    content = target.getvalue().encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def pump(seed: int, rows: int = 700, fault: tuple[int, int] = (500, 620)) -> list[list[object]]:
    """A pump in SKAB's form: the flow falls in the fault, the temperature drifts all the time."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, 3)) + [30.0, 5.0, 70.0]
    values[:, 2] = 70 + np.cumsum(random.normal(0, 0.02, rows))
    faulty = (np.arange(rows) >= fault[0]) & (np.arange(rows) < fault[1])
    values[faulty, 0] -= 12.0
    moment = np.datetime64("2020-03-09T10:00:00") + np.arange(rows)
    return [
        [str(at).replace("T", " "), *row, float(bad), float(i in fault)]
        for i, (at, row, bad) in enumerate(zip(moment, values, faulty, strict=True))
    ]


@pytest.mark.timeout(300)
def test_skab_on_files_of_other_names(tmp_path: Path) -> None:
    header = ["datetime", "Flow Rate", "Pressure", "Temperature", "anomaly", "changepoint"]
    write_table(tmp_path / "skab" / "rig" / "a.csv.gz", header, pump(1), ";")
    write_table(tmp_path / "skab" / "b.csv", header, pump(2), ";")
    write_table(tmp_path / "skab" / "free.csv", header[:4], [r[:4] for r in pump(3)], ";")
    found = report("skab", tmp_path, tmp_path / "cache")
    assert found["files"] == ["b", "rig/a"]
    shipped = row_of(found, "dense int8")
    assert shipped["f1"] > 0.8
    assert shipped["events_found"] == shipped["events"] == 2
    # The trivial rows say what they must.
    assert row_of(found, "always")["far"] == 100.0
    assert row_of(found, "never")["mar"] == 100.0
    assert row_of(found, "never")["nab_standard"] == 0.0
    assert {line["name"] for line in found["series"]} == {"b", "rig/a"}
    # Published figures stand beside these files only.
    assert not any("published" in row["detector"] for row in found["rows"])


def write_machine(folder: Path, name: str, last: int) -> None:
    """A machine in SMD's form: channel 3 breaks away for 60 rows."""
    random = np.random.default_rng(len(name))
    common = random.normal(size=(2400, 1))
    values = 0.5 + 0.05 * (common + 0.3 * random.normal(size=(2400, 5)))
    train, test = values[:1200], values[1200:]
    test[600:660, 2] += 0.8
    label = np.zeros(1200, np.uint8)
    label[600:660] = 1
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"train": train.astype(np.float32), "test": test.astype(np.float32)}
    np.savez(folder / f"{name}.npz", label=label, **arrays)
    (folder / f"{name}_interpretation.txt").write_text(f"600-{last}:3\n")


@pytest.mark.timeout(300)
def test_smd_names_the_channel(tmp_path: Path) -> None:
    write_machine(tmp_path / "smd", "rack-9", 660)
    found = report("smd", tmp_path, tmp_path / "cache")
    shipped = row_of(found, "dense int8")
    assert shipped["top1"] == shipped["hit_rate_100"] == 1.0
    assert shipped["auc"] > 0.9
    assert shipped["vus_pr"] > row_of(found, "always")["vus_pr"]
    assert "CNN (published)" not in {row["detector"] for row in found["rows"]}


@pytest.mark.timeout(300)
def test_asd_leaves_other_kinds_of_segments_out(tmp_path: Path) -> None:
    write_machine(tmp_path / "asd", "host-1", 659)
    types = [["host-1", "600-659", "metric"]]
    write_table(
        tmp_path / "asd" / "anomaly_type.csv", ["dataset", "anomaly_segment", "anomaly_type"], types
    )
    shipped = row_of(report("asd", tmp_path, tmp_path / "cache"), "dense int8")
    assert shipped["ap_coupling"] == pytest.approx(shipped["ap"])
    one = smd.read_machine(tmp_path / "asd" / "host-1.npz", last_inside=True)
    scores = np.linspace(0, 1, len(one.label))
    said = [Said(scores, np.zeros(len(scores), np.bool_))]
    temporal = asd._measured([one], {one.name: ([], [(600, 659)])}, said)
    assert temporal["ap_coupling"] is None
    assert temporal["ap"] is not None


@pytest.mark.timeout(300)
def test_nab_scores_only_files_that_are_there(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    values = random.normal(size=1600)
    values[1000:1050] += 9.0
    moments = np.datetime64("2014-07-01T00:00:00") + 300 * np.arange(1600)
    stamps = [str(at).replace("T", " ") for at in moments]
    rows = list(zip(stamps, values, strict=True))
    write_table(tmp_path / "nab" / "own" / "pump.csv", ["timestamp", "value"], rows)
    windows = {"own/pump.csv": [[stamps[980] + ".000000", stamps[1080]]], "not/here.csv": []}
    (tmp_path / "nab" / "windows.json").write_text(json.dumps(windows))
    found = report("nab", tmp_path, tmp_path / "cache")
    assert found["files"] == ["own/pump.csv"]
    assert 50 < row_of(found, "dense int8")["nab_standard"] <= 100
    assert row_of(found, "never")["nab_standard"] == 0.0


def test_an_episode_counts_once() -> None:
    scores = np.concatenate([np.zeros(200), [5.0, 4.0, 6.0, 5.5], np.zeros(200), [5.0]])
    kept = np.flatnonzero(nab._first_of_an_episode(scores) > 0)
    np.testing.assert_array_equal(kept, [200, 202, 404])


@pytest.mark.timeout(300)
def test_tep_judges_faults_and_a_run_without_one(tmp_path: Path) -> None:
    random = np.random.default_rng(6)
    names = [f"XMEAS{i}" for i in range(1, 7)]
    mixing = random.normal(size=(2, 6))

    def plant(rows: int) -> np.ndarray:
        return random.normal(size=(rows, 2)) @ mixing + 0.3 * random.normal(size=(rows, 6))

    faulty = plant(400)
    faulty[160:, 3] += 6.0
    runs = {"d00": plant(500), "d00_te": plant(400), "d77_te": faulty}
    for name, values in runs.items():
        write_table(tmp_path / "tep" / f"{name}.csv.gz", names, values)
    found = report("tep", tmp_path, tmp_path / "cache")
    assert row_of(found, "dense int8")["mar"] < 10
    by_name = {line["name"]: line for line in found["series"]}
    assert by_name["d00_te"]["mar"] is None
    assert by_name["d77_te"]["auc"] > 0.95
    assert row_of(found, "PCA SPE")["auc"] > 0.9


@pytest.mark.parametrize("name", ["skab", "smd", "asd", "nab", "tep"])
def test_a_missing_folder_is_said_in_words(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    said = run("converter", "benchmark", name, "--data", tmp_path, code=2)
    assert said == []


def test_spe_is_what_the_axes_leave() -> None:
    rows = np.random.default_rng(7).normal(size=(200, 4)) * [5, 3, 1, 0.1]
    t2, spe = tep.fit_pca(rows, spe=False), tep.fit_pca(rows)
    assert t2.limit is not None
    assert spe.limit is not None
    assert np.mean(t2.score(rows) > t2.limit) == pytest.approx(0.01)
    assert np.mean(spe.score(rows) > spe.limit) == pytest.approx(0.01)
    # All axes and no residual: T2 is the Mahalanobis distance.
    centred = rows - rows.mean(axis=0)
    whole = np.einsum("ij,jk,ik->i", centred, np.linalg.inv(np.cov(rows, rowvar=False)), centred)
    assert np.all(t2.score(rows) <= whole + 1e-9)


def test_means_leave_out_what_is_not_known() -> None:
    assert mean_measures([{"a": 1.0, "b": None}, {"a": 3.0, "b": None}]) == {"a": 2.0, "b": None}
    assert with_interval("x", [None]) == {"x": None, "x_low": None, "x_high": None}
    rows = same_keys([{"detector": "a", "f1": 1.0}, {"detector": "b", "far": 2.0}])
    assert rows[0].keys() == rows[1].keys()
    assert rows[0]["far"] is None


@pytest.mark.data("skab")
@pytest.mark.timeout(300)
def test_skab_on_real_faults(data_dir: Path, tmp_path: Path) -> None:
    for name in ("valve1/10", "valve2/3", "other/5"):
        link = tmp_path / "skab" / f"{name}.csv.gz"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(data_dir / "skab" / f"{name}.csv.gz")
    found = report("skab", tmp_path, tmp_path / "cache")
    shipped, linear = row_of(found, "dense int8"), row_of(found, "T2+Q, 10-row lag")
    assert shipped["auc"] > linear["auc"] - 0.1
    assert shipped["events_found"] == shipped["events"] == 3
    assert abs(shipped["auc_delta"]) < 0.02
