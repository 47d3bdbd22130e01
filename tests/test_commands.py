"""The commands as people type them: answers, pages, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.bundles.bundle import read_bundle
from firmware_bridge.recording import Playback
from firmware_bridge.samples import Samples
from tests import programs
from tests.bundles import changed
from tests.conftest import ROOT


def said(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Standard output and error of `edge-agent`."""
    done = subprocess.run(
        [sys.executable, "-m", "edge_agent", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def played(path: Path) -> tuple[int, Playback]:
    playback = Playback()
    events = playback.feed(path.read_bytes())
    return sum(len(event.values) for event in events if isinstance(event, Samples)), playback


def test_record_takes_seconds_of_a_port(tmp_path: Path) -> None:
    out = tmp_path / "out.rec"
    with programs.board(tmp_path / "b.tty", "--seed", 7):
        (summary,) = programs.run(
            "edge_agent", "record", "--port", tmp_path / "b.tty", "--seconds", 1.5,
            "--out", out, "--json",
        )  # fmt: skip
    samples, playback = played(out)
    assert playback.problem is None
    assert playback.decoder.counters.damaged == 0
    assert summary["bytes"] == out.stat().st_size
    assert summary["samples"] == {"accel": samples}
    assert 1.2 * 3200 < samples < 3 * 3200


def test_record_finds_the_port_in_the_configuration(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(
        '[gateway]\nid = "g"\n[boards.b]\nport = "b.tty"\n[assets.a]\nboard = "b"\n'
        'stream = "accel"\nbundle = "x"\n'
    )
    with programs.board(tmp_path / "b.tty", "--seed", 7):
        for number, board in enumerate((["--board", "b"], [])):
            out, _ = said(
                "record", "--config", config, *board, "--seconds", 0.3,
                "--out", tmp_path / f"{number}.rec",
            )  # fmt: skip
            assert "samples of accel, 0 lost" in out
    _, error = said(
        "record", "--config", config, "--board", "c", "--seconds", 1, "--out", tmp_path / "c",
        code=1,
    )  # fmt: skip
    assert "no board 'c'" in error


def test_record_never_writes_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "out.rec").write_bytes(b"precious")
    _, error = said("record", "--port", "x", "--seconds", 1, "--out", tmp_path / "out.rec", code=74)
    assert "there already" in error
    assert (tmp_path / "out.rec").read_bytes() == b"precious"


def test_record_without_a_board_says_what_to_do(tmp_path: Path) -> None:
    _, error = said(
        "record", "--port", tmp_path / "none", "--seconds", 1, "--out", tmp_path / "o", code=74
    )
    assert "does not exist: plug the board in" in error


def test_inspect_shows_a_page_for_people() -> None:
    out, _ = said("inspect", programs.VIBRATION)
    manifest = read_bundle(programs.VIBRATION).manifest
    for text in ("x, y, z in g at 3200 Hz", "spectral", "threshold", "int8", "linear", "none"):
        assert text in out
    assert f"serial {manifest.serial}" in out
    assert max(map(len, out.splitlines())) <= 100


def test_inspect_says_when_a_threshold_is_provisional(tmp_path: Path) -> None:
    threshold = read_bundle(programs.VIBRATION).manifest.threshold
    few = threshold.model_copy(update={"provisional": True, "windows": 12})
    out, _ = said("inspect", changed(programs.VIBRATION, tmp_path / "b", threshold=few))
    assert "PROVISIONAL" in out


def test_inspect_answers_scripts() -> None:
    (answer,) = programs.run("edge_agent", "inspect", programs.VIBRATION, "--json")
    bundle = read_bundle(programs.VIBRATION)
    assert answer["sha256"] == bundle.sha256
    assert answer["signed"] is bundle.signed
    assert answer["manifest"] == bundle.manifest.model_dump(mode="json")


def test_inspect_with_a_key_refuses_what_nobody_signed() -> None:
    _, error = said("inspect", programs.VIBRATION, "--key", "A" * 43 + "=", code=1)
    assert "not signed" in error


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + b"\0" * 18, b"not a zip" * 99])
def test_inspect_refuses_what_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "b.otolith").write_bytes(content)
    _, error = said("inspect", tmp_path / "b.otolith", code=1)
    assert "b.otolith" in error


def test_replay_shows_a_table(tmp_path: Path) -> None:
    path = tmp_path / "r.rec"
    programs.run("firmware_bridge", "simulate", "--seconds", 8, "--fault", "bearing:3", "--out",
                 path)  # fmt: skip
    out, _ = said("replay", path, "--bundle", programs.VIBRATION)
    assert "begin" in out
    assert "1 episodes, 0 samples lost" in out


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["run"], ["replay", "x"], ["record", "--port", "x"],
                  ["record", "--port", "x", "--seconds", "-1", "--out", "y"]],
)  # fmt: skip
def test_what_makes_no_sense_is_usage(arguments: list[str]) -> None:
    _, error = said(*arguments, code=2)
    assert "usage:" in error
