"""Every error of a configuration at once, with its line, and nothing that is wrong accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.config import Config, ConfigError, load_config, read_password
from edge_agent.manifest import AlarmSpec
from edge_agent.toml_lines import TomlLines
from tests.conftest import ROOT
from tests.programs import run

GOOD = """\
[gateway]
id = "hall-1"

[mqtt]
host = "127.0.0.1"

[boards.press]
port = "press.tty"

[assets.motor]
board = "press"
stream = "accel"
bundle = "motor.otolith"
"""


def load(folder: Path, text: str) -> Config:
    file = folder / "agent.toml"
    file.write_text(text)
    return load_config(file)


def problems(folder: Path, text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigError) as error:
        load(folder, text)
    return [(p.line, ".".join(p.path), p.text) for p in error.value.problems]


def test_a_small_file_is_enough(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD)
    assert config.base_topic == "otolith/hall-1"
    assert config.boards["press"].port == tmp_path / "press.tty"
    assert config.boards["press"].baud == 921_600
    assert config.assets["motor"].bundle == tmp_path / "motor.otolith"
    assert config.recorder is None
    assert config.health.interval_seconds == 60.0


def test_the_example_is_valid() -> None:
    assert load_config(ROOT / "systemd" / "examples" / "agent.toml").gateway.id == "press-hall-1"


def test_the_alarm_of_an_asset_changes_only_what_it_names(tmp_path: Path) -> None:
    config = load(tmp_path, GOOD + "[assets.motor.alarm]\non_delay_windows = 7\n")
    spec = config.assets["motor"].alarm.apply(AlarmSpec(on_delay_windows=2, off_delay_windows=5))
    assert (spec.on_delay_windows, spec.off_delay_windows) == (7, 5)


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "told"),
    [
        ('id = "hall-1"', 'id = "hall 1"', 2, "gateway.id", "saw 'hall 1'"),
        ('id = "hall-1"', 'ID = "hall-1"', 2, "gateway.ID", "did you mean id?"),
        ('id = "hall-1"', "", 1, "gateway.id", "is missing"),
        ("[mqtt]", "[mqttt]", 4, "mqttt", "did you mean mqtt?"),
        ('host = "127.0.0.1"', "port = 70000", 5, "mqtt.port", "saw 70000"),
        ('host = "127.0.0.1"', 'port = "1883"', 5, "mqtt.port", "integer"),
        ('host = "127.0.0.1"', "keepalive_second = 9", 5, "mqtt.keepalive_second", "mean keepa"),
        ('host = "127.0.0.1"', 'host = "broker.example"', 5, "mqtt.host", "without TLS"),
        ('host = "127.0.0.1"', 'key_file = "k"', 5, "mqtt.key_file", "needs certificate_file"),
        ('host = "127.0.0.1"', 'password_file = "p"', 5, "mqtt.password_file", "needs username"),
        ('host = "127.0.0.1"', 'base_topic = "a/#"', 5, "mqtt.base_topic", "saw 'a/#'"),
        ('port = "press.tty"', "port = 5", 8, "boards.press.port", "saw 5"),
        ('port = "press.tty"', 'prt = "press.tty"', 8, "boards.press.prt", "did you mean port?"),
        ('board = "press"', 'board = "pres"', 11, "assets.motor.board", "did you mean press?"),
        ("[assets.motor]", "[assets.status]", 10, "assets.status", "topic of the gateway"),
        ("[assets.motor]", "[assets.board]", 10, "assets.board", "topic of the gateway"),
        ('bundle = "motor.otolith"', "", 10, "assets.motor.bundle", "is missing"),
    ],
)  # fmt: skip
def test_one_error_has_its_line_key_and_hint(
    tmp_path: Path, old: str, new: str, line: int, key: str, told: str
) -> None:
    found = problems(tmp_path, GOOD.replace(old, new, 1))
    assert [(n, k) for n, k, text in found if told in text] == [(line, key)], found


def test_all_errors_come_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = GOOD.replace('"hall-1"', '""').replace('"press"\nstream', '"pump"\nstraem')
    text += '[boards.other]\nport = "press.tty"\nbaud = 10\n[healt]\n'
    found = problems(tmp_path, text)
    assert [line for line, _, _ in found] == sorted(line for line, _, _ in found)
    assert {key for _, key, _ in found} >= {
        "gateway.id", "assets.motor.board", "assets.motor.straem", "assets.motor.stream",
        "boards.other.port", "boards.other.baud", "healt",
    }  # fmt: skip


@pytest.mark.parametrize("line", ['ca_file = "ca.pem"', "tls = true", "insecure = true"])
def test_another_host_needs_tls_or_a_word_of_consent(tmp_path: Path, line: str) -> None:
    text = GOOD.replace('host = "127.0.0.1"', f'host = "10.0.0.5"\n{line}')
    assert load(tmp_path, text).mqtt.host == "10.0.0.5"


@pytest.mark.parametrize("text", ["[gateway\n", "a = \n", 'x = "unclosed\n', "a = 1\na = 2\n"])
def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path, text: str) -> None:
    ((line, _, told),) = problems(tmp_path, text)
    assert told.startswith("not TOML")
    assert 1 <= line <= 2


def test_bytes_that_are_no_text_are_told_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_bytes(b'[gateway]\nid = "\xff"\n')
    with pytest.raises(ConfigError, match=":2: not UTF-8"):
        load_config(file)


def test_many_boards_without_a_recorder_need_no_room_for_one(tmp_path: Path) -> None:
    more = "".join(f'[boards.more{i}]\nport = "more{i}.tty"\n' for i in range(40))
    assert len(load(tmp_path, GOOD + more).boards) > 40


def test_the_recorder_must_hold_two_segments_a_board(tmp_path: Path) -> None:
    recorder = '[recorder]\ndirectory = "r"\nlimit_bytes = 1_000_000\nsegment_bytes = 600_000\n'
    ((line, key, told),) = problems(tmp_path, GOOD + recorder)
    assert (line, key) == (16, "recorder.limit_bytes")
    assert "at least 1200000" in told


def test_lines_are_found_behind_strings_arrays_and_comments() -> None:
    lines = TomlLines(
        'a = """\n[not.a.table]\nb = 1\n"""\n'
        "keys = [\n  1, # ]\n  2,\n]\n"
        '["quo.ted"."x"] # comment\n c . d = 5\nf = {g = 1}\n'
    )
    assert lines.line(("keys",)) == 5
    assert lines.line(("quo.ted", "x")) == 9
    assert lines.line(("quo.ted", "x", "c", "d")) == 10
    assert lines.line(("quo.ted", "x", "f", "g")) == 11
    assert lines.line(("b",)) == 1


def test_a_password_that_everybody_can_read_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("sesame\n")
    text = GOOD.replace('host = "127.0.0.1"', 'username = "u"\npassword_file = "password"')
    settings = load(tmp_path, text).mqtt
    secret.chmod(0o644)
    with pytest.raises(ValueError, match="chmod 600"):
        read_password(settings)
    secret.chmod(0o600)
    assert read_password(settings) == "sesame"


def test_the_password_may_be_a_credential_of_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(tmp_path, GOOD).mqtt
    assert read_password(settings) is None
    (tmp_path / "mqtt-password").write_text("sesame\n")
    (tmp_path / "mqtt-password").chmod(0o400)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_password(settings) == "sesame"


def test_check_config_answers_scripts(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text(GOOD)
    *_, last = run("edge_agent", "check-config", file, "--json")
    assert last["ok"] is True
    assert "motor.otolith" in json.dumps(last["notes"])
    file.write_text(GOOD.replace("id =", "idd ="))
    *told, last = run("edge_agent", "check-config", file, "--json", code=78)
    assert {(line["line"], line["key"]) for line in told} == {(2, "gateway.idd"), (1, "gateway.id")}
    assert last == {"ok": False, "problems": 2}


def test_a_file_that_is_not_there_is_an_error_of_input(tmp_path: Path) -> None:
    assert run("edge_agent", "check-config", tmp_path / "none.toml", "--json", code=74) == []
