"""Commands: what is done, what is refused and in which words, and that nobody can do harm."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.alarms.remote import COMMANDS, Answer, Command, Remote, Reply
from edge_agent.alarms.remote_requests import Ack, Feedback, Freeze, Snooze
from edge_agent.broker.incoming import Incoming

BASE = "otolith/hall-1"
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("ack", {"asset": "pump"}),
    ("ack", {"episode": "1f3a-pump-7", "id": "a"}),
    ("snooze", {"asset": "pump", "minutes": 1}),
    ("snooze", {"asset": "pump", "minutes": 10_080}),
    ("unsnooze", {"asset": "pump"}),
    ("feedback", {"episode": "1f3a-pump-7", "verdict": "false_alarm", "note": "door\nslammed"}),
    ("feedback", {"episode": "1f3a-pump-7", "asset": "pump", "verdict": "confirmed"}),
    ("feedback", {"asset": "pump", "verdict": "missed", "note": "ä" * 500}),
    ("freeze", {"asset": "pump"}),
    ("freeze", {"asset": "pump", "frozen": False}),
    ("accept_new_normal", {"asset": "pump"}),
    ("capture", {"asset": "pump", "seconds": 600}),
    ("status", {}),
    ("reload", {"id": "x" * 64}),
]


def send(
    remote: Remote, name: str, content: object = None, now_s: float = 0.0, **more: Any
) -> Command | Reply | None:
    """A command, its content as JSON if it isn't bytes already."""
    payload = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
    return remote.take(Incoming(f"{BASE}/cmd/{name}", payload, **more), now_s)


def answer(reply: Command | Reply | None) -> dict[str, Any]:
    """What a reply says; it must be one, and as promised."""
    assert isinstance(reply, Reply)
    assert (reply.message.qos, reply.message.retain) == (1, False)
    assert len(reply.message.payload) < 8192
    found: dict[str, Any] = json.loads(reply.message.payload)
    Answer.model_validate(found)
    return found


def error(reply: Command | Reply | None) -> str:
    found = answer(reply)
    assert found["status"] == "error"
    return str(found["error"])


@pytest.mark.parametrize(("name", "content"), GOOD)
def test_a_good_command_is_taken_and_answered(name: str, content: dict[str, Any]) -> None:
    remote = Remote(BASE)
    command = send(remote, name, content)
    assert isinstance(command, Command)
    assert command.request.model_dump(exclude_unset=True) == content
    assert isinstance(command.request, COMMANDS[name])
    reply = remote.answer(command, {"until": "tomorrow"})
    assert reply.message.topic == f"{BASE}/cmd_result/{name}"
    expected = {"command": name, "status": "ok", "data": {"until": "tomorrow"}}
    assert answer(reply) == expected | ({"id": content["id"]} if "id" in content else {})
    assert (remote.taken, remote.refused) == (1, 0)


def test_each_request_says_what_it_is_about() -> None:
    remote = Remote(BASE)
    assert {name for name, _ in GOOD} == set(COMMANDS)
    for name, content, expected in (
        ("ack", {"asset": "pump"}, Ack(asset="pump")),
        ("snooze", {"asset": "pump", "minutes": 5}, Snooze(asset="pump", minutes=5)),
        ("freeze", {"asset": "pump"}, Freeze(asset="pump", frozen=True)),
        ("feedback", {"asset": "p", "verdict": "missed"}, Feedback(asset="p", verdict="missed")),
    ):
        command = send(remote, name, content)
        assert isinstance(command, Command)
        assert command.request == expected
    assert remote.topics == (f"{BASE}/cmd/+",)


