"""The example of who may do what: in a real Mosquitto, with a publisher and its commands."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.alarms.remote import COMMANDS, Command, Remote
from edge_agent.broker.messages import Message
from edge_agent.config import MqttSettings, load_config
from tests.conftest import ROOT, Mosquitto
from tests.publishers import Agent, client

EXAMPLE = ROOT / "systemd" / "examples" / "mosquitto.acl"
GATEWAY, OTHER = "press-hall-1", "press-hall-2"
BASE = f"otolith/{GATEWAY}"
FORBIDDEN = "Not authorized"


def rights(user: str) -> list[str]:
    """The lines of one user."""
    block = EXAMPLE.read_text().partition(f"\nuser {user}\n")[2]
    lines = block.partition("\nuser ")[0].splitlines()
    return [line for line in lines if line.startswith("topic ")]


@pytest.fixture
def guarded(tmp_path: Path, mosquitto_with: Callable[[str], Mosquitto]) -> Mosquitto:
    """A broker with the example's users and a second gateway; passwords are the users' names."""
    rules, passwords = tmp_path / "acl", tmp_path / "passwords"
    second = "\n".join([f"user {OTHER}", *rights(GATEWAY)]).replace(GATEWAY, OTHER)
    rules.write_text(f"{EXAMPLE.read_text()}\n{second}\n")
    passwords.touch()
    for user in (*re.findall(r"^user (\S+)$", EXAMPLE.read_text(), re.MULTILINE), OTHER):
        subprocess.run(["mosquitto_passwd", "-b", passwords, user, user], check=True)
    for file in (rules, passwords):
        file.chmod(0o600)
    return mosquitto_with(
        f"allow_anonymous false\nuser root\nacl_file {rules}\npassword_file {passwords}\n"
    )


def test_there_is_a_line_for_each_command_and_for_the_gateway_of_the_example() -> None:
    named = [line.rpartition("/cmd/")[2] for line in rights("operator") if "/cmd/" in line]
    assert named == list(COMMANDS)
    assert load_config(ROOT / "systemd" / "examples" / "agent.toml").base_topic == BASE
    assert f"topic write {BASE}/#" in rights(GATEWAY)


def test_operators_may_command_and_readers_may_only_read(guarded: Mosquitto) -> None:
    with (
        client(guarded.port, GATEWAY, f"{BASE}/cmd/+") as gateway,
        client(guarded.port, "reader", "otolith/#") as reader,
        client(guarded.port, "operator", "otolith/#") as operator,
    ):
        for name in COMMANDS:
            assert operator.publish(f"{BASE}/cmd/{name}", b"{}") == ""
            assert reader.publish(f"{BASE}/cmd/{name}", b"{}") == FORBIDDEN
        for sender in (reader, operator):
            for topic in (f"{BASE}/pump/event", f"{BASE}/status", f"{BASE}/cmd/reboot"):
                assert sender.publish(topic, b"{}") == FORBIDDEN
        assert gateway.publish(f"{BASE}/pump/event", b"{}") == ""
        # The same line has carried all that was allowed before.
        assert operator.publish(f"{BASE}/cmd/ack", b"last") == ""
        gateway.until(lambda: gateway.heard[-1:] and gateway.heard[-1].payload == b"last")
        assert gateway.topics() == [f"{BASE}/cmd/{name}" for name in (*COMMANDS, "ack")]
        for watcher in (reader, operator):
            watcher.until(lambda who=watcher: f"{BASE}/pump/event" in who.topics())


def test_a_gateway_speaks_of_nobody_else_and_hears_nobody_else(guarded: Mosquitto) -> None:
    with (
        client(guarded.port, GATEWAY, "otolith/#") as gateway,
        client(guarded.port, OTHER) as other,
    ):
        for topic in ("pump/event", "status", "cmd/ack", "cmd_result/ack"):
            assert gateway.publish(f"otolith/{OTHER}/{topic}") == FORBIDDEN
            assert other.publish(f"otolith/{OTHER}/{topic}") == ""
        assert gateway.publish("homeassistant/status", b"offline") == FORBIDDEN
        assert gateway.publish("homeassistant/device/otolith_x/config", b"{}") == ""
        assert gateway.publish(f"{BASE}/cmd/status", b"last") == ""
        gateway.until(lambda: gateway.heard)
        assert gateway.topics() == [f"{BASE}/cmd/status"]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_command_is_answered_where_its_sender_may_read(
    tmp_path: Path, guarded: Mosquitto, protocol: str
) -> None:
    password = tmp_path / "password"
    password.write_text(GATEWAY)
    password.chmod(0o600)
    settings = MqttSettings(
        port=guarded.port, username=GATEWAY, password_file=password,
        protocol="5" if protocol == "5" else "3.1.1",
    )  # fmt: skip
    remote = Remote(BASE)
    agent = Agent(tmp_path / "state", settings, remote.topics, BASE)
    usual, own = f"{BASE}/cmd_result/ack", "reply/operator/7"
    with (
        client(guarded.port, "operator", usual) as bystander,
        client(guarded.port, "operator", own) as operator,
    ):
        agent.until(lambda: agent.publisher.connected and agent.publisher.idle())
        labels: dict[str, Any] = {"ResponseTopic": own, "CorrelationData": b"7"}
        assert operator.publish(f"{BASE}/cmd/ack", b'{"asset": "pump"}', **labels) == ""
        assert operator.publish(f"{BASE}/cmd/ack", b'{"asset": 5, "id": "x"}') == ""
        agent.until(lambda: len(agent.incoming) == 2)
        command, refusal = (remote.take(incoming, 0.0) for incoming in agent.incoming)
        assert isinstance(command, Command)
        assert refusal is not None
        assert not isinstance(refusal, Command)
        agent.publisher.tell(*refusal)
        agent.publisher.tell(*remote.answer(command))
        answered = operator if protocol == "5" else bystander
        agent.until(lambda: bystander.heard and answered.heard[-1:] and agent.publisher.idle())
        agent.until(lambda: len(bystander.heard) + len(operator.heard) == 2)
        assert json.loads(bystander.heard[0].payload)["id"] == "x"
        assert json.loads(answered.heard[-1].payload) == {"command": "ack", "status": "ok"}
        correlation = getattr(answered.heard[-1].properties, "CorrelationData", None)
        assert correlation == (b"7" if protocol == "5" else None)
    agent.close()


def test_a_gateway_with_a_wrong_name_is_told_why_nothing_arrives(
    tmp_path: Path, guarded: Mosquitto
) -> None:
    password = tmp_path / "password"
    password.write_text(OTHER)
    password.chmod(0o600)
    settings = MqttSettings(port=guarded.port, username=OTHER, password_file=password)
    agent = Agent(tmp_path / "state", settings, base=BASE)
    agent.until(lambda: "refuses otolith/press-hall-1/status" in agent.log.getvalue())
    agent.publisher.offer(Message(f"{BASE}/pump/event", b"{}", alert=True))
    agent.until(lambda: agent.publisher.refused == 3 and agent.publisher.idle())
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 1
    agent.close()
