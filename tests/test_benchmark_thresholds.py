"""The table of thresholds: one score, one alarm, and only the rule differs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converter.benchmark import battery, case, thresholds
from converter.benchmark.case import Case, sensor
from converter.benchmark.families import Outcome
from converter.benchmark.thresholds import RULES, WORN, Data, Truth, worn_in
from converter.benchmark.trace import Trace

ROWS = 4000
FIRST, END, GRACE = 3000, 3100, 50


def trace(scores: np.ndarray) -> Trace:
    nothing = np.zeros(len(scores), np.bool_)
    return Trace(len(scores), np.arange(1, len(scores) + 1), scores, scores * 0.0, nothing, nothing)


def scores(seed: int, louder: float = 1.0) -> np.ndarray:
    return louder * np.random.default_rng(seed).chisquare(40, ROWS) / 40


@pytest.fixture
def data() -> tuple[Data, dict[str, Outcome]]:
    """A usual day with one anomaly, and a day in which everything gets half as loud again."""
    tests = tuple(case.Test(name, np.zeros((ROWS, 1), np.float32)) for name in ("normal", WORN))
    kind = replace(battery.KIND, alarm=battery.KIND.alarm)
    made = Case("made", sensor(["a"], "g", 1.0), kind, (), tests)
    anomalous, belongs = np.zeros(ROWS, np.bool_), np.zeros(ROWS, np.bool_)
    anomalous[FIRST:END] = belongs[FIRST : END + GRACE] = True
    everything, nothing = np.ones(ROWS, np.bool_), np.zeros(ROWS, np.bool_)
    truths = [
        Truth(made, "normal", 0, anomalous, belongs, ~belongs),
        Truth(made, WORN, 0, nothing, nothing, everything),
    ]
    usual = scores(1)
    usual[FIRST:END] = 10.0
    louder = scores(2) * (1.0 + 0.5 * np.minimum(np.arange(ROWS) / (ROWS / 2), 1.0))
    traces = {"normal": trace(usual), WORN: trace(louder)}
    return Data("made", [made], truths), {"made": Outcome(traces, scores(3), 1, 1.0, False)}


def test_only_what_follows_leaves_a_machine_that_wears_in_alone(
    data: tuple[Data, dict[str, Outcome]],
) -> None:
    found = {name: thresholds._measured(*data, rule) for name, rule in RULES.items()}
    for name, row in found.items():
        assert (row["events"], row["events_found"]) == (1.0, 1.0), name
        # It is told with the tenth window over the limit.
        assert row["delay_p50_s"] == pytest.approx(9.0, abs=1.0)
        assert row["flagged"] is not None
        assert row["flagged"] < 0.02
        assert row["false_episodes_per_day"] == 0.0
    assert 0.005 < found["quantile 99 %"]["flagged"] < 0.015
    for still, follows in (
        ("quantile 99.5 % x 1.2", "conformal"),
        ("peaks over threshold", "spot"),
    ):
        assert found[follows]["flagged_worn"] < 0.5 * found[still]["flagged_worn"]
    assert found["quantile 99 %"]["flagged_worn"] > 0.1


def test_an_alarm_that_outlasts_its_anomaly_is_neither_right_nor_wrong(
    data: tuple[Data, dict[str, Outcome]],
) -> None:
    """The alarm ends 30 windows after the anomaly, which is within its grace."""
    truths, outcomes = data
    steady = np.ones(ROWS)
    steady[FIRST:END] = 10.0
    outcomes["made"].traces["normal"] = trace(steady)
    row = thresholds._measured(truths, outcomes, RULES["mean + 3 sigma"])
    hits = END - FIRST - 9
    assert row["f1"] == pytest.approx(2 * hits / (2 * hits + 9))
    assert row["alarm_share"] == 0.0


def test_the_machine_wears_in_the_same_way_every_time_and_only_where_it_says() -> None:
    rows, healthy = worn_in(5), battery.machine(5, battery.DAY_SECONDS)
    moved = rows - healthy
    for at, name in enumerate(battery.CHANNELS):
        wear = thresholds.WEAR.get(name, 0.0)
        assert moved[0, at] == 0.0
        assert moved[thresholds.WEAR_SECONDS :, at] == pytest.approx(wear, abs=1e-9)
