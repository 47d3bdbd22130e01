"""Remote requests: what people may ask of a gateway, and what they are answered, field by field.

In: the bytes of a command. Out: one frozen, checked request, or words that say what was seen and
what is allowed. Never: raises for what somebody sent, guesses what was meant, accepts a key that it
does not know. Bounds: 4096 bytes, texts as each field says; numbers are numbers, not texts.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails, from_json

from edge_agent.boards.evidence.case import Verdict
from edge_agent.config.problems import did_you_mean, near, shown

MAX_REQUEST_BYTES = 4096
MAX_ID_CHARACTERS = 64
PROBLEMS_TOLD = 5
KEY_CHARACTERS = 64

VERDICTS = list(get_args(Verdict))

# None of these can break a line of the journal, or move a cursor.
Id = Annotated[
    str, Field(min_length=1, max_length=MAX_ID_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$",
               description="text of 1 to 64 characters, none of them a control character")
]  # fmt: skip
Asset = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$",
               description="the name of an asset (letters, digits, - and _)")
]  # fmt: skip
Episode = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,159}$",
               description="the event_id of an episode")
]  # fmt: skip


class Request(BaseModel):
    """What all have in common: with the same `id` it is done once, however often it is sent."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: Id | None = None


class Ack(Request):
    """Says that somebody has seen an episode, or whatever the asset's latest one is."""

    asset: Asset | None = None
    episode: Episode | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.asset is None) == (self.episode is None):
            raise ValueError("needs asset or episode, and not both")
        return self


class Snooze(Request):
    """Has an asset's alarms not told for a while; it is still judged."""

    asset: Asset
    minutes: int = Field(ge=1, le=10_080, description="whole minutes, 1 to 10080 (a week)")


class Unsnooze(Request):
    """Has a snoozed asset's alarms told again."""

    asset: Asset


class Feedback(Request):
    """Says whether an alarm was right; `missed` is about an asset that should have given one."""

    episode: Episode | None = None
    asset: Asset | None = None
    verdict: Verdict = Field(description=f"one of {', '.join(VERDICTS)}")
    note: str | None = Field(
        default=None, max_length=500, pattern=r"^[^\x00-\x08\x0b-\x1f\x7f-\x9f]*$",
        description="text of at most 500 characters, none of them a control character",
    )  # fmt: skip

    @model_validator(mode="after")
    def _about(self) -> Self:
        if self.verdict == "missed" and self.asset is None:
            raise ValueError("missed needs asset: which one should have given an alarm?")
        if self.verdict != "missed" and self.episode is None:
            raise ValueError(f"{self.verdict} needs episode: which alarm is it about?")
        return self


class Freeze(Request):
    """Stops an asset's threshold from following its machine, or lets it follow again."""

    asset: Asset
    frozen: bool = Field(default=True, description="true or false")


class AcceptNewNormal(Request):
    """Says that the machine was changed, and that what it does now is normal."""

    asset: Asset


class Capture(Request):
    """Records the wire of an asset's board for a while."""

    asset: Asset
    seconds: int = Field(ge=1, le=600, description="whole seconds, 1 to 600")


class Status(Request):
    """Asks how the gateway is."""


class Reload(Request):
    """Has the configuration read again."""


AnyRequest: TypeAlias = (
    Ack | Snooze | Unsnooze | Feedback | Freeze | AcceptNewNormal | Capture | Status | Reload
)
COMMANDS: dict[str, type[AnyRequest]] = {
    "ack": Ack, "snooze": Snooze, "unsnooze": Unsnooze, "feedback": Feedback, "freeze": Freeze,
    "accept_new_normal": AcceptNewNormal, "capture": Capture, "status": Status, "reload": Reload,
}  # fmt: skip


class Answer(BaseModel):
    """What came of a request; `id` is that of the request, if it could be read."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = None
    command: str
    status: Literal["ok", "error"]
    data: dict[str, Any] | None = None
    error: str | None = None


class Read(NamedTuple):
    """What was read: a request, or what is wrong with it and under which id to say so."""

    request: AnyRequest | None
    id: str | None
    trouble: str


def read_request(name: str, payload: bytes) -> Read:
    """Reads the payload of the command `name`; none at all is an empty object."""
    if len(payload) > MAX_REQUEST_BYTES:
        told = f"saw {len(payload)} bytes; a command has at most {MAX_REQUEST_BYTES}"
        return Read(None, None, told)
    try:
        document = from_json(payload or b"{}", allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        return Read(None, None, f"saw no JSON ({error}); allowed: one JSON object, or nothing")
    if not isinstance(document, dict):
        return Read(None, None, f"saw {shown(document)}; allowed: one JSON object, or nothing")
    if twice := _twice(payload):
        # Whoever has let it pass may have read the other one.
        return Read(None, None, f"saw the key {shown(twice)} twice; each may be there once")
    seen_id = document.get("id")
    readable = isinstance(seen_id, str) and 1 <= len(seen_id) <= MAX_ID_CHARACTERS
    request_id = seen_id if readable else None
    kind = COMMANDS.get(name)
    if kind is None:
        return Read(None, request_id, _unknown(name))
    try:
        return Read(kind.model_validate(document), request_id, "")
    except ValidationError as error:
        return Read(None, request_id, _in_words(kind, error.errors(include_url=False)))


def _twice(payload: bytes) -> str:
    """The first key that an object of this JSON has more than once, cut; empty if none has."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(key[:KEY_CHARACTERS])
            seen.add(key)

    # Numbers stay text: Python would refuse those of more than 4300 digits, and be slow.
    json.loads(payload or b"{}", object_pairs_hook=look, parse_int=str, parse_float=str)
    return found[0] if found else ""


def _unknown(name: str) -> str:
    meant = near(name, list(COMMANDS))
    hint = f"did you mean {meant}? " if meant else ""
    return f"unknown command {name}; {hint}allowed: {', '.join(COMMANDS)}"


def _in_words(kind: type[AnyRequest], errors: list[ErrorDetails]) -> str:
    told = [_one_in_words(kind, error) for error in errors[:PROBLEMS_TOLD]]
    if len(errors) > PROBLEMS_TOLD:
        told.append(f"and {len(errors) - PROBLEMS_TOLD} more")
    return "; ".join(told)


def _one_in_words(kind: type[AnyRequest], error: ErrorDetails) -> str:
    """What was seen, what is allowed."""
    if not error["loc"]:
        return str(error.get("ctx", {}).get("error", error["msg"]))
    key = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        seen = key[:KEY_CHARACTERS]
        return f"unknown key {shown(seen)}, {did_you_mean(seen, list(kind.model_fields))}"
    allowed = f"it must be {_description(kind, key)}"
    if error["type"] == "missing":
        return f"{key} is missing, {allowed}"
    seen_value = error["input"]
    if key == "verdict" and isinstance(seen_value, str):
        allowed = did_you_mean(seen_value[:KEY_CHARACTERS], VERDICTS)
    return f"{key}: saw {shown(seen_value)}, {allowed}"


def _description(kind: type[AnyRequest], key: str) -> str:
    """Of an optional field pydantic keeps it with the type."""
    field = kind.model_fields[key]
    if field.description:
        return field.description
    for part in get_args(field.annotation):
        for meta in getattr(part, "__metadata__", ()):
            if meta.description:
                return str(meta.description)
    return "something else"
