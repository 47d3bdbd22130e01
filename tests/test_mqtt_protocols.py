"""MQTT 5 where the broker speaks it, else 3.1.1: against Mosquitto, amqtt, and brokers met in the
field; and what 5 adds: labels, reasons, the broker's own limits, commands."""

from __future__ import annotations

import json
import random
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from edge_agent.broker.incoming import Incoming
from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.session import MAX_RECEIVED, SESSION_TAKEN_OVER, Identity, Session
from edge_agent.broker.store import Note
from edge_agent.broker.trial import try_broker
from edge_agent.config import MqttSettings
from edge_agent.demo.broker import EmbeddedBroker
from tests.conftest import Mosquitto
from tests.publishers import Agent, client, rights_of
from tests.scripted_broker import ACCEPTED, REFUSED_NEW, REFUSED_OLD, ScriptedBroker

Protocol = Literal["5", "3.1.1"]
HOUR = 3600.0


@pytest.fixture
def no_second_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits before the next try waits longer than the test."""
    monkeypatch.setattr("edge_agent.broker.retry.FIRST_WAIT_SECONDS", HOUR)


def test_mosquitto_is_spoken_to_in_5_and_told_what_it_carries(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    agent = Agent(tmp_path, MqttSettings(port=mosquitto.port))
    with client(mosquitto.port, topic="gw/#") as subscriber:
        agent.until(lambda: agent.publisher.connected)
        agent.publisher.tell(Message("gw/score", b"{}", qos=0, expiry_seconds=60))
        agent.publisher.tell(Message("gw/picture", b"\x89PNG", content_type="image/png"))
        agent.until(lambda: len(subscriber.heard) == 4)
        state, _online, score, picture = (message.properties for message in subscriber.heard)
        assert (state.ContentType, state.PayloadFormatIndicator) == ("application/json", 1)
        assert not hasattr(state, "MessageExpiryInterval")
        assert 50 <= score.MessageExpiryInterval <= 60
        assert picture.ContentType == "image/png"
        assert not hasattr(picture, "PayloadFormatIndicator")
        # The socket dies without a DISCONNECT, as with a kill -9.
        assert agent.publisher._session
        sock = agent.publisher._session._client.socket()
        assert isinstance(sock, socket.socket)
        sock.shutdown(socket.SHUT_RDWR)
        agent.until(lambda: subscriber.heard[-1].payload == b"offline")
        assert subscriber.heard[-1].properties.ContentType == "text/plain"
    assert "MQTT 5" in agent.log.getvalue()
    agent.close()


@pytest.mark.usefixtures("no_second_wait")
def test_amqtt_knows_only_3_1_1_and_gets_it_without_a_wait(tmp_path: Path) -> None:
    with EmbeddedBroker() as broker:
        agent = Agent(tmp_path, MqttSettings(port=broker.port), base="otolith/gw")
        agent.offer(1)
        heard: list[str] = []
        agent.until(lambda: agent.publisher.idle() and agent.publisher.connected)
        while "otolith/gw/event" not in heard:
            heard.append(broker.received.get(timeout=20).topic)
        assert agent.publisher.protocol == "3.1.1"
        assert agent.publisher.connections == 1
        lines = agent.log.getvalue().splitlines()
        assert len(lines) == 1
        assert lines[0].endswith("MQTT 3.1.1")
        agent.close()


@pytest.mark.parametrize("refusal", [REFUSED_OLD, REFUSED_NEW, b"\x20\x02\x00\x05", None])
def test_a_broker_that_does_not_take_5_is_remembered(
    tmp_path: Path, refusal: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.broker.retry.FIRST_WAIT_SECONDS", 0.1)
    with ScriptedBroker(lambda level: refusal if level == 5 else ACCEPTED[4]) as broker:
        agent = Agent(tmp_path, MqttSettings(port=broker.port))
        agent.until(lambda: agent.publisher.connected)
        assert broker.levels == [5, 4]
        assert "alerts are kept" not in agent.log.getvalue()
        broker.drop()
        agent.until(lambda: agent.publisher.connections == 2)
        assert broker.levels == [5, 4, 4]
        assert try_broker(MqttSettings(port=broker.port), "trial") is None
        agent.close()


def test_a_broker_that_takes_neither_is_tried_with_both_again_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.broker.retry.FIRST_WAIT_SECONDS", 0.05)
    with ScriptedBroker(lambda _level: None) as broker:
        agent = Agent(tmp_path, MqttSettings(port=broker.port))
        agent.until(lambda: len(broker.levels) >= 6)
        assert broker.levels[:6] == [5, 4, 5, 4, 5, 4]
        assert agent.log.getvalue().count("closed before it answered") == 1
        assert "closed before it answered" in str(try_broker(MqttSettings(port=broker.port), "t"))
        agent.close()


@pytest.mark.parametrize(("protocol", "level"), [("5", 5), ("3.1.1", 4)])
def test_a_chosen_protocol_is_the_only_one(
    tmp_path: Path, protocol: Protocol, level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.broker.retry.FIRST_WAIT_SECONDS", 0.05)
    with ScriptedBroker(lambda _level: REFUSED_OLD) as broker:
        settings = MqttSettings(port=broker.port, protocol=protocol)
        agent = Agent(tmp_path, settings)
        agent.until(lambda: len(broker.levels) >= 3)
        assert set(broker.levels) == {level}
        assert try_broker(settings, "trial")
        agent.close()


@pytest.mark.usefixtures("no_second_wait")
def test_a_connection_that_is_refused_is_no_reason_for_another_protocol(
    tmp_path: Path, mosquitto_with: Callable[[str], Mosquitto]
) -> None:
    mosquitto = mosquitto_with("allow_anonymous false\n")
    agent = Agent(tmp_path, MqttSettings(port=mosquitto.port))
    agent.until(lambda: "refuses the connection: Not authorized" in agent.log.getvalue())
    assert agent.publisher.protocol == "5"
    agent.close()


def test_another_client_with_our_id_is_named(tmp_path: Path, mosquitto: Mosquitto) -> None:
    first = Agent(tmp_path / "a", MqttSettings(port=mosquitto.port))
    second = Agent(tmp_path / "b", MqttSettings(port=mosquitto.port))
    first.until(lambda: first.publisher.connected)
    second.until(lambda: second.publisher.connected)
    said = "is agent the client id of another gateway, too?"

    def named() -> bool:
        second.step()
        return said in first.log.getvalue() + second.log.getvalue()

    first.until(named)
    first.close()
    second.close()


def test_a_broker_that_gives_its_reason_is_quoted_and_not_fought(tmp_path: Path) -> None:
    why = b"see you"
    properties = bytes([3 + len(why), 0x1F, 0, len(why)]) + why
    taken_over = bytes([0xE0, 1 + len(properties), SESSION_TAKEN_OVER]) + properties
    with ScriptedBroker(lambda level: ACCEPTED[level], taken_over) as broker:
        agent = Agent(tmp_path, MqttSettings(port=broker.port))
        agent.until(lambda: "alerts are kept" in agent.log.getvalue())
        told = "connection lost: Session taken over (see you): is agent the client id of another"
        assert told in agent.log.getvalue()
        assert agent.publisher._retry.due_s - time.monotonic() > 15.0
        agent.close()


def test_the_broker_s_receive_maximum_is_kept(
    tmp_path: Path, mosquitto_with: Callable[[str], Mosquitto]
) -> None:
    mosquitto = mosquitto_with("allow_anonymous true\nmax_inflight_messages 3\n")
    agent = Agent(tmp_path, MqttSettings(port=mosquitto.port))
    agent.greeting = [Message(f"gw/a{n}/state", b"fine", retain=True) for n in range(40)]
    agent.greeting.append(Message("gw/status", b"online", retain=True))
    agent.offer(*range(60))
    with client(mosquitto.port, topic="gw/#") as subscriber:
        agent.until(lambda: agent.publisher.connected)
        assert agent.publisher._session
        assert agent.publisher._session.max_in_flight == 3
        agent.until(lambda: agent.publisher.idle() and len(subscriber.heard) == 101)
        assert subscriber.topics()[40:42] == ["gw/status", "gw/event"]
        numbers = [json.loads(m.payload)["n"] for m in subscriber.heard if m.topic == "gw/event"]
        assert numbers == list(range(60))
    assert agent.publisher.connections == 1
    agent.close()


def test_a_broker_that_acknowledges_nothing_is_given_up(tmp_path: Path) -> None:
    with ScriptedBroker(lambda level: ACCEPTED[level]) as broker:
        agent = Agent(tmp_path, MqttSettings(port=broker.port))
        agent.greeting *= 600
        agent.until(lambda: "the broker acknowledges nothing" in agent.log.getvalue())
        assert not agent.publisher.connected
        agent.close()


def test_what_is_too_large_for_the_broker_is_dropped_and_said_once(
    tmp_path: Path, mosquitto_with: Callable[[str], Mosquitto]
) -> None:
    mosquitto = mosquitto_with("allow_anonymous true\nmax_packet_size 2000\n")
    agent = Agent(tmp_path, MqttSettings(port=mosquitto.port))
    agent.offer(1)
    agent.offer(2, padding=3000)
    agent.offer(3)
    with client(mosquitto.port, topic="gw/event") as subscriber:
        agent.until(lambda: agent.publisher.connected and agent.publisher.idle())
        agent.offer(4, padding=3000, note=Note("remembered", b"all the same"))
        agent.offer(5)
        agent.until(lambda: agent.publisher.idle() and len(subscriber.heard) == 3)
        assert [json.loads(m.payload)["n"] for m in subscriber.heard] == [1, 3, 5]
    assert (agent.publisher.too_large, agent.publisher.connections) == (2, 1)
    assert agent.log.getvalue().count("takes 2000 bytes at most, gw/event has more") == 1
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0
    agent.close()
    again = Outbox(tmp_path)
    assert again.notes == {"remembered": b"all the same"}
    again.close()


def test_the_limit_is_exact(tmp_path: Path, mosquitto_with: Callable[[str], Mosquitto]) -> None:
    mosquitto = mosquitto_with("allow_anonymous true\nmax_packet_size 400\n")
    agent = Agent(tmp_path, MqttSettings(port=mosquitto.port))
    agent.until(lambda: agent.publisher.connected)
    for length in range(300, 400):
        agent.publisher.tell(Message("gw/x", b"x" * length, expiry_seconds=9), b"correlation")
    with client(mosquitto.port) as bystander:
        agent.until(agent.publisher.idle)
        assert bystander.publish("gw/y") == ""
    assert agent.publisher.connections == 1
    # Type and length 3, topic 6, id 2; labels: 1, type 19, format 2, expiry 5, correlation 14.
    assert agent.publisher.too_large == len(range(400 - 52 + 1, 400))
    agent.close()


def test_what_the_broker_does_not_take_is_kept_until_it_does(
    tmp_path: Path, mosquitto_with: Callable[[str], Mosquitto], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.broker.refusals.REFUSED_SECONDS", 0.5)
    rights = rights_of(tmp_path, "topic read gw/#\ntopic write gw/status\n")
    mosquitto = mosquitto_with(f"allow_anonymous true\nuser root\nacl_file {rights}\n")
    agent = Agent(tmp_path / "state", MqttSettings(port=mosquitto.port))
    with client(mosquitto.port, topic="gw/event") as subscriber:
        agent.until(lambda: agent.publisher.connected)
        agent.offer(1, 2)
        agent.until(lambda: agent.publisher.refused >= 3)
        log = agent.log.getvalue()
        assert log.count("refuses gw/event: Not authorized; it is kept and sent again later") == 1
        assert log.count("refuses gw/state: Not authorized; it is lost") == 1
        assert agent.outbox.flush()
        assert agent.outbox.depth() == 2
        rights.write_text("topic readwrite gw/#\n")
        mosquitto.reload()
        agent.until(lambda: len(subscriber.heard) >= 2)
        assert [json.loads(m.payload)["n"] for m in subscriber.heard[:2]] == [1, 2]
        assert b'"replayed":true' in subscriber.heard[0].payload
        agent.until(agent.publisher.idle)
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0
    assert agent.publisher.connections == 1
    agent.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_commands_come_as_soon_as_we_say_that_we_are_online(
    tmp_path: Path, mosquitto: Mosquitto, protocol: Protocol, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.broker.retry.FIRST_WAIT_SECONDS", 0.1)
    settings = MqttSettings(port=mosquitto.port, protocol=protocol)
    with client(mosquitto.port, topic="gw/status") as operator:
        assert operator.publish("gw/cmd/old", b"{}", retain=True) == ""
        agent = Agent(tmp_path, settings, ("gw/cmd/+", "homeassistant/status"))
        agent.until(lambda: operator.heard)
        labels: dict[str, Any] = {"ResponseTopic": "reply/me", "CorrelationData": b"\x00\xff"}
        assert operator.publish("gw/cmd/ack", b'{"asset": "pump"}', **labels) == ""
        agent.until(lambda: len(agent.incoming) == 2)
        assert agent.incoming[0] == Incoming("gw/cmd/old", b"{}", retained=True)
        expected = Incoming("gw/cmd/ack", b'{"asset": "pump"}')
        if protocol == "5":
            expected = expected._replace(response_topic="reply/me", correlation=b"\x00\xff")
        assert agent.incoming[1] == expected
        mosquitto.restart()
        agent.until(lambda: agent.publisher.connections == 2)
    with client(mosquitto.port) as operator:
        assert operator.publish("homeassistant/status", b"online") == ""
        agent.until(lambda: agent.incoming[-1] == Incoming("homeassistant/status", b"online"))
    agent.close()


def test_more_than_a_hundred_at_once_are_dropped_and_counted(mosquitto: Mosquitto) -> None:
    session = Session(MqttSettings(port=mosquitto.port), Identity("s"), "5", lambda _fd: None)
    session.connect(20)
    session.subscribe(("gw/#",))
    with client(mosquitto.port) as sender:
        for n in range(MAX_RECEIVED + 30):
            sender.publish(f"gw/{n}", b"")
            while select.select([session.fileno()], [], [], 0.0)[0]:
                session.read()
    assert session.lost is None
    while session.received_dropped < 30 and select.select([session.fileno()], [], [], 20.0)[0]:
        session.read()
    assert [incoming.topic for incoming in session.received] == [
        f"gw/{n}" for n in range(MAX_RECEIVED)
    ]
    assert session.received_dropped == 30
    session.close()


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_refused_subscription_is_one_line(
    tmp_path: Path, mosquitto_with: Callable[[str], Mosquitto], protocol: Protocol
) -> None:
    # Its ACL files can't forbid to subscribe, this plugin of its own can.
    plugins = sorted(Path("/usr/lib").glob("**/mosquitto_dynamic_security.so"))
    if not plugins:
        pytest.skip("this Mosquitto came without mosquitto_dynamic_security.so")
    rights = tmp_path / "rights.json"
    allowed = {"publishClientSend": True, "publishClientReceive": True, "subscribe": False}
    rights.write_text(json.dumps({"defaultACLAccess": allowed, "clients": [], "roles": []}))
    more = (
        f"allow_anonymous true\nuser root\nplugin {plugins[0]}\nplugin_opt_config_file {rights}\n"
    )
    mosquitto = mosquitto_with(more)
    settings = MqttSettings(port=mosquitto.port, protocol=protocol)
    agent = Agent(tmp_path / "state", settings, ("gw/cmd/+",))
    agent.until(lambda: "refuses the subscription to gw/cmd/+" in agent.log.getvalue())
    agent.offer(1)
    agent.until(agent.publisher.idle)
    assert agent.log.getvalue().count("subscription") == 1
    assert agent.publisher.connections == 1
    agent.close()


@pytest.mark.parametrize(("protocol", "level"), [("5", 5), ("3.1.1", 4)])
def test_nonsense_from_the_broker_ends_a_connection_and_nothing_else(
    protocol: Protocol, level: int
) -> None:
    chance = random.Random(5)
    with ScriptedBroker(lambda level: ACCEPTED[level]) as broker:
        for _ in range(150):
            length = chance.randrange(1, 60)
            kind = chance.choice((0x20, 0x30, 0x32, 0x40, 0x90, 0xD0, 0xE0, chance.randrange(256)))
            broker._after = bytes([kind, length]) + chance.randbytes(length)
            settings = MqttSettings(port=broker.port)
            session = Session(settings, Identity("s"), protocol, lambda _fd: None)
            session.connect(20)
            session.subscribe(("gw/cmd/+",))
            while not (session.answered or session.lost):
                assert select.select([session.fileno()], [], [], 30.0)[0]
                session.read()
            broker.drop()
            while not session.lost and select.select([session.fileno()], [], [], 30.0)[0]:
                session.read()
            assert session.answered
            assert session.lost
            session.close()
        assert set(broker.levels) == {level}