def test_no_payload_is_an_empty_object() -> None:
    assert isinstance(send(Remote(BASE), "status", b""), Command)
    assert "needs asset or episode" in error(send(Remote(BASE), "ack", b""))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("ack", {}, ["needs asset or episode, and not both"]),
        ("ack", {"asset": "pump", "episode": "e"}, ["needs asset or episode, and not both"]),
        ("ack", {"aset": "pump"}, ["unknown key 'aset', did you mean asset?"]),
        ("ack", {"asset": "pump", "x": 1}, ["unknown key 'x', allowed: id, asset, episode"]),
        ("ack", {"asset": "../pump"}, ["asset: saw '../pump'", "letters, digits"]),
        ("ack", {"asset": "pump\n"}, ["asset: saw 'pump\\n'"]),
        ("ack", {"asset": ["pump"]}, ["asset: saw ['pump'], it must be the name of an asset"]),
        ("ack", {"asset": "pump", "id": ""}, ["id: saw '', it must be text of 1 to 64"]),
        ("ack", {"asset": "pump", "id": "a\x1b[2J"}, ["id: saw 'a\\x1b[2J'"]),
        ("ack", {"asset": "pump", "id": 7}, ["id: saw 7, it must be text"]),
        ("snooze", {"asset": "pump"}, ["minutes is missing", "whole minutes, 1 to 10080"]),
        ("snooze", {"asset": "pump", "minutes": 0}, ["minutes: saw 0", "1 to 10080"]),
        ("snooze", {"asset": "pump", "minutes": 10_081}, ["minutes: saw 10081"]),
        ("snooze", {"asset": "pump", "minutes": "5"}, ["minutes: saw '5'"]),
        ("snooze", {"asset": "pump", "minutes": 5.5}, ["minutes: saw 5.5"]),
        ("snooze", {"asset": "pump", "minutes": True}, ["minutes: saw true"]),
        ("snooze", {"minutes": 0, "aset": "p"}, ["asset is missing", "saw 0", "mean asset?"]),
        ("feedback", {"verdict": "flase_alarm"}, ["saw 'flase_alarm', did you mean false_alarm?"]),
        ("feedback", {"verdict": "bad"}, ["allowed: false_alarm, confirmed, unsure, missed"]),
        ("feedback", {"verdict": "confirmed", "asset": "p"}, ["confirmed needs episode"]),
        ("feedback", {"verdict": "missed", "episode": "e"}, ["missed needs asset"]),
        ("feedback", {"verdict": "missed", "asset": "p", "note": "x" * 501}, ["at most 500"]),
        ("feedback", {"verdict": "missed", "asset": "p", "note": "\x1b[2J"}, ["note: saw"]),
        ("capture", {"asset": "pump", "seconds": 601}, ["seconds: saw 601", "1 to 600"]),
        ("status", {"now": True}, ["unknown key 'now', allowed: id"]),
        ("snoze", {}, ["unknown command snoze; did you mean snooze? allowed: ack, snooze"]),
        ("reboot", {}, ["unknown command reboot; allowed: ack, snooze, unsnooze, feedback"]),
        ("ack", b"[1]", ["saw [1]; allowed: one JSON object"]),
        ("ack", b"pump", ["saw no JSON (expected value"]),
        ("ack", b'{"asset": "pump"', ["saw no JSON (EOF"]),
        ("ack", b'{"asset": "p\xff"}', ["saw no JSON (invalid unicode"]),
        ("ack", b'{"asset": "\\ud800"}', ["saw no JSON ("]),
        ("ack", b"[" * 4000, ["saw no JSON (recursion limit"]),
        ("capture", b'{"asset": "p", "seconds": NaN}', ["saw no JSON ("]),
        ("capture", b'{"asset": "p", "seconds": 1e999}', ["seconds: saw inf"]),
        ("capture", b'{"asset": "p", "seconds": ' + b"9" * 4000 + b"}", ["seconds: saw 999"]),
        ("ack", b" " * 4097, ["saw 4097 bytes; a command has at most 4096"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_what_is_allowed(
    name: str, content: object, told: list[str]
) -> None:
    remote = Remote(BASE)
    text = error(send(remote, name, content))
    assert [part for part in told if part not in text] == [], text
    assert (remote.taken, remote.refused) == (0, 1)


def test_the_id_of_a_refused_command_comes_back() -> None:
    found = answer(send(Remote(BASE), "ack", {"id": "7", "x": 1}))
    assert (found["id"], found["command"]) == ("7", "ack")


def test_many_errors_are_told_in_few_words() -> None:
    content = {f"key{n}": n for n in range(200)}
    text = error(send(Remote(BASE), "status", content))
    assert text.endswith("and 195 more")


def test_what_the_broker_had_kept_is_old_and_is_left_alone() -> None:
    remote = Remote(BASE)
    assert send(remote, "ack", {"asset": "pump"}, retained=True) is None
    assert (remote.retained, remote.taken) == (1, 0)


@pytest.mark.parametrize("name", ["", "Ack", "ack/x", "a" * 33, "ack\n", "ä", "cmd-result", "+"])
def test_a_name_that_nobody_would_give_is_not_answered(name: str) -> None:
    remote = Remote(BASE)
    assert send(remote, name) is None
    assert remote.ignored == 1


@pytest.mark.parametrize(
    "topic", [f"{BASE}/pump/event", f"{BASE}2/cmd/ack", "homeassistant/status"]
)
def test_other_topics_are_not_commands(topic: str) -> None:
    remote = Remote(BASE)
    assert remote.take(Incoming(topic, b"online"), 0.0) is None
    assert (remote.ignored, remote.refused) == (0, 0)


def test_the_same_id_is_done_once_and_answered_again() -> None:
    remote = Remote(BASE)
    content = {"asset": "pump", "id": "7"}
    command = send(remote, "ack", content)
    assert isinstance(command, Command)
    assert send(remote, "ack", content) is None  # the answer is still to come
    reply = remote.answer(command, {"acknowledged": True})
    again = send(remote, "ack", content, response_topic="reply/me", correlation=b"2")
    assert isinstance(again, Reply)
    assert again.message.payload == reply.message.payload
    assert (again.message.topic, again.correlation) == ("reply/me", b"2")
    assert "saw the id of another ack" in error(send(remote, "ack", {"asset": "fan", "id": "7"}))
    assert isinstance(send(remote, "unsnooze", content), Command)
    assert (remote.taken, remote.repeated, remote.refused) == (2, 2, 1)


def test_a_refusal_by_the_service_is_remembered_too() -> None:
    remote = Remote(BASE)
    command = send(remote, "ack", {"asset": "pump", "id": "7"})
    assert isinstance(command, Command)
    assert error(remote.answer(command, error="there is no asset pump")) == "there is no asset pump"
    assert error(send(remote, "ack", {"asset": "pump", "id": "7"})) == "there is no asset pump"


def test_without_an_id_nothing_is_remembered() -> None:
    remote = Remote(BASE)
    for _ in range(3):
        assert isinstance(send(remote, "ack", {"asset": "pump"}), Command)
    assert remote.taken == 3


def test_so_many_ids_are_remembered_and_no_more() -> None:
    remote = Remote(BASE)
    for n in range(257):
        command = send(remote, "ack", {"asset": "pump", "id": str(n)}, float(n))
        assert isinstance(command, Command)
        remote.answer(command)
    assert answer(send(remote, "ack", {"asset": "pump", "id": "1"}, 300.0))["status"] == "ok"
    assert isinstance(send(remote, "ack", {"asset": "pump", "id": "0"}, 301.0), Command)


@pytest.mark.parametrize(
    "topic",
    ["reply/me", "otolith/hall-10/x", f"{BASE}/cmd_result/ack", f"{BASE}/cmd_result/mine/7", "ä"],
)
def test_an_answer_goes_where_it_is_wanted(topic: str) -> None:
    remote = Remote(BASE)
    asked: dict[str, Any] = {"response_topic": topic, "correlation": b"\x00\xff"}
    command = send(remote, "ack", {"asset": "pump"}, **asked)
    assert isinstance(command, Command)
    assert remote.answer(command).message.topic == topic
    assert remote.answer(command).correlation == b"\x00\xff"
    refused = send(remote, "ack", {}, **asked)
    assert isinstance(refused, Reply)
    assert (refused.message.topic, refused.correlation) == (topic, b"\x00\xff")


@pytest.mark.parametrize(
    "topic",
    [BASE, f"{BASE}/status", f"{BASE}/pump/event", f"{BASE}/cmd/ack", f"{BASE}/cmd_result",
     f"{BASE}/cmd_results/x", f"{BASE}/", "reply/#", "reply/+/x", "$SYS/x", "a\x00b", "a\ud800",
     "x" * 513],
)  # fmt: skip
def test_nobody_makes_us_speak_in_our_own_name_or_to_everybody(topic: str) -> None:
    remote = Remote(BASE)
    reply = send(remote, "ack", {"asset": "pump"}, response_topic=topic, correlation=b"c")
    assert "saw the response topic" in error(reply)
    assert isinstance(reply, Reply)
    assert (reply.message.topic, reply.correlation) == (f"{BASE}/cmd_result/ack", b"c")
    assert remote.taken == 0


def test_correlation_data_without_end_is_refused() -> None:
    reply = send(Remote(BASE), "ack", {"asset": "pump"}, correlation=b"x" * 1025)
    assert "saw 1025 bytes of correlation data; at most 1024" in error(reply)
    assert isinstance(reply, Reply)
    assert reply.correlation == b""


def test_a_flood_is_worked_on_in_part_refused_in_part_and_otherwise_counted() -> None:
    remote = Remote(BASE)
    first = [send(remote, "ack", {"asset": "pump"}, 5.0) for _ in range(1000)]
    assert all(isinstance(each, Command) for each in first[:50])
    assert all("more than 50 commands a second" in error(each) for each in first[50:100])
    assert first[100:] == [None] * 900
    assert (remote.taken, remote.refused, remote.ignored) == (50, 50, 900)
    later = [send(remote, "ack", {"asset": "pump"}, 5.5) for _ in range(60)]
    assert sum(isinstance(each, Command) for each in later) == 25
    assert isinstance(send(remote, "status", {}, 60.0), Command)
    assert isinstance(send(remote, "status", {}, 1.0), Command)  # the clock went back


def nothing_but_an_answer(remote: Remote, incoming: Incoming, now_s: float) -> None:
    """What is no good command gives a reply or nothing; what is one obeys every rule."""
    before = (remote.taken, remote.refused, remote.repeated, remote.retained, remote.ignored)
    found = remote.take(incoming, now_s)
    after = (remote.taken, remote.refused, remote.repeated, remote.retained, remote.ignored)
    assert sum(after) - sum(before) == 1
    if isinstance(found, Command):
        content = json.loads(incoming.payload or b"{}")
        assert found.request.model_dump(exclude_unset=True) == content
        assert set(content) <= set(COMMANDS[found.name].model_fields)
        assert len(incoming.payload) <= 4096
        assert type(content.get("minutes", 1)) is int
        assert 1 <= content.get("minutes", 1) <= 10_080
        assert 1 <= content.get("seconds", 1) <= 600
        assert not incoming.retained
        remote.answer(found)
    elif found is not None:
        answer(found)
        topic = found.message.topic
        assert topic == incoming.response_topic or topic.startswith(f"{BASE}/cmd_result/")
        assert topic.startswith(f"{BASE}/cmd_result/") or not topic.startswith(f"{BASE}/")


def broken(chance: random.Random, payload: bytes) -> bytes:
    """A good payload with a few bytes of it changed, cut, doubled or made enormous."""
    data = bytearray(payload)
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(data) + 1)
        tricks = (
            bytes([chance.randrange(256)]), b"\\ud83d", b"\\u0000", b"1e309", b"-0", b"NaN", b"",
            b"[" * chance.randrange(1000), b'{"id":' * chance.randrange(300), b"9" * 300, b'"',
            b"\xed\xa0\x80", b"\xef\xbb\xbf", b",", b'"id":{},', b"null", data[:20],
        )  # fmt: skip
        data[at : at + chance.randrange(4)] = chance.choice(tricks)
    return bytes(data)


def test_thousands_of_broken_commands_do_nothing_and_raise_nothing() -> None:
    chance, remote = random.Random(20), Remote(BASE)
    for n in range(4000):
        name, content = chance.choice(GOOD)
        payload = broken(chance, json.dumps(content).encode())
        name = name if chance.random() < 0.9 else chance.choice(("", "#", "ackk", "é", "cmd/ack"))
        topic = chance.choice(("", "", "reply/x", f"{BASE}/state", "#", "\x00", f"{BASE}/cmd/ack"))
        incoming = Incoming(
            f"{BASE}/cmd/{name}", payload, chance.random() < 0.05, topic, chance.randbytes(4)
        )
        nothing_but_an_answer(remote, incoming, n / 40.0)
    assert remote.refused > 2000
    assert remote.taken < 1500
    assert all(len(ids) <= 256 for ids in remote._known.values())


TEXT = st.text(st.characters(codec=None), max_size=80)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
KEYS = st.sampled_from(
    ["id", "asset", "episode", "minutes", "seconds", "verdict", "note", "frozen"]
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS | TEXT, inner), max_leaves=8
)


@settings(max_examples=300)
@given(
    name=st.sampled_from(list(COMMANDS)) | TEXT,
    payload=st.binary(max_size=200) | VALUES | st.dictionaries(KEYS, VALUES),
    topic=st.just("") | TEXT,
    correlation=st.binary(max_size=8),
)
def test_nothing_that_can_be_sent_raises(
    name: str, payload: Any, topic: str, correlation: bytes
) -> None:
    if not isinstance(payload, bytes):
        payload = json.dumps(payload).encode()
    remote = Remote(BASE)
    incoming = Incoming(f"{BASE}/cmd/{name}", payload, False, topic, correlation)
    nothing_but_an_answer(remote, incoming, 0.0)
