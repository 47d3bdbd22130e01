"""The benchmark says what it measured, in the words that scripts hang on."""

from __future__ import annotations

import json
from pathlib import Path

from tests.benchmarks.row import Row
from tests.programs import run

KEYS = {"name", "unit", "value", "against", "floor", "ratio", "goal", "ok"}


def test_a_row_is_judged_from_its_own_side() -> None:
    assert Row("a", "s", 3.0, "b", 2.0, 1.5, "low").ok
    assert not Row("a", "s", 3.1, "b", 2.0, 1.5, "low").ok
    assert Row("a", "s", 300.0, "b", 2.0, 100.0, "high").ok
    assert Row("a", "MB", 60.0, "b", 40.0, 25.0, "low", as_difference=True).ratio == 20.0


def test_the_decoder_is_measured_beside_its_rival(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    line, floor = run("tests.benchmarks", "decoder", "--json", "--out", out)
    assert json.loads(out.read_text()) == [line, floor]
    assert set(line) == set(floor) == KEYS
    assert (line["name"], floor["name"]) == ("decoder", "decoder_floor")
    assert line["ratio"] == line["value"] / line["floor"]
    assert line["ratio"] > 10  # its goal is 100; a busy machine is no reason to fail
    assert 1 < floor["ratio"] < 250  # its goal is 25
