"""A backlog on its way out: real Mosquitto, real SQLite, and what must not wait for it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.broker.messages import Message
from edge_agent.broker.outbox import Outbox
from edge_agent.broker.publisher import RESERVED, WINDOW
from edge_agent.config import MqttSettings
from tests.conftest import Mosquitto
from tests.publishers import Agent
from tests.subscriber import Subscriber

ROWS = 10_000


def event(asset: str, number: int) -> Message:
    """1 kB, with its number."""
    content = {"asset": asset, "n": number, "replayed": False, "padding": "x" * 900}
    payload = json.dumps(content, separators=(",", ":")).encode()
    return Message(f"gw/{asset}/event", payload, key=f"{asset}/{number}", alert=True)


def fill(folder: Path, assets: tuple[str, ...], rows: int) -> None:
    """What an outage has left."""
    outbox = Outbox(folder)
    for number in range(rows):
        outbox.put(event(assets[number % len(assets)], number))
        if number % 4000 == 3999:
            assert outbox.flush(30.0)
    outbox.close()


@pytest.fixture
def subscriber(mosquitto: Mosquitto) -> Iterator[Subscriber]:
    made = Subscriber(mosquitto.port)
    yield made
    made.close()


def arrived(subscriber: Subscriber, asset: str) -> list[int]:
    """The numbers of an asset's events, in the order in which they came."""
    topic = f"gw/{asset}/event"
    return [json.loads(m.payload)["n"] for m in list(subscriber.messages) if m.topic == topic]


@pytest.mark.alone
def test_a_backlog_goes_at_the_pace_that_was_asked_for(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    fill(tmp_path, ("a", "b", "c"), ROWS)
    agent = Agent(tmp_path, MqttSettings(port=mosquitto.port, drain_per_second=1000))
    agent.until(lambda: agent.publisher.connected)
    began_s = time.monotonic()
    agent.until(agent.publisher.idle, 60.0)
    per_second = ROWS / (time.monotonic() - began_s)
    assert 500 <= per_second <= 1100
    subscriber.until(lambda: len(subscriber.messages) >= ROWS + 2)
    for place, asset in enumerate("abc"):
        assert arrived(subscriber, asset) == list(range(place, ROWS, 3))
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0
    agent.close()


def test_new_alerts_pass_the_backlog_of_other_assets_and_no_older_one_of_their_own(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    fill(tmp_path, ("a", "b"), 1200)
    agent = Agent(tmp_path, MqttSettings(port=mosquitto.port, drain_per_second=200))
    agent.until(lambda: len(arrived(subscriber, "a")) > 10)
    agent.publisher.offer(event("new", 1))
    agent.publisher.offer(event("a", 9000))
    agent.publisher.offer(event("new", 2))
    agent.publisher.tell(Message("gw/new/state", b"alarm", retain=True))
    agent.publisher.tell(Message("gw/new/score", b"1.5", qos=0))
    agent.until(lambda: any(m.topic == "gw/new/score" for m in subscriber.messages))
    agent.until(lambda: arrived(subscriber, "new") == [1, 2])
    assert any(m.topic == "gw/new/state" for m in subscriber.messages)
    # It takes six seconds, and one has passed: the backlog is still on its way.
    assert len(arrived(subscriber, "a")) < 500
    assert agent.outbox.depth() > 200
    new = [json.loads(m.payload) for m in subscriber.messages if m.topic == "gw/new/event"]
    assert not any(told["replayed"] for told in new)
    agent.until(agent.publisher.idle, 60.0)
    subscriber.until(lambda: 9000 in arrived(subscriber, "a"))
    assert arrived(subscriber, "a") == [*range(0, 1200, 2), 9000]
    assert arrived(subscriber, "b") == [*range(1, 1200, 2)]
    assert arrived(subscriber, "new") == [1, 2]
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0
    agent.close()


def test_what_went_past_the_backlog_is_not_sent_twice_and_not_lost_with_the_broker(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    fill(tmp_path, ("a",), 300)
    agent = Agent(tmp_path, MqttSettings(port=mosquitto.port, drain_per_second=100))
    agent.until(lambda: len(arrived(subscriber, "a")) > 10)
    for number in range(20):
        agent.publisher.offer(event("new", number))
        agent.step()
    subscriber.expect_restart()
    mosquitto.kill()
    agent.until(lambda: not agent.publisher.connected)
    for number in range(20, 40):
        agent.publisher.offer(event("new", number))
    mosquitto.start()
    subscriber.again()
    agent.until(lambda: agent.publisher.connected and agent.publisher.idle(), 60.0)
    subscriber.until(lambda: set(range(20, 40)) <= set(arrived(subscriber, "new")))
    found = arrived(subscriber, "new")
    assert found == sorted(found)
    assert len(found) == len(set(found))
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0
    agent.close()


def test_the_backlog_never_has_the_whole_window(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    fill(tmp_path, ("a",), 500)
    agent = Agent(tmp_path, MqttSettings(port=mosquitto.port, drain_per_second=100_000))
    most = 0

    def look() -> bool:
        nonlocal most
        most = max(most, len(agent.publisher._in_flight))
        return agent.publisher.connected and agent.publisher.idle()

    agent.until(look)
    assert 0 < most <= WINDOW - RESERVED
    subscriber.until(lambda: len(arrived(subscriber, "a")) == 500)
    agent.close()


def test_a_long_queue_does_not_slow_down_what_is_new(
    mosquitto: Mosquitto, subscriber: Subscriber, tmp_path: Path
) -> None:
    """A reconnect in the midst of a drain: assets whose alerts were acknowledged are free."""
    fill(tmp_path, ("a",), 1000)
    agent = Agent(tmp_path, MqttSettings(port=mosquitto.port, drain_per_second=50))
    agent.until(lambda: len(arrived(subscriber, "a")) > 5)
    agent.publisher.offer(event("new", 1))
    agent.until(lambda: arrived(subscriber, "new") == [1])
    agent.until(lambda: "gw/new" not in agent.outbox.lanes())
    subscriber.expect_restart()
    mosquitto.restart()
    agent.until(lambda: not agent.publisher.connected)
    subscriber.again()
    agent.until(lambda: agent.publisher.connected)
    agent.publisher.offer(event("new", 2))
    agent.until(lambda: 2 in arrived(subscriber, "new"))
    assert agent.outbox.depth() > 500
    agent.close()
