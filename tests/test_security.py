"""What attackers would try: hostile bundles and commands, a stolen name, secrets, open doors.

TLS is in test_tls.py, rights at the broker in test_acl.py, commands by field in test_remote.py.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.alarms.remote import Command, Remote, Reply
from edge_agent.broker.retry import MAX_WAIT_SECONDS, TAKEN_OVER_WAIT_SECONDS, Retry
from edge_agent.broker.session import Identity, Session
from edge_agent.bundles.bundle import (
    MANIFEST_NAME,
    MODEL_NAME,
    SIGNATURE_NAME,
    BundleError,
    read_bundle,
)
from edge_agent.bundles.signature import new_key, sign
from edge_agent.config import ConfigError, MqttSettings, load_config, uses_tls
from firmware_bridge.schema import SchemaError, parse_schema
from firmware_bridge.signals import ACCEL, board_document
from tests import programs
from tests.certificates import Authority, listener
from tests.conftest import ROOT, Mosquitto
from tests.publishers import Agent, client

MEMORY_BYTES = 200 << 20
HUGE = (1 << 32) - 2


def members() -> dict[str, bytes]:
    with zipfile.ZipFile(programs.COMPASS) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(more: list[tuple[zipfile.ZipInfo | str, bytes]], **changed: bytes) -> bytes:
    """The compass bundle with more members behind its own, `bundle` and `model` replaced."""
    file, content = io.BytesIO(), members()
    content[MANIFEST_NAME] = changed.get("bundle", content[MANIFEST_NAME])
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
        for info, data in more:
            archive.writestr(info, data)
    return file.getvalue()


def symlink() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link.tflite")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def twice() -> bytes:
    """Another model of the same name behind the first: which one would be verified?"""
    return packed([("model.tflitX", b"x")]).replace(b"model.tflitX", MODEL_NAME.encode())


def central(content: bytes, name: bytes, at: int, value: int) -> bytes:
    """A 32-bit field of a member's entry in the list at the end set to something else."""
    changed = bytearray(content)
    entry = changed.rindex(name) - 46
    assert changed[entry : entry + 4] == b"PK\1\2"
    struct.pack_into("<I", changed, entry + at, value)
    return bytes(changed)


