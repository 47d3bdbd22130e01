"""The publisher against a real Mosquitto: order, outages, refusals, and the last word."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.broker.messages import Message
from edge_agent.config import MqttSettings
from tests.conftest import Mosquitto, free_port
from tests.publishers import Agent
from tests.subscriber import Subscriber


@pytest.fixture
def subscriber(mosquitto: Mosquitto) -> Iterator[Subscriber]:
    made = Subscriber(mosquitto.port)
    yield made
    made.close()


@pytest.fixture(params=["5", "3.1.1"])
def agent(mosquitto: Mosquitto, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Agent]:
    settings = MqttSettings(port=mosquitto.port, protocol=request.param)
    made = Agent(tmp_path / "state", settings)
    yield made
    made.close()


def test_online_is_the_last_of_the_greeting(agent: Agent, subscriber: Subscriber) -> None:
    agent.until(lambda: len(subscriber.messages) == 2)
    assert [(m.topic, m.payload) for m in subscriber.messages] == [
        ("gw/state", b"fine"), ("gw/status", b"online"),
    ]  # fmt: skip


def test_an_acknowledged_message_leaves_the_outbox(agent: Agent, subscriber: Subscriber) -> None:
    agent.until(lambda: agent.publisher.connected)
    agent.offer(1, 2, 3)
    agent.until(lambda: agent.publisher.idle() and len(subscriber.numbers()) == 3)
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0
    assert b'"replayed":false' in subscriber.messages[-1].payload


def test_what_was_offered_before_the_broker_was_there_arrives_in_order(
    mosquitto: Mosquitto, agent: Agent, subscriber: Subscriber
) -> None:
    mosquitto.kill()
    subscriber.expect_restart()
    agent.offer(*range(300))
    agent.until(lambda: "alerts are kept" in agent.log.getvalue())
    assert agent.outbox.depth() == 300
    mosquitto.start()
    subscriber.again()
    agent.until(lambda: agent.publisher.idle() and len(subscriber.numbers()) == 300)
    assert subscriber.numbers() == list(range(300))
    events = [m for m in subscriber.messages if m.topic == "gw/event"]
    assert all(b'"replayed":true' in event.payload for event in events)
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0


@pytest.mark.parametrize("agent", ["auto"], indirect=True)
def test_killing_the_broker_again_and_again_loses_nothing(
    mosquitto: Mosquitto, agent: Agent, subscriber: Subscriber
) -> None:
    sent = 0
    for _ in range(4):
        agent.until(lambda: agent.publisher.connected)
        agent.offer(*range(sent, sent + 40))
        sent += 40
        subscriber.expect_restart()
        mosquitto.restart()
        agent.offer(*range(sent, sent + 5))
        sent += 5
        subscriber.again()
        agent.until(lambda: agent.publisher.connected and agent.publisher.idle(), 40)
        # A broker without persistence forgets what it acknowledged but had not yet handed on; the
        # gateway can't know of that. What was offered to a dead broker it still holds, though.
        offline = {n for n in range(sent) if n % 45 >= 40}
        subscriber.until(lambda late=offline: late <= set(subscriber.numbers()))
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0
    assert agent.publisher.connections >= 4


def test_a_broker_that_goes_away_is_noticed_and_a_new_run_sends_what_is_left(
    mosquitto: Mosquitto, tmp_path: Path, subscriber: Subscriber
) -> None:
    first = Agent(tmp_path / "s", MqttSettings(port=mosquitto.port))
    first.until(lambda: first.publisher.connected)
    subscriber.expect_restart()
    mosquitto.kill()
    first.until(lambda: not first.publisher.connected)
    first.offer(7, 8)
    first.close()
    mosquitto.start()
    subscriber.again()
    second = Agent(tmp_path / "s", MqttSettings(port=mosquitto.port))
    second.until(lambda: len(subscriber.numbers()) == 2)
    assert subscriber.numbers() == [7, 8]
    second.close()


def test_the_last_will_speaks_for_a_gateway_that_died(
    mosquitto: Mosquitto, tmp_path: Path, subscriber: Subscriber
) -> None:
    agent = Agent(tmp_path / "state", MqttSettings(port=mosquitto.port))
    agent.until(lambda: agent.publisher.connected)
    # The socket dies without a DISCONNECT, as with a kill -9.
    session = agent.publisher._session
    assert session is not None
    sock = session._client.socket()
    assert isinstance(sock, socket.socket)
    sock.shutdown(socket.SHUT_RDWR)
    agent.until(lambda: any(m.payload == b"offline" for m in subscriber.messages))
    agent.close()


def test_a_clean_end_does_not_wake_the_last_will(agent: Agent, subscriber: Subscriber) -> None:
    agent.until(lambda: agent.publisher.connected)
    agent.publisher.tell(Message("gw/status", b"stopped", retain=True))
    agent.until(lambda: agent.publisher.idle())
    agent.publisher.close()
    subscriber.until(lambda: subscriber.latest("gw/status") == "stopped")
    time.sleep(0.3)  # time for the last will, which must not come
    statuses = [m.payload for m in subscriber.messages if m.topic == "gw/status"]
    assert statuses == [b"online", b"stopped"]


def test_a_refused_connection_is_not_called_connected(tmp_path: Path, mosquitto: Mosquitto) -> None:
    folder, port = tmp_path / "closed", free_port()
    folder.mkdir()
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous false\n")
    mosquitto.kill()
    broker = subprocess.Popen([mosquitto._program, "-c", str(config)], stderr=subprocess.DEVNULL)
    agent = Agent(tmp_path / "state", MqttSettings(port=port))
    agent.until(lambda: "refuses the connection" in agent.log.getvalue())
    assert not agent.publisher.connected
    assert agent.publisher.connections == 0
    agent.close()
    broker.terminate()
    broker.wait()


def test_a_broker_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.broker.retry.GREETING_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        agent = Agent(tmp_path / "state", MqttSettings(port=mute.getsockname()[1]))
        agent.until(lambda: "does not answer" in agent.log.getvalue())
        agent.close()


def test_an_unreadable_password_is_told_and_tried_again(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    settings = MqttSettings(port=mosquitto.port, username="u", password_file=tmp_path / "password")
    agent = Agent(tmp_path / "state", settings)
    agent.until(lambda: "No such file" in agent.log.getvalue())
    (tmp_path / "password").write_text("x")
    (tmp_path / "password").chmod(0o600)
    agent.until(lambda: agent.publisher.connected)
    agent.close()


def test_scores_are_dropped_while_there_is_nobody_to_hear_them(
    agent: Agent, subscriber: Subscriber
) -> None:
    agent.publisher.tell(Message("gw/score", b"early", qos=0))
    agent.until(lambda: agent.publisher.connected)
    agent.publisher.tell(Message("gw/score", b"now", qos=0))
    agent.until(lambda: any(m.topic == "gw/score" for m in subscriber.messages))
    assert [m.payload for m in subscriber.messages if m.topic == "gw/score"] == [b"now"]


@pytest.fixture
def tls_broker(tmp_path: Path, mosquitto: Mosquitto) -> Iterator[tuple[int, Path]]:
    """Port and certificate of a broker with TLS."""
    folder, port = tmp_path / "tls", free_port()
    folder.mkdir()
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", folder / "key.pem", "-out", folder / "ca.pem", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    for file in folder.iterdir():
        file.chmod(0o644)
    for parent in (folder, *folder.parents[:3]):
        parent.chmod(0o755)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n"
        f"certfile {folder}/ca.pem\nkeyfile {folder}/key.pem\ncafile {folder}/ca.pem\n"
    )
    broker = subprocess.Popen([mosquitto._program, "-c", str(config)], stderr=subprocess.DEVNULL)
    yield port, folder / "ca.pem"
    broker.terminate()
    broker.wait()


def test_tls_with_a_certificate_of_our_own(tmp_path: Path, tls_broker: tuple[int, Path]) -> None:
    port, ca_file = tls_broker
    agent = Agent(tmp_path / "state", MqttSettings(port=port, ca_file=ca_file))
    agent.until(lambda: agent.publisher.connected)
    agent.offer(*range(120))
    agent.until(agent.publisher.idle)
    assert agent.outbox.flush()
    assert agent.outbox.depth() == 0
    agent.close()


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_certificate_of_somebody_else_is_refused(
    tmp_path: Path, tls_broker: tuple[int, Path]
) -> None:
    agent = Agent(tmp_path / "state", MqttSettings(port=tls_broker[0], tls=True))
    agent.until(lambda: "is by an unknown authority" in agent.log.getvalue())
    assert not agent.publisher.connected
    agent.close()
