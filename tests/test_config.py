"""Every error of a configuration at once, with its line, and nothing that is wrong accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.bundles.manifest import AlarmSpec
from edge_agent.config import Config, ConfigError, load_config, read_password
from edge_agent.config.toml_lines import TomlLines
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


def problems(folder: Path, text: str) -> list[tuple[int | None, str, str]]:
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
        ('host = "127.0.0.1"', 'port = "1883"', 5, "mqtt.port", "whole number"),
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


# What technicians write: file, then line, key and words of its only error.
LIMITS = "[[assets.motor.limits]]\n"


@pytest.mark.parametrize(
    ("old", "new", "line", "key", "told"),
    [
        ("[boards.press]", "[[boards.press]]", 7, "boards.press", "write [boards.press], with sin"),
        ("[boards.press]", "[boards]", 8, "boards.port", "write [boards.<name>] above it inst"),
        ("[mqtt]\n", "mqtt = [1]\n[mqtt]\n", 4, "gateway.mqtt", "write [mqtt] on a line of it"),
        ("[mqtt]\n", 'trusted_keys = ["k"]\n', 4, "gateway.trusted_keys", "at the top of the file"),
        ("[mqtt]\n", "[alarm]\n[mqtt]\n", 4, "alarm", "belongs in [assets.<name>.alarm]"),
        ("stream =", "off_delay_windows = 3\nstream =", 12, "assets.motor.off_delay_windows",
         "it belongs in [assets.motor.alarm]"),
        ("stream =", "above = 3\nstream =", 12, "assets.motor.above",
         "it belongs in [[assets.motor.limits]]"),
        ("stream =", 'alarm = "x"\nstream =', 12, "assets.motor.alarm", "write [assets.motor.al"),
        ("stream =", "limits = {above = 1}\nstream =", 12, "assets.motor.limits", "double brack"),
        ("[boards", LIMITS + "above = 1\n" + LIMITS + "abov = 1\nchannel='x'\n[boards", 10,
         "assets.motor.limits.1.abov", "did you mean above?"),
        ('host = "127.0.0.1"', 'password = "sesame"', 5, "mqtt.password", "LoadCredential="),
        ('host = "127.0.0.1"', 'host = "mqtt://u:sesame@b:1883"', 5, "mqtt.host", "alone, as in"),
        ('host = "127.0.0.1"', 'host = "u:sesame@b"\ntls=true', 5, "mqtt.host", "alone, as in"),
        ('host = "127.0.0.1"', "tls = 'yes'", 5, "mqtt.tls", "true or false, without quotes"),
        ('host = "127.0.0.1"', "keepalive_seconds = 1", 5, "mqtt.keepalive_seconds", "5 to 3600"),
        ('"press.tty"', '""', 8, "boards.press.port", "path of a file"),
        ('"press.tty"', '"a\\u0000b"', 8, "boards.press.port", "path of a file"),
        ('"hall-1"', "2026-11-22", 2, "gateway.id", "saw the date or time 2026-11-22; must be te"),
        ("[gateway]", "schema_version = 2\n[gateway]", 1, "schema_version", "reads 1"),
        ("[gateway]", 'trusted_keys = "k"\n[gateway]', 1, "trusted_keys", 'as in ["one", "two"]'),
        ("[boards.press]", '[boards."a b"]\nport="x"\n[boards.press]', 7, "boards.a b", "letters"),
    ],
)  # fmt: skip
def test_what_technicians_write_is_answered_with_what_to_do(
    tmp_path: Path, old: str, new: str, line: int, key: str, told: str
) -> None:
    found = problems(tmp_path, GOOD.replace(old, new, 1))
    assert "sesame" not in str(found)
    assert [(n, k) for n, k, text in found if told in text] == [(line, key)], found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("port = /dev/ttyACM0", "text needs quotes"),
        ("tls = True", "true or false, in lower case"),
        ("username = null", "leave a key out"),
        ("gateway:\n  id: x", "looks like YAML"),
        ('{"gateway": {}}', "looks like JSON"),
        ("id = \u201chall\u201d", "typographic quotes"),
        ('file = "C:\\users"', "single quotes"),
        ("port = 1883,", "no comma"),
        ("port = 01883", "may not begin with 0"),
        ("port == 1883", "one = is enough"),
        ("port =", "there is no value"),
        ("limit_bytes = 5GB", "its unit is in the key's name"),
        ('id = "hall', "closing quote is missing"),
        ("; comment", "begins with #"),
        ("[boards.press 1]", "may not have a space"),
        ("[gateway", "] is missing"),
        ("[mqtt]\n[mqtt]", "put everything about it in one place"),
        ("password = sesame", "text needs quotes"),
    ],
)
def test_what_is_no_toml_is_told_with_what_to_do(tmp_path: Path, text: str, told: str) -> None:
    ((_, _, words),) = problems(tmp_path, text + "\n")
    assert told in words
    assert "sesame" not in words


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 5000])
def test_monstrous_values_are_refused(tmp_path: Path, text: str) -> None:
    assert problems(tmp_path, text)


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    assert load(tmp_path, "\ufeff" + GOOD.replace("\n", "\r\n")).gateway.id == "hall-1"


def test_a_hundred_errors_are_told_and_the_rest_is_counted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.\.\. and 21 more$") as error:
        load(tmp_path, GOOD + "".join(f"x{i} = 1\n" for i in range(121)))
    assert len(error.value.problems) == 121


JUNK = ["[", "]", "[[", '"', "'", "=", "\n", "#", "{", "5", "true", ".", '"""', "nan", "[]", "\0",
        "[boards]\n", "[[boards]]\n", "[mqtt.tls]\n", "\u2028", "1e999", "{a={b=1}}"]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(GOOD)), st.sampled_from(JUNK)), max_size=4))
def test_whatever_is_in_the_file_is_a_configuration_or_its_errors(
    tmp_path_factory: pytest.TempPathFactory, edits: list[tuple[int, str]]
) -> None:
    text = GOOD
    for at, junk in edits:
        text = text[:at] + junk + text[at:]
    try:
        load(tmp_path_factory.getbasetemp(), text)
    except ConfigError as error:
        for problem in error.problems:
            assert problem.line is not None
            assert 1 <= problem.line <= text.count("\n") + 1


def test_all_errors_come_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    text = GOOD.replace('"hall-1"', '""').replace('"press"\nstream', '"pump"\nstraem')
    text += '[boards.other]\nport = "press.tty"\nbaud = 10\n[healt]\n'
    found = problems(tmp_path, text)
    lines = [line for line, _, _ in found if line]
    assert len(lines) == len(found)
    assert lines == sorted(lines)
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
    assert line in (1, 2)


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
