"""Stored: what a calibration says on disk, whatever it was made of.

In: the bytes of one file of the shelf, or what a calibration found. Out: a frozen `Stored`. Never:
trusts a file: size first, then every field, its bounds, and that the content is what its name says.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

Kind: TypeAlias = Literal["compass", "accel", "baseline"]
KINDS: tuple[Kind, ...] = ("compass", "accel", "baseline")
LIMIT_BYTES = 256 << 10
MOST = 1e12
# Beyond this a matrix has lost an axis.
MOST_CONDITION = 1e3
ID = r"^(compass|accel|baseline)-[1-9][0-9]{0,5}-[0-9a-f]{6}$"

Number: TypeAlias = Annotated[float, Field(ge=-MOST, le=MOST, allow_inf_nan=False)]
Share: TypeAlias = Annotated[float, Field(gt=0, le=MOST, allow_inf_nan=False)]
Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]
Sentence: TypeAlias = Annotated[str, Field(max_length=1000)]
Row: TypeAlias = tuple[Number, Number, Number]


class ShelfError(ValueError):
    """A calibration can't be read or used; one line that says why and what to do."""


class _Part(BaseModel):
    """Immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Correction(_Part):
    """What turns readings into what they mean: `matrix` @ (reading - `bias`), for the channels x, y
    and z of the stream called `stream`, in its unit `unit`; `offset_only` where no shape was
    found."""

    stream: Text
    unit: Text
    bias: Row
    matrix: tuple[Row, Row, Row]
    offset_only: bool = False

    @model_validator(mode="after")
    def _turns_back(self) -> Correction:
        condition = float(np.linalg.cond(np.array(self.matrix)))
        if not math.isfinite(condition) or condition > MOST_CONDITION:
            raise ValueError("matrix: it maps different fields to one")
        return self


class Band(_Part):
    """What the corrected field was like: its length, in the unit of the corrected readings, and
    its dip against gravity (without a sign) where an accelerometer told it, with how far that
    scattered while the board was turned. The watch compares with this."""

    radius: Share
    dip_deg: Annotated[float, Field(ge=0, le=90)] | None = None
    dip_sigma_deg: Annotated[float, Field(ge=0, le=90)] = 0.0


class Draft(_Part):
    """What a calibration hands to the shelf, which gives it number, id, time and owner.

    `error` is the predicted error in `error_unit` (degrees of heading, milli-g, ...). `details` is
    free for each kind, which checks it again when it reads it: numbers, words, lists, objects."""

    kind: Kind
    board: Text
    uid: Text
    verdict: Literal["pass", "marginal"]
    reason: Sentence
    correction: Correction | None = None
    error: Annotated[float, Field(ge=0, le=MOST)] | None = None
    error_unit: Annotated[str, Field(max_length=16)] = ""
    band: Band | None = None
    temperature_c: Annotated[float, Field(ge=-273.15, le=1000)] | None = None
    details: dict[str, JsonValue] = {}


class Stored(Draft):
    """One calibration of the shelf. `id` names it in every message: kind, number, and the first
    digits of the content's SHA-256."""

    version: Literal[1] = 1
    id: Annotated[str, Field(pattern=ID)]
    number: Annotated[int, Field(strict=True, ge=1, le=999_999)]
    made: datetime
    software: Text

    def refusal(self, uid: str) -> str | None:
        """Why it is not for the board that answers, in one line."""
        if uid == self.uid:
            return None
        return (
            f"calibration {self.id} is of board {self.uid}, and {uid} answers: it is not applied; "
            f"calibrate this board, or put {self.uid} back"
        )


def sealed(draft: Draft, number: int, made: datetime, software: str) -> Stored:
    """The draft with its number, time and id."""
    fields = draft.model_dump() | {"number": number, "made": made, "software": software}
    nameless = Stored(**fields, id=f"{draft.kind}-{number}-000000")
    return nameless.model_copy(update={"id": _id(nameless.model_dump_json().encode())})


def write_stored(stored: Stored) -> bytes:
    """The bytes of its file. Raises `ShelfError` if it is too large to be read again."""
    content = stored.model_dump_json(indent=1).encode() + b"\n"
    if len(content) > LIMIT_BYTES:
        raise ShelfError(f"{stored.kind}: {len(content)} bytes; a calibration has {LIMIT_BYTES}")
    return content


def read_stored(name: str, content: bytes) -> Stored:
    """A file of the shelf, checked. `name` is that of the file. Raises `ShelfError`."""
    if len(content) > LIMIT_BYTES:
        raise ShelfError(f"{name}: more than {LIMIT_BYTES >> 10} KiB; it is no calibration")
    try:
        found = Stored.model_validate_json(content)
    except (ValidationError, RecursionError) as error:
        raise ShelfError(f"{name}: no calibration ({_first(error)})") from None
    if found.id != _id(content):
        raise ShelfError(f"{name}: it was changed after it was made; roll back, or calibrate again")
    return found


def _id(content: bytes) -> str:
    """From the file itself, so that a later version, which knows more fields, finds the same."""
    fields = json.loads(content)
    del fields["id"]
    digest = sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
    return f"{fields['kind']}-{fields['number']}-{digest[:6]}"


def _first(error: Exception) -> str:
    if not isinstance(error, ValidationError):
        return "nested too deep"
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])