def many_members(count: int) -> bytes:
    """A zip whose list is all there is to it."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, *[0] * 4, 0, 0, 0, 1, *[0] * 4, 0, 0)
    listed = (entry + b"x") * count
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, len(listed), 0, 0)
    return listed + end


def zip64(count: int) -> bytes:
    """The same, the true size of the list where only zip64 looks."""
    whole = many_members(count)
    listed, end = whole[:-22], bytearray(whole[-22:])
    struct.pack_into("<I", end, 12, 100)
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(listed), 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, len(listed), 1)
    return listed + record + locator + bytes(end)


def number(digits: int) -> bytes:
    text = members()[MANIFEST_NAME].decode()
    return text.replace('"serial":1,', f'"serial":{"9" * digits},', 1).encode()


def long_name() -> bytes:
    """The length of the name before the first member says that the member is a part of it."""
    whole = bytearray(packed([]))
    whole[26:28] = (60_000).to_bytes(2, "little")
    return bytes(whole)


HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "declared size a lie, small": (
        lambda: central(packed([]), MODEL_NAME.encode(), 24, 10), "model.tflite has two sizes"
    ),
    "declared size a lie, 4 GB": (
        lambda: central(packed([]), MODEL_NAME.encode(), 24, HUGE), "over 16777216 bytes"
    ),
    "both sizes a lie": (
        lambda: central(
            central(packed([]), MODEL_NAME.encode(), 24, 16 << 20),
            MODEL_NAME.encode(), 20, 16 << 20,
        ),
        "is no bundle or is damaged",
    ),
    "compression of the future": (
        lambda: central(packed([]), MODEL_NAME.encode(), 8, 99 << 16), "is compressed or over"
    ),
    "begins beyond the end": (
        lambda: central(packed([]), MODEL_NAME.encode(), 42, HUGE), "is no bundle or is damaged"
    ),
    "up and away": (lambda: packed([("../../etc/cron.d/x", b"x")]), "unexpected member"),
    "absolute": (lambda: packed([("/etc/passwd", b"x")]), "unexpected member ['/etc/passwd']"),
    "backslashes": (lambda: packed([("..\\..\\x", b"x")]), "unexpected member"),
    "the same one twice": (lambda: twice(), "unexpected member"),
    "a name without end": (lambda: packed([("x" * 7000, b"x")]), "unexpected member ['xxx"),
    "a symbolic link": (lambda: packed([(symlink(), b"/etc/shadow")]), "unexpected member"),
    "a name with a NUL": (
        lambda: packed([]).replace(b"model.tflite", b"model.tfl\0te"), "unexpected member"
    ),
    "a name that moves the cursor": (lambda: packed([("\x1b[2Jx", b"x")]), "unexpected member"),
    "a million members": (lambda: many_members(1_000_000), "a list of members of 47000000 bytes"),
    "a million members, hidden": (lambda: zip64(1_000_000), "its end is missing"),
    "a name of 60,000 letters in front of a member": (long_name, "is no bundle or is damaged"),
    "something behind the end": (lambda: packed([]) + b"#!/bin/sh\n", "its end is missing"),
    "no end": (lambda: packed([])[:-30], "its end is missing"),
    "half": (lambda: packed([])[:50_000], "its end is missing"),
    "nothing": (lambda: b"", "its end is missing"),
    "brackets": (lambda: packed([], bundle=b"[" * 1_000_000), "recursion limit"),
    "brackets in brackets": (
        lambda: packed([], bundle=b'{"a":' * 150_000), "recursion limit"
    ),
    "a number of a million digits": (lambda: packed([], bundle=number(1_000_000)), "bundle.json"),
    "a number of 20 digits": (lambda: packed([], bundle=number(20)), "bundle.json: serial: "),
    "a list of a third of a million": (
        lambda: packed([], bundle=b"[" + b"0," * 500_000 + b"0]"), "bundle.json"
    ),
    "a key of a million letters": (
        lambda: packed([], bundle=b'{"' + b"\\n\\u001b" * 120_000 + b'":1}'), "bundle.json"
    ),
}  # fmt: skip

READ_ALL = """
import resource, sys, time
from pathlib import Path
from edge_agent.bundles.bundle import BundleError, read_bundle
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[2:]:
    began = time.monotonic()
    try:
        read_bundle(Path(path))
        told = "accepted"
    except BundleError as error:
        told = str(error)
    print(f"{time.monotonic() - began:.3f} {told}")
