"""SKAB: an LSTM built on a real pump's normal operation, int8 against float on its real faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.recordings import read_recording
from tests.programs import replay, run


@pytest.mark.data("skab")
@pytest.mark.timeout(600)
def test_skab(data_dir: Path, tmp_path: Path) -> None:
    tables = sorted((data_dir / "skab").rglob("*.csv.gz"))
    said = run("converter", "import", *tables, "--out", tmp_path, "--json")
    assert len(said) == len(tables)
    assert {line["rate_hz"] for line in said} == {1.0}
    # Steps of 2 s are no gaps, those of a minute and more are.
    assert sum(line["gaps"] for line in said) == 3
    normal = tmp_path / "skab-anomaly-free.rec"
    assert read_recording(normal).rows == 9405
    assert len(read_recording(normal).stream.channels) == 8
    faulty = [path for path in sorted(tmp_path.glob("*.rec")) if path != normal]
    (verdict,) = run(
        "converter", "build", "--normal", normal, "--evaluate", *faulty, "--name", "skab",
        "--family", "lstm", "--front-end", "smooth", "--length", 50, "--hop", 20,
        "--train-hop", 6, "--epochs", 15, "--out", tmp_path / "skab.otolith", "--json",
    )  # fmt: skip
    assert verdict["accepted"], verdict["reasons"]
    assert verdict["size_ratio"] <= 0.30
    assert verdict["auc_delta"] >= -0.01
    assert verdict["spearman"] >= 0.98
    assert verdict["alarm_agreement"] >= 0.98
    assert verdict["windows"]["evaluate"] > 1000
    episodes = [replay(path, tmp_path / "skab.otolith")[-1]["episodes"] for path in faulty]
    assert sum(count > 0 for count in episodes) >= 0.8 * len(faulty)
    # The rival is there, on the same windows, and the network beats it.
    assert verdict["int8"]["auc"] > verdict["linear"]["auc"]
