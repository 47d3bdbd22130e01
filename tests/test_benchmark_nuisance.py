"""Nuisance: three days of healthy machines, here in minutes, and who is told what."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converter.__main__ import main
from converter.benchmark import battery, drive, nuisance, skab
from converter.benchmark.nuisance import ALARM, pump
from converter.benchmark.on_duty import SEEN_AFTER_SECONDS, on_duty
from converter.benchmark.thresholds import RULES
from converter.benchmark.trace import Trace
from edge_agent.alarms.annunciator import Annunciator, Policy
from edge_agent.bundles.manifest import AlarmSpec
from edge_agent.judging.pipeline import AlarmEvent, Judgement, Pipeline
from firmware_bridge.samples import Samples
from tests.manifests import raw_manifest
from tests.test_benchmark_slow import pump as pump_table
from tests.test_benchmark_slow import write_table

HEADER = ["datetime", "Flow Rate", "Pressure", "Temperature", "anomaly", "changepoint"]
MEASURES = {
    "machine_days", "false_episodes", "false_episodes_per_day", "told_per_day", "alarm_share",
    "alarm_seconds_per_day", "alarm_cut", "events", "events_found", "delay_p50_s",
}  # fmt: skip


def healthy_table(rows: int) -> list[list[object]]:
    """The table of a pump without faults or labels."""
    return [row[:4] for row in pump_table(7, rows=rows, fault=(0, 0))]


@pytest.mark.timeout(300)
def test_from_files_of_other_names_to_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nuisance, "HOURS", 0.3)
    monkeypatch.setattr(nuisance, "DRIVE_LEARN_HOURS", 1)
    for module in (skab, battery):
        train = replace(module.KIND.train, epochs=5)
        monkeypatch.setattr(module, "KIND", replace(module.KIND, train=train))
    write_table(tmp_path / "skab" / "well.csv.gz", HEADER[:4], healthy_table(1000), ";")
    write_table(tmp_path / "skab" / "rig" / "a.csv", HEADER, pump_table(1), ";")
    code = main(
        ["benchmark", "nuisance", "--data", str(tmp_path), "--seeds", "1", "--jobs", "1",
         "--cache", str(tmp_path / "cache"), "--json"]
    )  # fmt: skip
    assert code == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["files"] == ["well", "rig/a"]
    rows = {row["detector"]: row for row in found["rows"]}
    assert all(set(row) >= MEASURES | {"shipped", "int8", "seeds"} for row in rows.values())
    assert len(rows) == 9
    for rule in (nuisance.FIXED, nuisance.QUANTILE, nuisance.FOLLOWS):
        both, parts = (
            rows[f"both, dense: {rule}"],
            [rows[f"{source}, dense: {rule}"] for source in ("pump", "drive")],
        )
        assert both["machine_days"] == pytest.approx(2 * 0.3 / 24)
        assert both["false_episodes"] == sum(part["false_episodes"] for part in parts)
        assert both["alarm_seconds_per_day"] == pytest.approx(86_400 * both["alarm_share"])
        assert (both["events"], both["events_found"]) == (1.0, 1.0)
    assert [row["detector"] for row in found["rows"] if row["shipped"]] == [
        f"{source}, dense: conformal" for source in ("pump", "drive", "both")
    ]


def test_without_a_healthy_recording_it_says_what_it_wants(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_table(tmp_path / "skab" / "a.csv", HEADER, pump_table(1), ";")
    assert main(["benchmark", "nuisance", "--data", str(tmp_path)]) == 2
    assert "without anomaly and changepoint" in capsys.readouterr().err


def test_the_later_part_is_played_again_and_again_with_other_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(nuisance, "HOURS", 1)
    random = np.random.default_rng(3)
    rows = 50.0 + np.arange(2000)[:, None] * [1.0, 0.0] + random.normal(size=(2000, 2)) * [0.1, 2.0]
    case = pump("well", ["a", "b"], rows, 1)
    assert [len(test.rows) for test in case.tests] == [1100, 1100, 1100, 300]
    for test in case.tests:
        added = test.rows - rows[900 : 900 + len(test.rows)]
        # The ramp of 1 a second is part of what a channel does from second to second; its noise
        # is not.
        assert added.std(axis=0) == pytest.approx([0.1, 2.0], rel=0.2)
    assert not np.array_equal(case.tests[0].rows, case.tests[1].rows)
    assert np.array_equal(case.tests[0].rows, pump("well", ["a", "b"], rows, 1).tests[0].rows)
    assert not np.array_equal(case.tests[0].rows, pump("well", ["a", "b"], rows, 2).tests[0].rows)
    # What was learned from is never judged.
    assert min(test.rows[:, 0].min() for test in case.tests) > case.normal[0][:, 0].max()


def test_a_drive_is_healthy_and_changes_its_speed() -> None:
    rows, again, other = drive.drive(1, 86_400), drive.drive(1, 86_400), drive.drive(2, 86_400)
    assert rows.shape == (17_280, len(drive.CHANNELS))
    np.testing.assert_array_equal(rows, again)
    assert not np.array_equal(rows, other)
    speed, current = rows[:, 0], rows[:, 1]
    assert 800 < speed.min() < speed.max() < 1900
    changes = np.abs(speed[12:] - speed[:-12]) > 100
    assert np.sum(np.diff(changes.astype(int)) > 0) > 20
    # Current goes by the square of the speed, give and take the load.
    expected = 2.0 + 8.0 * (speed / drive.RATED_RPM) ** 2
    assert np.abs(current / expected - 1.0).max() < 0.15


def trace(scores: np.ndarray) -> Trace:
    nothing = np.zeros(len(scores), np.bool_)
    return Trace(len(scores), np.arange(1, len(scores) + 1), scores, scores * 0.0, nothing, nothing)


def noise(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).chisquare(40, count) / 40


def test_it_decides_as_pipeline_and_annunciator_do() -> None:
    """The same scores through the whole pipeline: a window of one row whose error is the score."""
    scores = noise(1, 6000)
    for at in (500, 900, 1500, 4000):
        scores[at : at + 60] *= 6.0
    scores[2500:] *= 1.15
    scores = scores.astype(np.float32).astype(np.float64)
    spec = RULES["conformal"].commission(noise(2, 2000))
    manifest = raw_manifest(1, 1, ("a",)).model_copy(update={"threshold": spec, "alarm": ALARM})
    pipeline = Pipeline("asset", manifest, lambda scaled: scaled * 0.0)
    annunciator, random = Annunciator(Policy()), np.random.default_rng(5)
    active, told, seen_t = [], 0, np.inf
    values = np.sqrt(scores)[:, None].astype(np.float32)
    for at, row in enumerate(values):
        # What has arrived by then, the operator's word among it, comes before the window.
        if at + 1 >= seen_t:
            annunciator.acknowledge()
            seen_t = np.inf
        pipeline.teachable = annunciator.acknowledged
        for fact in pipeline.feed(Samples(1, at, float(at), 1.0, row[None], 0, False, 0)):
            if isinstance(fact, Judgement):
                active.append(fact.active)
            heard = annunciator.take(fact) if isinstance(fact, AlarmEvent) else None
            if heard and heard.seq == 1:
                told, seen_t = told + 1, at + 1 + random.uniform(*SEEN_AFTER_SECONDS)
    duty = on_duty([trace(values[:, 0].astype(np.float64) ** 2)], 1.0, spec, ALARM, 5)
    assert duty.active.tolist() == active
    assert duty.began == pipeline.counters.episodes > 2
    assert duty.told == told


def test_nothing_is_learnt_until_somebody_has_seen_the_alarm() -> None:
    """An alarm, then a machine that gets louder: nobody follows it for half an hour."""
    spec = RULES["conformal"].commission(noise(2, 2000))
    alarm = AlarmSpec(on_delay_windows=5, off_delay_windows=5, clear_ratio=0.8)
    louder = noise(3, 12_000) * np.interp(np.arange(12_000), [0, 1500], [1.0, 1.8])
    follows = on_duty([trace(np.concatenate([noise(4, 100), louder]))], 1.0, spec, alarm, 1)
    held = np.concatenate([noise(4, 50), np.full(10, 9.0), noise(5, 40), louder])
    late = on_duty([trace(held)], 1.0, spec, alarm, 1)
    assert follows.began == 0
    assert late.active[1500:1850].mean() > 0.2
    assert late.began > 1


def test_of_many_alarms_an_hour_not_all_are_told() -> None:
    spec = RULES["mean + 3 sigma"].commission(noise(2, 2000))
    scores = 0.5 * noise(3, 6000)
    for at in range(0, len(scores), 200):
        scores[at : at + 40] = 9.0
    duty = on_duty([trace(scores)], 1.0, spec, ALARM, 1)
    assert duty.began == 30
    assert duty.told == 2 * Policy().begins_an_hour


def test_a_gap_between_two_runs_counts_towards_no_alarm() -> None:
    spec = RULES["mean + 3 sigma"].commission(noise(2, 2000))
    quiet, loud = noise(3, 100), np.full(ALARM.on_delay_windows - 1, 9.0)
    split = [trace(np.concatenate([quiet, loud])), trace(np.concatenate([loud, quiet]))]
    assert on_duty(split, 1.0, spec, ALARM, 1).began == 0
    assert on_duty([trace(np.concatenate([quiet, loud, loud]))], 1.0, spec, ALARM, 1).began == 1
