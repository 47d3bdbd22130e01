"""CWRU: bearings at 0 dB of added noise, built on the first 70 % of the healthy record."""

from __future__ import annotations

from pathlib import Path

import pytest

from converter.recordings import read_recording
from tests.programs import run

FAULTS = ("B007_0hp", "IR007_0hp", "OR007at6_0hp")


@pytest.mark.data("cwru")
def test_cwru_in_noise(data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "cwru"
    common = ["--unit", "g", "--columns", "DE,FE", "--json"]
    healthy = folder / "Normal_0_part1.npz"
    (clean,) = run("converter", "import", healthy, "--out", tmp_path / "clean", *common)
    # 0 dB: as much noise as the healthy machine has signal, the same on every record.
    noise = ["--noise-rms", ",".join(map(str, clean["rms"])), "--noise-seed", "1"]
    (noisy,) = run("converter", "import", healthy, "--out", tmp_path, *common, *noise)
    assert noisy["rms"] == pytest.approx([2**0.5 * rms for rms in clean["rms"]], rel=0.02)
    faulty = [folder / f"{name}.npz" for name in FAULTS]
    run("converter", "import", *faulty, "--out", tmp_path, "--faulty", *common, *noise)
    normal = tmp_path / "Normal_0_part1.rec"
    assert read_recording(normal).stream.rate_hz == 48000.0
    (verdict,) = run(
        "converter", "build", "--normal", normal, "--normal-share", 0.7, "--evaluate",
        *(tmp_path / f"{name}.rec" for name in FAULTS), "--name", "cwru",
        "--front-end", "spectral", "--hop", 576, "--train-hop", 64,
        "--out", tmp_path / "cwru.otolith", "--json",
    )  # fmt: skip
    assert verdict["accepted"], verdict["reasons"]
    assert verdict["size_ratio"] <= 0.30
    assert verdict["auc_delta"] >= -0.01
    assert verdict["spearman"] >= 0.98
    assert verdict["int8"]["auc"] >= 0.99
    assert verdict["int8"]["detected_share"] >= 0.95
    assert verdict["linear"]["auc"] is not None
