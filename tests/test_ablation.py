"""The ablation: the interval of its pairs, and the command on a small folder of SKAB's layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from converter.__main__ import main
from converter.benchmark import ablation, suites
from converter.benchmark.ablation import QUESTIONS, paired_interval, t_interval
from converter.benchmark.report import Request
from converter.errors import UsageError
from tests.test_benchmark_slow import pump, write_table

HEADER = ["datetime", "Flow Rate", "Pressure", "Temperature", "anomaly", "changepoint"]
PAIR = ("dense", "dense, fixed threshold")


def test_paired_interval_is_that_of_students_paired_test() -> None:
    # Student 1908, table of Cushny and Peebles: hours of sleep gained by two drugs.
    first = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
    second = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]
    found = paired_interval(second, first)
    assert found.mean == pytest.approx(1.58)
    assert found[1:] == pytest.approx((0.7001142, 2.4598858))
    known = stats.ttest_rel(second, first).confidence_interval(0.95)
    assert found[1:] == pytest.approx((known.low, known.high))
    # What is common to a pair does not widen it.
    assert paired_interval(np.add(second, np.arange(10)), np.add(first, np.arange(10))) == (
        pytest.approx(found)
    )


def test_one_seed_has_no_interval_and_equal_ones_a_point() -> None:
    assert t_interval([0.5]) == (0.5, None, None)
    assert paired_interval([0.5, 0.7], [0.5, 0.7]) == (0.0, 0.0, 0.0)


def test_questions_are_of_arms_that_differ_in_what_is_asked() -> None:
    """Where one family is on both sides, only one setting is not the same."""
    for with_it, without in QUESTIONS.values():
        on, off = ablation.ARMS[with_it], ablation.ARMS[without]
        if on.family == off.family:
            differ = set(on.kind.items()) ^ set(off.kind.items())
            differ |= {("train", *each) for each in set(on.train.items()) ^ set(off.train.items())}
            assert len(differ) == 1, (with_it, without)


def test_who_wants_no_lstm_waits_for_none() -> None:
    wanted = {name for name, arm in ablation.ARMS.items() if arm.families <= {"dense", "memory"}}
    assert wanted >= {"dense", "memory conv"}
    assert not wanted & {"conv", "lstm step", "memory lstm"}


def write_skab(folder: Path) -> None:
    """Two files that are no file of SKAB's."""
    write_table(folder / "skab" / "rig" / "a.csv.gz", HEADER, pump(1), ";")
    write_table(folder / "skab" / "b.csv", HEADER, pump(2, fault=(460, 560)), ";")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """One set, two arms, one epoch."""
    monkeypatch.setattr(ablation, "SETS", (suites.pump,))
    monkeypatch.setattr(ablation, "ARMS", {name: ablation.ARMS[name] for name in PAIR})
    monkeypatch.setattr(ablation, "TRAIN", replace(ablation.TRAIN, epochs=1))


@pytest.mark.timeout(300)
@pytest.mark.usefixtures("small")
def test_command_says_what_a_part_is_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_skab(tmp_path)
    cache = tmp_path / "cache"
    options = ["--seeds", "2", "--jobs", "1", "--cache", str(cache), "--json"]
    assert main(["benchmark", "ablation", "--data", str(tmp_path), *options]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["protocol"] == "ablation"
    assert report["files"] == ["b", "rig/a"]
    assert len(list(cache.glob("*.npz"))) == 4
    rows = {row["detector"]: row for row in report["rows"]}
    keys = set(report["rows"][0])
    assert all(set(row) == keys for row in report["rows"])
    assert keys >= {"shipped", "int8", "seeds", "auc_low", "auc_high", "false_episodes_per_day"}
    for arm in PAIR:
        shipped = rows[f"skab: {arm} int8"]
        assert shipped["shipped"]
        assert shipped["seeds"] == 2
        assert shipped["auc_low"] <= shipped["auc"] <= shipped["auc_high"]
        assert shipped["spearman"] > 0.9
        assert not rows[f"skab: {arm} float32"]["shipped"]
    assert rows["skab: never"]["mar"] == 100.0
    # The same network twice: a threshold changes no score.
    (answer,) = report["series"]
    assert (answer["with"], answer["without"]) == PAIR
    assert answer["auc"] == answer["auc_low"] == answer["spearman"] == 0.0
    assert answer["auc_files_high"] == 0.0
    assert "auc" not in answer["says"]


def test_the_machine_drifts_as_far_as_it_should_beside_its_faults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suites, "TRAIN_DAYS", 1)
    monkeypatch.setattr(suites, "TEST_DAYS", 2)
    known = suites.drift().case
    monkeypatch.setattr(suites, "DRIFTS", (0.0, 3.0))
    case = suites.drift().case
    assert [test.name for test in case.tests] == ["drift 0", "drift 3"]
    assert np.array_equal(case.tests[0].rows, known.tests[0].rows)
    still = known.tests[1].rows
    moved = (case.tests[1].rows - still) / case.normal[0].std(axis=0)
    assert np.abs(moved[-1]) == pytest.approx(np.full(6, 3.0 - 0.1), abs=0.001)
    assert np.abs(moved[0]) == pytest.approx(np.zeros(6), abs=0.001)
    for test in case.tests:
        assert test.label is not None
        # Two hours in the first day, two in the second.
        assert np.bincount(np.flatnonzero(test.label) // 1440).tolist() == [120, 120]


def test_a_folder_that_cannot_answer_is_refused_in_words(tmp_path: Path) -> None:
    request = Request(tmp_path, ("dense",), 1, tmp_path)
    with pytest.raises(UsageError, match="expected files like"):
        ablation.run(request)
    healthy = [[*line[:4], 0.0, 0.0] for line in pump(1)]
    write_table(tmp_path / "skab" / "a.csv", HEADER, healthy, ";")
    with pytest.raises(UsageError, match="no file has anomalous and normal rows"):
        ablation.run(request)
    write_table(tmp_path / "skab" / "b.csv", ["datetime", "x", *HEADER[2:]], pump(2), ";")
    with pytest.raises(UsageError, match="the same columns in every file"):
        ablation.run(request)
