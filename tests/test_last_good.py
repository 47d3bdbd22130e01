"""A bad configuration at the start: refused, or the last good one runs if it was asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.config import ConfigError
from edge_agent.config.last_good import ConfigFile
from tests.conftest import ROOT, Mosquitto
from tests.subscriber import Subscriber
from tests.test_service import PUMP, configure


def test_a_good_file_is_kept_and_a_bad_one_refused_or_replaced_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, kept = configure(tmp_path, 1883, PUMP), tmp_path / "elsewhere" / "last-good.toml"
    monkeypatch.setenv("OTOLITH__MQTT__PORT", "1999")
    good = ConfigFile(file, kept).first()
    assert good.mqtt.port == 1999
    monkeypatch.delenv("OTOLITH__MQTT__PORT")
    text = file.read_text()
    file.write_text(text.replace("[mqtt]", "[mqtt]\nhots = 3"))
    with pytest.raises(ConfigError, match="hots"):
        ConfigFile(file).first()
    again = ConfigFile(file, kept)
    assert again.first() == good
    assert "hots" in (again.complaint or "")
    with pytest.raises(ConfigError):
        again.again()
    file.write_text(text)
    assert again.again().mqtt.port == 1883
    assert again.complaint is None
    file.unlink()
    assert ConfigFile(file, kept).first().mqtt.port == 1883


def test_a_copy_that_is_bad_too_helps_nobody(tmp_path: Path) -> None:
    file, kept = configure(tmp_path, 1883, PUMP), tmp_path / "last-good.toml"
    ConfigFile(file, kept).first()
    file.write_text("[gateway")
    kept.write_bytes(os.urandom(200))
    with pytest.raises(ConfigError, match="not TOML"):
        ConfigFile(file, kept).first()


def test_the_copy_is_written_only_when_it_changes(tmp_path: Path) -> None:
    file, kept = configure(tmp_path, 1883, PUMP), tmp_path / "last-good.toml"
    ConfigFile(file, kept).first()
    before = kept.stat().st_ino
    ConfigFile(file, kept).first()
    assert kept.stat().st_ino == before
    (tmp_path / "no").write_text("no folder")
    assert ConfigFile(file, tmp_path / "no" / "kept.toml").first()


def run(file: Path, *more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "run", "--config", file, *map(str, more)],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_the_service_starts_on_the_last_good_one_and_says_so(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    file, kept = configure(tmp_path, mosquitto.port, PUMP), tmp_path / "last-good.toml"
    ConfigFile(file, kept).first()
    file.write_text(file.read_text() + "[nonsense]\n")
    refused = run(file)
    _, said = refused.communicate(timeout=30)
    assert refused.returncode == 78
    assert "nonsense" in said
    subscriber = Subscriber(mosquitto.port, "otolith/test/#")
    running = run(file, "--last-good", kept)
    subscriber.until(lambda: subscriber.latest("otolith/test/status") == "online")
    running.send_signal(signal.SIGTERM)
    _, said = running.communicate(timeout=30)
    subscriber.close()
    assert running.returncode == 0
    assert "nonsense" in said
    assert "running on the last good configuration" in said
