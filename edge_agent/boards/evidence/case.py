"""Case: what is known about one recording of evidence: the alarm's facts, and people's verdict.

In: facts of an alarm, words of an operator. Out: `ID.json`, and a checked `Case` from it.
Never: trusts an id that came over a network, touches a file.

    ID.rec   the wire: IDENTIFY, then whole frames; absent if there was nothing or it had to go
    ID.json  the case; its names are those of the alarm's message (`<b>/<asset>/event`)
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1
RECORDING, DOCUMENT, PARTIAL = ".rec", ".json", ".part"
STAMP = "%Y%m%dT%H%M%S.%fZ"
MAX_NOTE_CHARACTERS = 1000
MAX_DOCUMENT_BYTES = 1 << 16
MAX_SHOWN_CHARACTERS = 60

Kind: TypeAlias = Literal["alarm", "missed", "capture"]
Verdict: TypeAlias = Literal["false_alarm", "confirmed", "unsure", "missed"]
# What may be said of an alarm; `missed` is for the alarm that did not come.
VERDICTS: tuple[Verdict, ...] = ("false_alarm", "confirmed", "unsure")

# Names of boards and assets become folders where the evidence is read.
Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
EVENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


class Case(BaseModel):
    """What `ID.json` says, as far as a reader needs it; everything else in it is for people.

    At `ts` all of the recording's first `seen_bytes` had come and no more. The alarm was raised
    by windows of `window_seconds`, the first of which ended at `first_over`; it ended at `ended`.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1]
    event_id: str = Field(pattern=f"^{EVENT_ID.pattern}$")
    kind: Kind | None = None
    board: Name | None = None
    asset: Name | None = None
    stream: str | None = None
    ts: AwareDatetime | None = None
    first_over: AwareDatetime | None = None
    ended: AwareDatetime | None = None
    window_seconds: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    seen_bytes: int | None = Field(default=None, ge=0)
    verdict: Verdict | None = None
    note: str = ""


def is_event_id(event_id: object) -> bool:
    """Whether an agent could have made this id; nothing else may become part of a path."""
    return isinstance(event_id, str) and EVENT_ID.fullmatch(event_id) is not None


def check_event_id(event_id: object) -> str:
    """The id. Raises `ValueError` if no agent can have made it."""
    if not isinstance(event_id, str) or not is_event_id(event_id):
        raise ValueError(
            f"event_id: saw {shown(event_id)}, expected the event_id of an alarm's message "
            "(at most 128 of A-Z a-z 0-9 . _ -)"
        )
    return event_id


def check_note(note: object) -> str:
    """The note. Raises `ValueError` if it is no text or too long."""
    if not isinstance(note, str) or len(note) > MAX_NOTE_CHARACTERS:
        raise ValueError(
            f"note: saw {shown(note)}, expected text of at most {MAX_NOTE_CHARACTERS} characters"
        )
    # Half a surrogate pair passes for text here, and for damage with whoever reads it.
    return note.encode(errors="replace").decode()


def check_verdict(verdict: object) -> Verdict:
    """The verdict on an alarm. Raises `ValueError` for any other word."""
    for known in VERDICTS:
        if verdict == known:
            return known
    raise ValueError(f"verdict: saw {shown(verdict)}, expected one of {', '.join(VERDICTS)}")


def shown(value: object) -> str:
    """What was seen, short enough for one line."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}…"


def plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts as JSON can say them: a number that is none becomes null, the rest text."""
    return {key: _plain(value) for key, value in facts.items()}


def write_document(document: Mapping[str, Any]) -> bytes:
    """`ID.json`."""
    return json.dumps(document, indent=1, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def read_document(content: bytes) -> dict[str, Any]:
    """What `ID.json` says, whatever it says; empty if it is damaged."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return plain(document) if isinstance(document, dict) else {}


def stamp(unix_s: float) -> str:
    """A moment as part of an id; microseconds keep two of one second apart."""
    return datetime.fromtimestamp(unix_s, UTC).strftime(STAMP)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
