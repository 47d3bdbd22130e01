"""Brokers that refuse for a while, or never acknowledge: nothing comes in the wrong order or waits
for ever, and what is retained is true."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import Outbox
from edge_agent.config import MqttSettings
from tests.conftest import Mosquitto
from tests.publishers import Agent, client, rights_of
from tests.scripted_broker import ACCEPTED, ScriptedBroker


def test_a_refused_alert_comes_before_the_next_one_of_its_topic(
    tmp_path: Path, mosquitto_with: Callable[[str], Mosquitto]
) -> None:
    rights = rights_of(tmp_path, "topic read gw/#\ntopic write gw/status\n")
    mosquitto = mosquitto_with(f"allow_anonymous true\nuser root\nacl_file {rights}\n")
    agent = Agent(tmp_path / "state", MqttSettings(port=mosquitto.port))
    with client(mosquitto.port, topic="gw/#") as subscriber:
        agent.until(lambda: agent.publisher.connected)
        agent.offer(1)
        agent.until(lambda: agent.publisher.refused >= 2)
        rights.write_text("topic readwrite gw/#\n")
        mosquitto.reload()
        with client(mosquitto.port) as other:
            subscriber.until(lambda: other.publish("gw/other") == "")
        agent.offer(2)
        agent.until(lambda: subscriber.topics().count("gw/event") == 2)
        found = [json.loads(m.payload)["n"] for m in subscriber.heard if m.topic == "gw/event"]
        assert found == [1, 2]
        # What is retained and was refused is told again, too.
        agent.until(lambda: "gw/state" in subscriber.topics())
        agent.until(agent.publisher.idle)
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0
    agent.close()


def test_topics_that_are_refused_for_good_hold_up_no_others(
    tmp_path: Path, mosquitto_with: Callable[[str], Mosquitto]
) -> None:
    rights = rights_of(tmp_path, "topic read gw/#\ntopic write gw/event\n")
    mosquitto = mosquitto_with(
        f"allow_anonymous true\nuser root\nacl_file {rights}\nmax_inflight_messages 1\n"
    )
    agent = Agent(tmp_path / "state", MqttSettings(port=mosquitto.port))
    with client(mosquitto.port, topic="gw/event") as subscriber:
        agent.until(lambda: agent.publisher.connected)
        for number in range(5):
            agent.publisher.offer(Message("gw/explain", b"{}", key=f"{number}"))
            agent.offer(number)
        agent.until(lambda: len(subscriber.heard) == 5)
        assert [json.loads(m.payload)["n"] for m in subscriber.heard] == list(range(5))
        agent.until(lambda: agent.outbox.depth() == 5)
    agent.close()


def test_an_alert_that_is_never_acknowledged_is_sent_on_another_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.broker.publisher.UNANSWERED_SECONDS", 0.3)
    with ScriptedBroker(lambda level: ACCEPTED[level]) as broker:
        agent = Agent(tmp_path, MqttSettings(port=broker.port))
        agent.greeting.clear()
        agent.until(lambda: agent.publisher.connected)
        agent.offer(1)
        agent.until(lambda: len(broker.levels) == 2)
        assert "the broker acknowledges nothing" in agent.log.getvalue()
        agent.close()


def test_an_asset_that_is_back_keeps_what_is_retained_of_it(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """It was taken out while the broker was away, and put back before the broker was there."""
    outbox = Outbox(tmp_path)
    for leaf in ("state", "picture"):
        outbox.put(Message(f"gw/{leaf}", b"", retain=True))
    outbox.close()
    agent = Agent(tmp_path, MqttSettings(port=mosquitto.port))
    agent.until(lambda: agent.publisher.connected and agent.publisher.idle())
    with client(mosquitto.port, topic="gw/#") as subscriber:
        subscriber.until(lambda: "gw/status" in subscriber.topics())
        assert sorted(subscriber.topics()) == ["gw/state", "gw/status"]
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0
    agent.close()
