"""Remote: commands from the broker, checked, and the answers to them.

In: what came on our topics, and time; what the service made of a command. Out: commands, answers.
Never: does anything itself, believes what the broker had kept (an `ack` of last week), publishes
where the gateway speaks of itself, raises for what somebody sent. With <b> the base topic:

    <b>/cmd/<name> {"id": ..., ...}  ->  <b>/cmd_result/<name> {"id", "command", "status", ...}

or, over MQTT 5, to the response topic of the command, with its correlation data. Bounds: 50
commands a second are worked on and 50 more refused in words, the rest is only counted; the answers
to the last 256 ids of each command are remembered, so that none of them is done twice.
"""

from __future__ import annotations

import re
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from edge_agent.alarms.remote_requests import COMMANDS, Answer, AnyRequest, read_request
from edge_agent.broker.incoming import Incoming
from edge_agent.broker.messages import Message, as_json

# The commands by name, and what each may say: whoever wires them up needs these, too.
__all__ = ["COMMANDS", "Answer", "Command", "Remote", "Reply"]

COMMANDS_A_SECOND = 50
REFUSALS_A_SECOND = 50
REMEMBERED_IDS = 256
MAX_CORRELATION_BYTES = 1024
MAX_TOPIC_CHARACTERS = 512
# Whoever asked has given up by then.
ANSWER_EXPIRY_SECONDS = 300

_NAME = re.compile(r"[a-z_]{1,32}")
_NO_TOPIC = re.compile(r"[+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")


class Reply(NamedTuple):
    """An answer on its way; `correlation` goes with it over MQTT 5."""

    message: Message
    correlation: bytes


class Command(NamedTuple):
    """A checked request, and where its answer goes."""

    name: str
    request: AnyRequest
    topic: str
    correlation: bytes


class _Bucket:
    """So many a second, and as many at once."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._credit = float(per_second)
        self._then_s: float | None = None

    def take(self, now_s: float) -> bool:
        """Whether there is one left."""
        passed_s = 0.0 if self._then_s is None else max(0.0, now_s - self._then_s)
        self._then_s = now_s
        self._credit = min(float(self._per_second), self._credit + passed_s * self._per_second)
        if self._credit < 1.0:
            return False
        self._credit -= 1.0
        return True


class _Known:
    """A request with an id that was taken, and what was answered, once that is known."""

    def __init__(self, request: AnyRequest) -> None:
        self.request = request
        self.payload: bytes | None = None


class Remote:
    """Give it all that came on `topics`. It counts commands that were `taken`, `refused` in words,
    `repeated` (not done again), `retained` and otherwise `ignored` (neither done nor answered)."""

    def __init__(self, base_topic: str) -> None:
        self._inside = f"{base_topic}/"
        self._commands, self._results = f"{base_topic}/cmd/", f"{base_topic}/cmd_result/"
        self._base_topic = base_topic
        self._work, self._refusals = _Bucket(COMMANDS_A_SECOND), _Bucket(REFUSALS_A_SECOND)
        self._known: defaultdict[str, OrderedDict[str, _Known]] = defaultdict(OrderedDict)
        self.taken = self.refused = self.repeated = self.retained = self.ignored = 0

    @property
    def topics(self) -> tuple[str, ...]:
        """What to subscribe to."""
        return (f"{self._commands}+",)

    def take(self, incoming: Incoming, now_s: float) -> Command | Reply | None:
        """A command to be done and then answered, or the answer already, or nothing at all."""
        if not incoming.topic.startswith(self._commands):
            return None
        name = incoming.topic.removeprefix(self._commands)
        if incoming.retained:
            self.retained += 1
            return None
        hurried = not self._work.take(now_s)
        if not _NAME.fullmatch(name) or (hurried and not self._refusals.take(now_s)):
            self.ignored += 1
            return None
        read = read_request(name, incoming.payload)
        topic, trouble = self._answer_topic(name, incoming)
        if hurried:
            trouble = f"more than {COMMANDS_A_SECOND} commands a second; send it again later"
        correlation = incoming.correlation
        if len(correlation) > MAX_CORRELATION_BYTES:
            correlation = b""
        if not read.request or trouble:
            self.refused += 1
            answer = Answer(id=read.id, command=name, status="error", error=trouble or read.trouble)
            return self._reply(as_json(answer), topic, correlation)
        command = Command(name, read.request, topic, correlation)
        known = self._known[name].get(read.request.id) if read.request.id else None
        return self._repeat(command, known) if known else self._take(command)

    def answer(
        self, command: Command, data: Mapping[str, Any] | None = None, error: str | None = None
    ) -> Reply:
        """What came of a command: an error if there is one, else `data`, which may be nothing."""
        request_id = command.request.id
        answer = Answer(
            id=request_id, command=command.name, status="error" if error else "ok",
            data=None if error or data is None else dict(data), error=error,
        )  # fmt: skip
        payload = as_json(answer)
        known = self._known[command.name].get(request_id) if request_id else None
        if known and known.request is command.request:
            known.payload = payload
        return self._reply(payload, command.topic, command.correlation)

    def _take(self, command: Command) -> Command:
        self.taken += 1
        if command.request.id:
            known = self._known[command.name]
            known[command.request.id] = _Known(command.request)
            if len(known) > REMEMBERED_IDS:
                known.popitem(last=False)
        return command

    def _repeat(self, command: Command, known: _Known) -> Reply | None:
        """The same id again: the same answer, if there is one yet."""
        if known.request != command.request:
            self.refused += 1
            told = f"saw the id of another {command.name}; each needs an id of its own"
            answer = Answer(id=command.request.id, command=command.name, status="error", error=told)
            return self._reply(as_json(answer), command.topic, command.correlation)
        self.repeated += 1
        if known.payload is None:
            return None
        return self._reply(known.payload, command.topic, command.correlation)

    def _answer_topic(self, name: str, incoming: Incoming) -> tuple[str, str]:
        """Where the answer goes, and why that is not where the sender wants it."""
        usual, wanted = f"{self._results}{name}", incoming.response_topic
        if len(incoming.correlation) > MAX_CORRELATION_BYTES:
            seen = f"saw {len(incoming.correlation)} bytes of correlation data"
            return usual, f"{seen}; at most {MAX_CORRELATION_BYTES} are sent back"
        if not wanted:
            return usual, ""
        allowed = f"leave it out, or name one of your own or below {self._results}"
        seen = f"saw the response topic {wanted[:80]!r}"
        if len(wanted) > MAX_TOPIC_CHARACTERS or _NO_TOPIC.search(wanted) or wanted[0] == "$":
            return usual, f"{seen}, which nobody may publish to; {allowed}"
        own = wanted == self._base_topic or wanted.startswith(self._inside)
        if own and not wanted.startswith(self._results):
            return usual, f"{seen}, where the gateway speaks of itself; {allowed}"
        return wanted, ""

    def _reply(self, payload: bytes, topic: str, correlation: bytes) -> Reply:
        message = Message(topic, payload, expiry_seconds=ANSWER_EXPIRY_SECONDS)
        return Reply(message, correlation)