"""


def test_hostile_bundles_are_one_line_each_and_no_memory(tmp_path: Path) -> None:
    """All of them in one process that may take 200 MB more than it begins with, and each soon."""
    files = []
    for place, (make, _) in enumerate(HOSTILE.values()):
        files.append(tmp_path / f"{place}.otolith")
        files[-1].write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", READ_ALL, str(MEMORY_BYTES), *map(str, files)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(HOSTILE), done.stdout
    for (case, (_, told)), file, line in zip(HOSTILE.items(), files, lines, strict=True):
        seconds, _, text = line.partition(" ")
        assert text.startswith(file.name), case
        assert told in text, case
        assert len(text) < 1000, case
        assert text.isprintable(), case
        assert float(seconds) < 10.0, case


def test_a_manifest_moves_no_cursor(tmp_path: Path) -> None:
    manifest = json.loads(members()[MANIFEST_NAME])
    path = tmp_path / "x.otolith"
    for change in (
        {"sensor": {**manifest["sensor"], "unit": "g\x1b[2J"}},
        {"sensor": {**manifest["sensor"], "channels": ["x\n<3>forged", "y", "z"]}},
        {"created": "2026\x9b31m"}, {"name": "x\r"},
    ):  # fmt: skip
        path.write_bytes(packed([], bundle=json.dumps({**manifest, **change}).encode()))
        with pytest.raises(BundleError, match="String should match pattern") as refusal:
            read_bundle(path)
        assert str(refusal.value).isprintable()


FORGERIES = ("\x1b[2J", "1.0\n<0>forged", "\x9b31m", "\u202egnp.exe", "\u2028", "\ud800", "")


@pytest.mark.parametrize("key", ["fw", "board", "uid", "name", "sensor", "unit", "ch"])
def test_a_board_forges_no_line_of_the_journal(key: str) -> None:
    document = json.loads(board_document("b", (ACCEL,)))
    table = document if key in document else document["streams"][0]
    good = table[key]
    for text in FORGERIES:
        table[key] = [text, *good[1:]] if isinstance(good, list) else text
        with pytest.raises(SchemaError, match="printable") as refusal:
            parse_schema(json.dumps(document).encode())
        assert str(refusal.value).isprintable()


def test_a_key_of_the_configuration_forges_no_line(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('"\\u001b[2J\\n/etc/x.toml:9: mqtt.host: ok" = 1\n')
    with pytest.raises(ConfigError) as refusal:
        load_config(file, {})
    lines = str(refusal.value).splitlines()
    assert len(lines) == len(refusal.value.problems)
    assert all(line.isprintable() for line in lines)


def test_a_key_that_is_none_is_an_error_of_the_configuration(guarded: Path) -> None:
    text, public = guarded.read_text(), new_key()[1]
    for key in ("c2hvcnQ=", "ssh-ed25519 AAAA", public[:-2], public + "\\n" + public):
        guarded.write_text(f'trusted_keys = ["{public}", "{key}"]\n{text}')
        problem, _ = programs.run("edge_agent", "check-config", guarded, "--json", code=78)
        assert problem["line"] == 1
        assert "must be the 44 characters of a signing.pub" in problem["problem"]
    guarded.write_text(f'trusted_keys = ["{public}"]\n{text}')
    programs.run("edge_agent", "check-config", guarded, "--json")


def test_a_pipe_or_a_device_is_no_bundle(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(BundleError, match=r"is no file: expected NAME\.otolith"):
            read_bundle(path)


def test_no_byte_of_a_signed_bundle_can_be_changed(tmp_path: Path) -> None:
    """Every 97th one is: the bundle is refused, or what is read is what was signed."""
    private, public = new_key()
    content = members()
    whole = bytearray(packed([(SIGNATURE_NAME, sign(private, content[MANIFEST_NAME]))]))
    path, refused = tmp_path / "x.otolith", 0
    path.write_bytes(whole)
    good = read_bundle(path, (public,))
    assert good.signed
    positions = range(0, len(whole), 97)
    for at in positions:
        tampered = bytearray(whole)
        tampered[at] ^= 0x41
        path.write_bytes(tampered)
        try:
            read = read_bundle(path, (public,))
        except BundleError:
            refused += 1
            continue
        # The zip's own bookkeeping (dates, rights) is nobody's business.
        assert (read.manifest, read.files) == (good.manifest, good.files), at
    assert refused > 0.99 * len(positions)


# name, payload, what the answer says
COMMANDS: list[tuple[bytes, str]] = [
    (b"[" * 4000, "saw no JSON (recursion limit"),
    (b"[" * 10_000, "saw 10000 bytes; a command has at most 4096"),
    (b'{"asset": "\xff\xfe"}', "saw no JSON (invalid unicode"),
    (b'{"asset": "pump", "asset": "fan"}', "saw the key 'asset' twice"),
    (b'{"asset": NaN}', "saw no JSON"),
    (b'{"asset": 1e400}', "asset: saw inf"),
    (b'{"asset": ' + b"9" * 4000 + b"}", "asset: saw 999"),
    (b'{"__proto__": {}, "asset": "pump"}', "unknown key '__proto__'"),
]
TOO_LARGE = (b"[" * 100_000, b'{"id": "' + b"x" * 1_000_000)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_hostile_commands_through_a_real_broker(
    tmp_path: Path, mosquitto: Mosquitto, protocol: str
) -> None:
    """Each is answered with a refusal, or (over MQTT 5) kept back by the broker; nothing else."""
    remote = Remote("gw")
    settings = MqttSettings.model_validate({"port": mosquitto.port, "protocol": protocol})
    agent = Agent(tmp_path / "state", settings, remote.topics)
    agent.until(lambda: agent.publisher.connected)
    large = [(payload, "bytes; a command has at most 4096") for payload in TOO_LARGE]
    expected = [*COMMANDS, *(large if protocol == "3.1.1" else [])]
    with client(mosquitto.port) as attacker:
        for payload, _ in [*large, *COMMANDS]:
            attacker.publish("gw/cmd/ack", payload)
        attacker.publish("gw/cmd/ack", b'{"asset": "pump"}')
        agent.until(lambda: len(agent.incoming) == len(expected) + 1)
    *refused, last = (remote.take(incoming, 0.0) for incoming in agent.incoming)
    told = []
    for reply in refused:
        assert isinstance(reply, Reply)
        assert len(reply.message.payload) < 8192
        told.append(json.loads(reply.message.payload)["error"])
    for _, words in expected:
        assert any(words in text for text in told), (words, told)
    assert isinstance(last, Command)
    assert agent.publisher.connections == 1
    agent.close()


def test_two_with_one_name_do_not_throw_each_other_out_for_ever(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """Over 3.1.1 the broker gives no reason; each time the wait is twice as long."""
    settings = MqttSettings(port=mosquitto.port, protocol="3.1.1")
    one, two = Agent(tmp_path / "1", settings), Agent(tmp_path / "2", settings)
    agents = (one, two)
    deadline_s = time.monotonic() + 60
    while max(agent.publisher._retry._wait_seconds for agent in agents) < 8.0:
        assert time.monotonic() < deadline_s
        for agent in agents:
            agent.step()
    log = one.log.getvalue() + two.log.getvalue()
    assert "is agent the client id of another gateway, too?" in log
    assert len(log.splitlines()) < 12
    for agent in agents:
        agent.close()


def test_a_name_that_is_taken_again_and_again_is_fought_for_ever_more_slowly() -> None:
    """With MQTT 5 the broker says why; a line that lasted long is no reason to hurry."""
    retry, now_s, waits = Retry(MqttSettings(protocol="5")), 0.0, []
    for _ in range(5):
        session = Session(MqttSettings(), Identity("x"), "5", lambda _fd: None)
        session.accepted = session.answered = session.taken_over = True
        session.since_s = now_s
        retry.succeeded(session)
        assert not retry.failed(session, now_s + 30.0)
        waits.append(retry.due_s - now_s - 30.0)
        now_s = retry.due_s
    assert waits[0] >= 0.8 * TAKEN_OVER_WAIT_SECONDS
    assert waits[-1] >= 0.8 * MAX_WAIT_SECONDS


SECRETS = ("planted-right-sesame", "planted-wrong-sesame")


@pytest.fixture
def guarded(tmp_path: Path, mosquitto_with: Callable[[str], Mosquitto]) -> Path:
    """The configuration of a gateway with TLS, a client key, a password that is in `secret`, and
    the rights of the example."""
    ours, users, rights = Authority(tmp_path / "tls"), tmp_path / "users", tmp_path / "acl"
    users.touch(mode=0o600)
    for user, password in (("press-hall-1", SECRETS[0]), ("homeassistant", "homeassistant")):
        subprocess.run(["mosquitto_passwd", "-b", users, user, password], check=True)
    rights.write_text((ROOT / "systemd" / "examples" / "mosquitto.acl").read_text())
    rights.chmod(0o600)
    broker = mosquitto_with(
        listener(ours.issue("broker"), ours.ca,
                 f"allow_anonymous false\npassword_file {users}\nacl_file {rights}\n")
    )  # fmt: skip
    mine = ours.issue("gateway")
    (tmp_path / "secret").write_text(SECRETS[1])
    (tmp_path / "secret").chmod(0o600)
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[gateway]\nid = "press-hall-1"\n[mqtt]\nport = {broker.port}\nca_file = "{ours.ca}"\n'
        f'certificate_file = "{mine.certificate}"\nkey_file = "{mine.key}"\n'
        'username = "press-hall-1"\npassword_file = "secret"\n[health]\ninterval_seconds = 1\n'
        "[home_assistant]\ndiscovery = true\n"
        '[storage]\nstate_dir = "state"\n[boards.b]\nport = "b.tty"\n[assets.pump]\n'
        f'board = "b"\nstream = "accel"\nbundle = "{programs.VIBRATION}"\n'
    )
    return config


def subscriber(config: Path, out: Path, port: int) -> subprocess.Popen[bytes]:
    """Debian's own client, writing down all that it is told."""
    tls = config.parent / "tls"
    with out.open("wb") as file:
        return subprocess.Popen(
            ["mosquitto_sub", "-h", "127.0.0.1", "-p", str(port), "--cafile", tls / "ca.pem",
             "--cert", tls / "gateway.pem", "--key", tls / "gateway.key", "-u",
             "homeassistant", "-P", "homeassistant", "-t", "#", "-v"],
            stdout=file,
        )  # fmt: skip


