"""The support file: everything but what opens a door."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.checkup.masking import MASK, Mask, mask_of
from edge_agent.checkup.support import look_first
from edge_agent.config import load_config
from tests.conftest import ROOT
from tests.test_doctor import configure

pytestmark = pytest.mark.timeout(60)

SECRETS = {
    "password": "correct horse/battery",
    "username": "fritz",
    "key": "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC",
    "credential": 'pa"ss\\wörd',
    "another's password": "hunter2hunter2",
    "token": "ghp_16C7e42F292c6912E7",
}
JOURNAL = """\
#!/bin/sh
cat <<'END'
2026-11-22T17:00:00+0000 gw edge-agent[9]: connected to the broker as fritz
2026-11-22T17:00:01+0000 gw edge-agent[9]: saw "correct horse/battery" where none was expected
2026-11-22T17:00:02+0000 gw edge-agent[9]: GET mqtts://admin:hunter2hunter2@broker.example/x failed
2026-11-22T17:00:03+0000 gw edge-agent[9]: password: hunter2hunter2, token=ghp_16C7e42F292c6912E7
2026-11-22T17:00:04+0000 gw edge-agent[9]: url https://x/?p=correct%20horse%2Fbattery&q=1
2026-11-22T17:00:05+0000 gw edge-agent[9]: {"p": "pa\\"ss\\\\w\\u00f6rd"} or 'pa"ss\\wörd'
2026-11-22T17:00:06+0000 gw e[9]: -----BEGIN RSA PRIVATE KEY----- MIIEvQIBADANBgkqhkiG9w0BAQEFAASC
2026-11-22T17:00:07+0000 gw edge-agent[9]: held by 77 (mosquitto_sub -u x -P hunter2hunter2 -v)
2026-11-22T17:00:07+0000 gw edge-agent[9]: board press: expressed in fritzes, streaming
END
"""


def with_secrets(folder: Path, port: int) -> tuple[Path, dict[str, str]]:
    """A configuration that leads to secrets, and a journal that has quoted all of them."""
    password, key, programs_, credentials = (
        folder / name for name in ("password", "client.key", "bin", "credentials")
    )
    password.write_text(SECRETS["password"] + "\n")
    key.write_text(f"-----BEGIN PRIVATE KEY-----\n{SECRETS['key']}\nabcd\n")
    for file in (password, key):
        file.chmod(0o600)
    credentials.mkdir()
    (credentials / "mqtt-password").write_text(SECRETS["credential"])
    programs_.mkdir()
    (programs_ / "journalctl").write_text(JOURNAL)
    (programs_ / "journalctl").chmod(0o755)
    more = (
        f'username = "fritz"\npassword_file = "{password}"\nkey_file = "{key}"\n'
        f'certificate_file = "{folder / "client.crt"}"\n'
    )
    environment = {
        **os.environ, "PATH": f"{programs_}:{os.environ['PATH']}",
        "CREDENTIALS_DIRECTORY": str(credentials),
    }  # fmt: skip
    return configure(folder, port, more), environment


def doctor(
    config: Path, out: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """`edge-agent doctor --out`."""
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", "doctor", "--config", str(config), "--out", str(out)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def unpacked(file: Path, into: Path) -> dict[str, str]:
    """The texts of an archive by their names."""
    shutil.unpack_archive(file, into)
    return {path.name: path.read_text() for path in into.rglob("*") if path.is_file()}


def test_the_support_archive_has_everything_but_secrets(tmp_path: Path) -> None:
    config, environment = with_secrets(tmp_path, 1)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "outbox.sqlite").write_bytes(b"x" * 1234)
    out = tmp_path / "support.tar.gz"
    done = doctor(config, out, environment)
    assert done.returncode == 1, done.stderr
    texts = unpacked(out, tmp_path / "unpacked")
    assert set(texts) == {
        "about.json", "findings.json", "facts.json", "config.json", "config.toml", "status.json",
        "journal.txt", "packages.txt", "disk.txt", "meminfo.txt", "state_files.txt", "motor.json",
    }  # fmt: skip
    for text in texts.values():
        assert not re.search(r"\bfritz\b", text)
        for secret in set(SECRETS.values()) - {"fritz"}:
            assert secret not in text
            assert json.dumps(secret)[1:-1] not in text
            assert quote(secret, safe="") not in text
    assert "expressed in fritzes, streaming" in texts["journal.txt"]
    assert "mqtts://***@broker.example/x failed" in texts["journal.txt"]
    assert "-P *** -v)" in texts["journal.txt"]
    assert "password: ***, token=***" in texts["journal.txt"]
    assert texts["journal.txt"].count("2026-11-22") == 9
    assert "no service runs there" in json.loads(texts["status.json"])["problem"]
    assert f'password_file = "{tmp_path / "password"}"' in texts["config.toml"]
    assert json.loads(texts["config.json"])["mqtt"]["username"] == "***"
    assert json.loads(texts["findings.json"])
    assert re.search(r" 1234 \S+ outbox.sqlite", texts["state_files.txt"])
    assert "numpy==" in texts["packages.txt"]
    assert "MemAvailable" in texts["meminfo.txt"]
    assert json.loads(texts["motor.json"])["name"] == "vibration"
    about = json.loads(texts["about.json"])
    assert about["version"]
    assert about["secrets_not_read"] == []


def test_the_support_file_may_be_json(tmp_path: Path) -> None:
    config, environment = with_secrets(tmp_path, 1)
    out = tmp_path / "support.json"
    assert doctor(config, out, environment).returncode == 1
    text = out.read_text()
    content = json.loads(text)
    assert content["config"]["boards"]["press"]["port"] == str(tmp_path / "b.tty")
    assert content["config"]["mqtt"]["password_file"] == str(tmp_path / "password")
    assert content["facts"]["ports"]["press"]["refusal"]
    assert {finding["about"] for finding in content["findings"]} >= {"board press", "broker"}
    assert content["version"]
    assert "fritz" not in text


def test_where_no_support_file_can_be_written_is_known_before_boards_are_asked(
    tmp_path: Path,
) -> None:
    config, environment = with_secrets(tmp_path, 1)
    there = tmp_path / "there.zip"
    there.write_bytes(b"precious")
    done = doctor(config, there, environment)
    assert (done.returncode, done.stdout) == (74, "")
    assert "is there already" in done.stderr
    assert "asking" not in done.stderr
    assert there.read_bytes() == b"precious"
    with pytest.raises(FileNotFoundError, match="no such folder"):
        look_first(tmp_path / "no" / "x.zip")


def test_a_support_archive_has_its_bounds_and_says_what_it_left_out(tmp_path: Path) -> None:
    config, environment = with_secrets(tmp_path, 1)
    endless = "#!/bin/sh\nyes 'edge-agent: password=hunter2hunter2' | head -c 9000000\necho last\n"
    (tmp_path / "bin" / "journalctl").write_text(endless)
    out = tmp_path / "support.zip"
    doctor(config, out, environment)
    texts = unpacked(out, tmp_path / "unpacked")
    assert sum(map(len, texts.values())) <= 5_000_000
    assert texts["journal.txt"].endswith("last\n")
    assert "hunter2" not in texts["journal.txt"]
    assert re.search(r"journal.txt: its first \d+ characters", texts["left_out.txt"])


def test_a_secret_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    config = load_config(configure(tmp_path, 1, f'username = "x"\npassword_file = "{tmp_path}"\n'))
    (unread,) = mask_of(config).unread
    assert unread == f"{tmp_path}: Is a directory"


QUOTED = [
    "MQTT_PASSWORD={}", "Environment=OTOLITH__MQTT__PASSWORD={}", 'mqtt_password: "{}"',
    r'"{{\"password\": \"{}\", \"n\": 1}}"', "client_secret={}", "accessToken: {}", "pwd={}",
    "password '{}'", "private_key={}", "Authorization: Bearer {}", "admin:{}@broker.example:1883",
    "topic otolith/admin:{}@site/x", "//admin:{}@host/x", "curl -u admin:{} http://x",
    "mosquitto_pub -P{} -t x", "sshpass -p {} ssh x", "mqtt://admin:x/{}@b/x",
]  # fmt: skip


@pytest.mark.parametrize("line", QUOTED)
def test_somebody_elses_secret_goes_by_its_looks(line: str) -> None:
    assert "hunter2hunter2" not in Mask([]).text(line.format("hunter2hunter2"))


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-22T17:00:00+0000 gw e[9]: user@1000.service: started", "secrets_not_read: []",
        'password_file = "/etc/otolith/mqtt-password"', "journalctl -u edge-agent: no entries",
        "board press: b@d", "otolith/press-hall-1/press-motor/event",
    ],
)  # fmt: skip
def test_what_is_no_secret_stays(line: str) -> None:
    assert "***" not in Mask([]).text(line)


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("after", range(4))
def test_a_secret_is_not_in_the_base64_or_hex_of_more(before: int, after: int) -> None:
    secret = "Zebra-77~quux?!"
    text = b"x" * before + secret.encode() + b"y" * after
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        masked = Mask([secret]).text(encode(text).decode())
        # What is left are letters with bits of the neighbours.
        assert MASK in masked
        assert len(masked.replace(MASK, "")) <= 12
    for digits in (text.hex(), text.hex().upper(), text.hex(" "), text.hex(":").upper()):
        assert MASK in Mask([secret]).text(digits)


def test_the_password_of_a_service_that_does_not_run_is_known(tmp_path: Path) -> None:
    """systemd's credentials are there while it runs; what they are made of lies here."""
    (tmp_path / "mqtt-password").write_text("planted-sesame\n")
    (tmp_path / "gateway.key").write_text(f"-----BEGIN PRIVATE KEY-----\n{SECRETS['key']}\nab==\n")
    (tmp_path / "notes").write_text("broker of hall 1\n")
    (tmp_path / "pid").write_text("7\n")
    (tmp_path / "agent.toml").write_text('[gateway]\nid = "hall-with-a-long-name"\n')
    for file in tmp_path.iterdir():
        file.chmod(0o644 if file.name == "notes" else 0o600)
    mask = mask_of(None, tmp_path)
    assert mask.text(f"x planted-sesame {SECRETS['key']}") == "x *** ***"
    kept = 'broker of hall 1, 7 of 7, id = "hall-with-a-long-name"'
    assert mask.text(kept) == kept


TEXT = st.characters(exclude_categories=["Cs"], exclude_characters=MASK)


@given(st.text(TEXT, min_size=4, max_size=40), st.text(TEXT), st.text(TEXT))
def test_a_secret_is_nowhere_whatever_it_is_and_wherever_it_stands(
    secret: str, before: str, after: str
) -> None:
    mask = Mask([secret])
    for form in (secret, json.dumps(secret)[1:-1], quote(secret, safe="")):
        assert form not in mask.text(f"{before}{form}{after}")
        shown = mask.value({"k": [form, {before + form: None}]})
        assert form not in shown["k"][0]
        assert form not in next(iter(shown["k"][1]))


def test_what_looks_like_a_secret_does_not_spoil_json() -> None:
    value = {"why": "token=abc", "url": "mqtt://a:b@c", "then": 'password="x y"', "n": [1, None]}
    shown = {"why": "token=***", "url": "mqtt://***@c", "then": "password=***", "n": [1, None]}
    assert Mask([]).value(Mask([]).value(value)) == shown


def test_a_short_secret_takes_no_part_of_a_word() -> None:
    mask = Mask(["ab"], ["press"])
    assert mask.text("ab about ab-ab press expressed") == "*** about ***-*** *** expressed"
