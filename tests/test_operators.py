"""Operators at work: commands from `mosquitto_pub` to a live gateway, an episode that outlives
`kill -9`, Home Assistant, and every message of it all against its published schema."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge_agent.broker.contract import channels, documents
from edge_agent.demo.broker import EmbeddedBroker
from tests import programs
from tests.conftest import ROOT, Mosquitto
from tests.subscriber import Subscriber
from tests.test_service import BASE, PUMP, configure

pytestmark = pytest.mark.timeout(180)

SITE = """
[assets.pump.alarm]
re_alarm_seconds = 0.0
[home_assistant]
discovery = true
[health]
interval_seconds = 1
"""
SCHEMAS = ROOT / "edge_agent" / "schemas"


class Gateway:
    """A live gateway as its operators see it."""

    def __init__(self, port: int, subscriber: Subscriber) -> None:
        self._port, self._subscriber = port, subscriber
        self._id = 0

    def ask(self, name: str, retained: bool = False, **fields: object) -> dict[str, Any]:
        """Sends a command and gives the answer to it."""
        self._id += 1
        request = {"id": f"t{self._id}", **fields}
        more = ("-r",) if retained else ()
        programs.mosquitto_pub(self._port, f"{BASE}/cmd/{name}", json.dumps(request), *more)
        return self.answer(f"t{self._id}")

    def answer(self, request_id: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = []

        def arrived() -> bool:
            answers = [
                json.loads(m.payload)
                for m in self._subscriber.messages
                if "/cmd_result/" in m.topic
            ]
            found[:] = [answer for answer in answers if answer.get("id") == request_id]
            return bool(found)

        self._subscriber.until(arrived, 10)
        return found[0]

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self._subscriber.latest(f"{BASE}/pump/state") or "{}")
        return state


def until(wanted: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.05)


NEEDLE = {"needle": ("c", "mag", programs.COMPASS)}


def test_a_day_of_an_operator(tmp_path: Path, mosquitto: Mosquitto) -> None:
    config = configure(tmp_path, mosquitto.port, PUMP | NEEDLE, SITE)
    subscriber = Subscriber(mosquitto.port, "#")
    gateway = Gateway(mosquitto.port, subscriber)
    with (
        programs.board(tmp_path / "b.tty", "--seed", 7, "--fault", "bearing:4:30"),
        programs.board(tmp_path / "c.tty", "--machine", "compass", "--seed", 3),
    ):
        with programs.agent(config) as agent:
            subscriber.until(lambda: subscriber.events("begin"), 40)
            begin = subscriber.events("begin")[0]
            answers_to_an_alarm(gateway, begin)
            what_is_wrong_is_refused(gateway, begin)
            a_reload_takes_what_it_can(gateway, config, agent)
            evidence = tmp_path / "state" / "evidence"
            until(
                lambda: list(evidence.glob("capture-*.rec")) and list(evidence.glob("*pump-1.rec"))
            )
            assert gateway.state()["state"] == "acked"
            os.kill(agent.pid, signal.SIGKILL)
            agent.wait()
        with programs.agent(config):
            subscriber.until(lambda: subscriber.events("end"), 60)
            assert gateway.ask("status")["data"]["assets"]["pump"]["state"] == "ok"
    events = [e for e in subscriber.events() if e["kind"] in ("begin", "end")]
    assert [e["kind"] for e in events] == ["begin", "end"]
    assert events[1]["event_id"] == begin["event_id"]
    assert events[1]["seq"] > begin["seq"]
    evidence_is_kept(evidence, begin["event_id"])
    an_asset_that_goes_is_taken_back(tmp_path, mosquitto.port, subscriber)
    every_message_is_as_promised(subscriber)
    subscriber.close()


def answers_to_an_alarm(gateway: Gateway, begin: dict[str, Any]) -> None:
    # The state follows the event that changes it.
    until(lambda: gateway.state()["state"] == "alarm")
    assert not gateway.state()["learning"]
    told = gateway.ask("ack", episode=begin["event_id"])
    assert (told["status"], told["data"]["state"]) == ("ok", "acked")
    assert gateway.ask("snooze", asset="pump", minutes=5)["data"]["state"] == "snoozed"
    assert gateway.ask("unsnooze", asset="pump")["data"]["state"] == "acked"
    assert not gateway.ask("freeze", asset="pump")["data"]["learning"]
    assert gateway.ask("freeze", asset="pump", frozen=False)["data"]["learning"]
    assert gateway.ask("capture", asset="pump", seconds=1)["data"]["recording"].startswith(
        "capture"
    )
    said = gateway.ask(
        "feedback", episode=begin["event_id"], verdict="confirmed", note="outer race, replaced"
    )
    assert said["data"] == {"recording": begin["event_id"]}
    assert gateway.ask("feedback", asset="pump", verdict="missed")["status"] == "ok"
    assert "2/2 boards streaming" in gateway.ask("status")["data"]["gateway"]


def what_is_wrong_is_refused(gateway: Gateway, begin: dict[str, Any]) -> None:
    for name, fields, words in (
        ("ack", {"asset": "pumpe"}, "there are pump"),
        ("ack", {"episode": "00000000-pump-1"}, "never told"),
        ("ack", {"asset": "pump", "minutes": 3}, "unknown key"),
        ("snooze", {"asset": "pump", "minutes": 0}, "1 to 10080"),
        ("feedback", {"episode": begin["event_id"], "verdict": "wrong"}, "false_alarm"),
        ("feedback", {"episode": "../../etc/passwd", "verdict": "unsure"}, "event_id"),
        ("accept_new_normal", {"asset": "pump"}, "at least 100"),
        ("acknowledge", {}, "unknown command"),
    ):
        told = gateway.ask(name, **fields)
        assert told["status"] == "error", (name, fields)
        assert words in told["error"], (words, told["error"])


def a_reload_takes_what_it_can(
    gateway: Gateway, config: Path, agent: subprocess.Popen[str]
) -> None:
    text = config.read_text()
    config.write_text(text.replace("re_alarm_seconds = 0.0", "re_alarm_seconds = -1.0"))
    refused = gateway.ask("reload")
    assert refused["status"] == "error"
    assert "re_alarm_seconds" in refused["error"]
    changed = text.replace("re_alarm_seconds = 0.0", "re_alarm_seconds = 5.0")
    config.write_text(changed.replace('id = "test"', 'id = "other"'))
    told = gateway.ask("reload")["data"]["told"]
    assert "assets.pump.alarm.re_alarm_seconds 0.0 -> 5.0" in told
    assert "needs a restart: gateway.id" in told
    config.write_text(text)
    agent.send_signal(signal.SIGHUP)
    log = config.with_suffix(".log")
    until(lambda: "re_alarm_seconds 5.0 -> 0.0" in log.read_text())


def evidence_is_kept(folder: Path, event_id: str) -> None:
    case = json.loads((folder / f"{event_id}.json").read_text())
    assert (case["verdict"], case["note"]) == ("confirmed", "outer race, replaced")
    assert case["ended"] > case["ts"]
    names = sorted(path.name for path in folder.iterdir())
    assert any(re.fullmatch(r"missed-pump-.*\.rec", name) for name in names)
    assert any(re.fullmatch(r"capture-.*\.rec", name) for name in names)
    lines = programs.replay(folder / f"{event_id}.rec", programs.VIBRATION)
    assert lines[-1]["windows"] > 10


def an_asset_that_goes_is_taken_back(folder: Path, port: int, subscriber: Subscriber) -> None:
    discovery = "homeassistant/device/otolith_test_pump/config"
    assert json.loads(subscriber.latest(discovery))["device"]["name"] == "pump"
    config = configure(
        folder, port, {"motor": PUMP["pump"]}, "[home_assistant]\ndiscovery = true\n"
    )
    with programs.agent(config):
        motor = "homeassistant/device/otolith_test_motor/config"
        subscriber.until(lambda: subscriber.latest(motor))
        subscriber.until(lambda: subscriber.latest(discovery) == "")
        subscriber.until(lambda: subscriber.latest(f"{BASE}/pump/state") == "")
        # Home Assistant was restarted: it is told again.
        count = len([m for m in subscriber.messages if m.topic == motor])
        programs.mosquitto_pub(port, "homeassistant/status", "online")
        subscriber.until(lambda: len([m for m in subscriber.messages if m.topic == motor]) > count)


def every_message_is_as_promised(subscriber: Subscriber) -> None:
    """Each payload fits the schema of its topic, and each kind of message was seen."""
    seen = set()
    patterns = {
        one.name: re.compile(re.sub(r"\{\w+\}", "[^/]+", f"{re.escape(BASE)}/{one.topic}"))
        for one in channels()
        if one.direction == "send"
    }
    schemas = {name: json.loads(text) for name, text in documents().items()}
    for message in subscriber.messages:
        if not message.payload or not message.topic.startswith(f"{BASE}/"):
            continue
        if message.topic.startswith(f"{BASE}/cmd/"):
            continue
        # `cmd_result/status` is no asset's status: no asset may be called so.
        name = [n for n, pattern in patterns.items() if pattern.fullmatch(message.topic)][-1]
        seen.add(name)
        if name == "picture":
            assert message.payload.startswith(b"\x89PNG")
            continue
        try:
            document = json.loads(message.payload)
        except ValueError:
            document = message.payload.decode()
        jsonschema.validate(document, schemas[f"{name}.json"])
    assert seen == set(patterns)


def shape(topic: str, payload: bytes) -> tuple[str, ...]:
    """What a message is, without when it was and what was measured just then."""
    if "/board/" in topic or topic.endswith(("/score", "/health")):
        return (topic,)
    try:
        document = json.loads(payload)
    except ValueError:
        return (topic, "bytes" if payload.startswith(b"\x89PNG") else payload.decode())
    named = [str(document.get(key)) for key in ("kind", "state", "top1_ch", "bundle")]
    return (topic, *sorted(document), *named)


def has_ended(messages: list[tuple[str, bytes]]) -> bool:
    found = {shape(topic, payload) for topic, payload in messages}
    pictures = [topic for topic, *_ in found if topic.endswith("/picture")]
    ended = [one for one in found if one[0].endswith("/event") and "end" in one]
    states = [one for one in found if one[0].endswith("/state") and {"ok", "top1_ch"} <= {*one}]
    return bool(pictures and ended and states)


def test_the_same_messages_under_mosquitto_and_the_embedded_broker(
    tmp_path: Path, mosquitto: Mosquitto
) -> None:
    """One speaks MQTT 5, the other only 3.1.1."""
    subscriber = Subscriber(mosquitto.port, "otolith/#")
    fault = ("--seed", 7, "--fault", "bearing:5:9")
    with EmbeddedBroker() as embedded, ExitStack() as running:
        for name, port in (("mosquitto", mosquitto.port), ("embedded", embedded.port)):
            folder = tmp_path / name
            folder.mkdir()
            running.enter_context(programs.board(folder / "b.tty", *fault))
            running.enter_context(programs.agent(configure(folder, port, PUMP, SITE)))
        received: list[tuple[str, bytes]] = []

        def over() -> bool:
            """The last things that either tells: how it ended, the state after it, a picture."""
            while not embedded.received.empty():
                message = embedded.received.get_nowait()
                received.append((message.topic, message.payload))
            mosquittos = [(m.topic, m.payload) for m in subscriber.messages]
            return all(map(has_ended, (mosquittos, received)))

        subscriber.until(over, 60)
    under_mosquitto = {shape(m.topic, m.payload) for m in subscriber.messages}
    under_embedded = {shape(topic, payload) for topic, payload in received}
    # Who is stopped while we look, and who after, is chance.
    assert under_mosquitto ^ under_embedded <= {("otolith/test/status", "stopped")}
    subscriber.close()


def test_the_schemas_in_the_repository_are_those_of_the_code() -> None:
    """Else: edge-agent schema --out edge_agent/schemas"""
    made = documents()
    assert sorted(made) == sorted(path.name for path in SCHEMAS.iterdir())
    for name, text in made.items():
        assert (SCHEMAS / name).read_text() == text, name


def test_the_schemas_are_schemas() -> None:
    for name, text in documents().items():
        document = json.loads(text)
        if name == "asyncapi.json":
            assert document["asyncapi"] == "3.0.0"
            for operation in document["operations"].values():
                channel = operation["channel"]["$ref"].rpartition("/")[2]
                for message in document["channels"][channel]["messages"].values():
                    reference = message.get("payload", {}).get("$ref", "./state.json")
                    assert reference.removeprefix("./") in documents()
        else:
            jsonschema.Draft202012Validator.check_schema(document)