def until(wanted: Callable[[], object], seconds: float = 40.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def inet_sockets(pid: int) -> set[str]:
    """Those of a process that somebody could connect or send to: TCP that listens, any UDP."""
    fds = Path(f"/proc/{pid}/fd")
    mine = {os.readlink(fd) for fd in fds.iterdir() if fd.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6", "raw", "raw6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            listens = fields[3] == "0A" or not table.startswith("tcp")
            if listens and f"socket:[{fields[9]}]" in mine:
                found.add(f"{table} {fields[1]}")
    return found


@pytest.mark.timeout(180)
def test_a_whole_run_shows_no_secret_and_listens_nowhere(tmp_path: Path, guarded: Path) -> None:
    port = int(guarded.read_text().partition("port = ")[2].partition("\n")[0])
    log, messages, told = guarded.with_suffix(".log"), tmp_path / "messages", tmp_path / "told"
    watcher, heard = subscriber(guarded, messages, port), messages.read_bytes
    with programs.board(tmp_path / "b.tty", "--seed", 7), programs.agent(guarded) as child:
        until(lambda: "refuses the connection" in log.read_text())
        (tmp_path / "secret").write_text(SECRETS[0])
        until(lambda: b"otolith/press-hall-1/pump/score" in heard())
        until(lambda: b"otolith/press-hall-1/health" in heard())
        until(lambda: b"homeassistant/device/otolith_press-hall-1_pump/config" in heard())
        assert inet_sockets(child.pid) == set()
        process = Path(f"/proc/{child.pid}")
        told.write_bytes((process / "environ").read_bytes() + (process / "cmdline").read_bytes())
        for command in (
            ["check-config", guarded, "--show"],
            ["check-config", guarded, "--show", "--json"],
            ["doctor", "--config", guarded, "--seconds", "0.2", "--out", tmp_path / "support.json"],
            ["bundle", "list", "--config", guarded, "--json"],
        ):
            done = subprocess.run(
                [sys.executable, "-m", "edge_agent", *map(str, command)],
                cwd=ROOT, capture_output=True, check=False,
            )  # fmt: skip
            with told.open("ab") as file:
                file.write(done.stdout + done.stderr)
    watcher.terminate()
    watcher.wait()
    # The example's rights are all that a gateway needs.
    assert b'"broker_refused":0' in heard()
    assert b'"broker_refused":1' not in heard()
    assert "refuses the subscription" not in log.read_text()
    key = (tmp_path / "tls" / "gateway.key").read_text().splitlines()[1]
    state = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert len(state) > 1
    for path in (log, messages, told, tmp_path / "support.json", *state):
        content = path.read_bytes()
        assert content or path in state, path
        for secret in (*SECRETS, key):
            assert secret.encode() not in content, (path, secret)


def test_the_configuration_in_the_document_is_one(tmp_path: Path) -> None:
    text = (ROOT / "SECURITY.md").read_text()
    (block,) = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    file = tmp_path / "agent.toml"
    file.write_text(
        block + '[gateway]\nid = "t"\n[boards.b]\nport = "b.tty"\n[assets.pump]\nboard = "b"\n'
        'stream = "accel"\nbundle = "x.otolith"\n'
    )
    mqtt = load_config(file).mqtt
    assert uses_tls(mqtt)
    assert (mqtt.insecure, mqtt.port) == (False, 8883)


def test_every_test_that_the_document_names_is_there() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", (ROOT / "SECURITY.md").read_text()))
    assert len(named) > 8
    assert [name for name in named if not (ROOT / "tests" / name).is_file()] == []


def test_the_look_for_open_doors_finds_one(mosquitto: Mosquitto) -> None:
    assert mosquitto._process
    assert inet_sockets(mosquitto._process.pid) == {f"tcp 0100007F:{mosquitto.port:04X}"}
