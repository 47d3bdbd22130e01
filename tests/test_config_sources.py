"""Where values come from: the environment over the file over defaults, and never a secret."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from edge_agent.__main__ import main
from edge_agent.config import ConfigError, Problem, load_config, read_config
from edge_agent.config.effective import rows, toml_lines
from tests.programs import run

KEY = "A" * 43 + "="
FILE = """\
[gateway]
id = "hall-1"

[mqtt]
port = 1884

[boards.press]
port = "press.tty"

[assets.press-motor]
board = "press"
stream = "accel"
bundle = "motor.otolith"

[[assets.press-motor.limits]]
channel = "x"
above = 4.5
"""
PREFIX = "OTOLITH__"
MOTOR = "ASSETS__PRESS_MOTOR"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "agent.toml"
    file.write_text(FILE)
    return file


def variables(**given: str) -> dict[str, str]:
    return {PREFIX + name: value for name, value in given.items()}


def refused(file: Path, **given: str) -> list[Problem]:
    with pytest.raises(ConfigError) as error:
        load_config(file, variables(**given))
    return error.value.problems


@pytest.mark.parametrize(
    ("name", "text", "path", "value"),
    [
        ("MQTT__HOST", "localhost", "mqtt.host", "localhost"),
        ("MQTT__HOST", '"localhost"', "mqtt.host", "localhost"),
        ("MQTT__PORT", "1999", "mqtt.port", 1999),
        ("MQTT__SCORE_INTERVAL_SECONDS", "0.5", "mqtt.score_interval_seconds", 0.5),
        ("MQTT__INSECURE", "true", "mqtt.insecure", True),
        ("TRUSTED_KEYS", f'["{KEY}", "{KEY}"]', "trusted_keys", [KEY, KEY]),
        # Text stays text, whatever it looks like.
        ("GATEWAY__ID", "42", "gateway.id", "42"),
        ("BOARDS__PRESS__UID", "12e45", "boards.press.uid", "12e45"),
        ("BOARDS__PRESS__UID", "true", "boards.press.uid", "true"),
        # Names: in upper case with _ for -, or as they are; tables that the file doesn't have.
        ("BOARDS__press__BAUD", "115200", "boards.press.baud", 115200),
        (f"{MOTOR}__ALARM__CLEAR_RATIO", "0.5", "assets.press-motor.alarm.clear_ratio", 0.5),
        ("ASSETS__press-motor__STREAM", "gyro", "assets.press-motor.stream", "gyro"),
    ],
)
def test_a_variable_comes_before_the_file(
    file: Path, name: str, text: str, path: str, value: Any
) -> None:
    loaded = read_config(file, {PREFIX + name: text, "OTOLITH_DATA": "/x", "HOME": "/y"})
    row = {".".join(row.path): row for row in rows(loaded)}[path]
    assert (row.value, type(row.value)) == (value, type(value))
    assert row.origin.text == f"environment {PREFIX}{name}"


def test_paths_of_variables_count_from_the_file_too(file: Path) -> None:
    config = load_config(file, variables(RECORDER__DIRECTORY="recordings"))
    assert config.recorder
    assert config.recorder.directory == file.parent / "recordings"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("MQTT__HOSTS", "x", "did you mean OTOLITH__MQTT__HOST?"),
        ("MQTT_HOST", "x", "did you mean OTOLITH__MQTT__HOST?"),
        ("HOST", "x", "did you mean OTOLITH__MQTT__HOST?"),
        ("MQT__PORT", "1", "did you mean OTOLITH__MQTT__PORT?"),
        ("BOARDS__PRES__BAUD", "9600", "did you mean OTOLITH__BOARDS__PRESS__BAUD?"),
        ("QUITE__OTHER", "1", "there is OTOLITH__SCHEMA_VERSION, "),
        ("MQTT", "{}", "a whole table can't be given"),
        ("BOARDS__PRESS", "x", "a whole table can't be given"),
        ("", "x", "a whole table can't be given"),
        ("MQTT__PORT", "no", "saw 'no'; must be a whole number 1 to 65535"),
        ("MQTT__PORT", "1\nhost = 'x'", "must be a whole number"),
        ("MQTT__HOST", "10.0.0.5", "without TLS"),
        ("MQTT__HOST", "", "saw ''"),
        ("MQTT__USERNAME", "\udcff", "not UTF-8"),
        ("GATEWAY__ID", "[" * 5000, "must be letters"),
        (f"{MOTOR}__BOARD", "pres", "did you mean press?"),
        (f"{MOTOR}__LIMITS", '[{above = 1, iso = "x"}]', "unknown key; did you mean iso_20816?"),
        (f"{MOTOR}__ALARM__RAMP_CHANNEL", "rpm", "ramp_per_second"),
        ("RECORDER__SEGMENT_SECONDS", "5", "is missing"),
    ],
)
def test_an_error_of_a_variable_names_it(file: Path, name: str, text: str, told: str) -> None:
    (problem,) = refused(file, **{name: text})
    assert (problem.variable, problem.line) == (PREFIX + name, None)
    assert told in problem.text


def test_all_errors_of_file_and_environment_come_at_once(file: Path) -> None:
    file.write_text(FILE.replace("port = 1884", "prt = 1884"))
    with pytest.raises(ConfigError) as error:
        load_config(file, variables(GATEWAY__ID="a b", MQTT__KEEPALIVE="3"))
    lines = str(error.value).splitlines()
    assert lines[0].startswith(f"{file}:5: mqtt.prt: unknown key; did you mean port?")
    assert lines[1].startswith("OTOLITH__GATEWAY__ID: gateway.id: saw 'a b'")
    assert lines[2].startswith("OTOLITH__MQTT__KEEPALIVE: unknown variable")


def test_a_key_is_given_once(file: Path) -> None:
    (problem,) = refused(file, MQTT__PORT="1", mqtt__port="2")
    assert problem.text == "is given by OTOLITH__MQTT__PORT already"


def test_a_name_that_fits_two_is_refused_unless_it_is_exact(file: Path) -> None:
    file.write_text(FILE + '[boards.a-b]\nport = "1"\n[boards.A_b]\nport = "2"\n')
    (problem,) = refused(file, BOARDS__A_B__UID="x")
    assert "differ in - and _ only" in problem.text
    config = load_config(file, variables(BOARDS__A_b__UID="x"))
    assert [board.uid for board in config.boards.values()] == [None, None, "x"]


@pytest.mark.parametrize("name", ["MQTT__PASSWORD", "MQTT__PASSWD", "API_TOKEN", "mqtt__secret"])
def test_a_secret_is_not_taken_from_the_environment(file: Path, name: str) -> None:
    (problem,) = refused(file, **{name: "sesame"})
    assert "PASSWORD_FILE" in problem.text
    assert "LoadCredential=mqtt-password" in problem.text
    assert "sesame" not in problem.text


def test_what_is_shown_is_a_configuration_that_means_the_same(file: Path, tmp_path: Path) -> None:
    file.write_text(
        FILE + '[recorder]\ndirectory = "a\\"\\u007f\\\\"\n[assets.press-motor.alarm]\n'
    )
    loaded = read_config(file, variables(MQTT__KEEPALIVE_SECONDS="7"))
    shown = tmp_path / "shown.toml"
    shown.write_text("\n".join(toml_lines(rows(loaded))))
    assert load_config(shown, {}) == loaded.config


def test_every_key_is_shown_with_its_source(file: Path) -> None:
    found = {".".join(row.path): row for row in rows(read_config(file, {}))}
    assert found["mqtt.port"].origin.text == "agent.toml:5"
    assert found["assets.press-motor.limits"].origin.text == "agent.toml:15"
    assert found["mqtt.host"].origin.text == "default"
    assert found["recorder"].value is None
    assert "otolith/hall-1" in found["mqtt.base_topic"].meaning
    whole = load_config(file, {}).model_dump()
    assert {key.split(".")[0] for key in found} == set(whole)
    assert set(whole["mqtt"]) == {k.removeprefix("mqtt.") for k in found if "mqtt." in k} - {
        "password"
    }


def test_of_a_password_only_the_place_is_shown(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "mqtt-password"
    secret.write_text("sesame")

    def place(**given: str) -> str:
        shown = rows(read_config(file, variables(**given)))
        assert "sesame" not in "\n".join(toml_lines(shown))
        (row,) = [row for row in shown if row.path == ("mqtt", "password")]
        return row.origin.text

    assert place() == "default"
    named = {"MQTT__USERNAME": "u", "MQTT__PASSWORD_FILE": "mqtt-password"}
    assert place(**named) == f"file {secret}"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert place() == "credential mqtt-password"


def test_the_command_shows_toml_or_json(
    file: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTOLITH__MQTT__PORT", "1999")
    *shown, last = run("edge_agent", "check-config", file, "--show", "--json")
    assert (last["ok"], last["keys"]) == (True, len(shown))
    (port,) = [row for row in shown if row["key"] == "mqtt.port"]
    assert port == {
        "key": "mqtt.port", "value": 1999, "source": "environment OTOLITH__MQTT__PORT",
        "line": None, "variable": "OTOLITH__MQTT__PORT",
    }  # fmt: skip
    assert main(["check-config", str(file), "--show"]) == 0
    out, err = capfd.readouterr()
    assert tomllib.loads(out)["mqtt"]["port"] == 1999
    assert "note: assets.press-motor.bundle" in err
    monkeypatch.setenv("OTOLITH__MQTT__PORT", "none")
    problem, last = run("edge_agent", "check-config", file, "--show", "--json", code=78)
    assert (problem["line"], problem["variable"]) == (None, "OTOLITH__MQTT__PORT")
    assert last == {"ok": False, "problems": 1}


def test_files_that_the_broker_needs_are_noted(
    tmp_path: Path, file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "open").write_text("sesame")
    (tmp_path / "open").chmod(0o644)
    text = 'username = "u"\npassword_file = "open"\nca_file = "none.pem"\nport = 1884'
    file.write_text(FILE.replace("port = 1884", text))
    assert main(["check-config", str(file)]) == 0
    err = capfd.readouterr().err
    assert f"note: mqtt.password_file: {tmp_path}/open: can be read by everybody" in err
    assert f"note: mqtt.ca_file: {tmp_path}/none.pem: No such file" in err
