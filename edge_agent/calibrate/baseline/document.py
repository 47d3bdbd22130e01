"""Document: what a baseline says on the shelf of its board.

In: the `details` of a stored calibration. Out: the `Baseline` of each asset of that board. Never:
trusts a file: every field and every size is checked before a byte of the slots is read.

One stored calibration holds the baselines of all assets of the board: a new one of one asset takes
those of the others along, and a rollback takes back what was done last.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import Field, ValidationError

from edge_agent.bundles.frozen import Finite, Frozen, Positive
from edge_agent.bundles.manifest import Manifest, NormalError, Sha256
from edge_agent.calibrate.shelf.stored import ShelfError, Stored
from edge_agent.judging.threshold_spec import ThresholdSpec

ASSETS = "assets"
MOST_STATES, MOST_ASSETS = 32, 64

Text: TypeAlias = Annotated[str, Field(min_length=1, max_length=128)]
Rate: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class StateTold(Frozen):
    """One state of the machine: how long it was captured, in how many windows."""

    name: Text
    minutes: Rate
    windows: int = Field(ge=0)


class FalseAlarms(Frozen):
    """Episodes of the healthy machine on the held-out windows, through the real alarm; a
    machine-day's worth with its 95 % Poisson interval, and the share of the time in alarm."""

    episodes: int = Field(ge=0)
    a_day: Rate
    low: Rate
    high: Rate
    share: float = Field(ge=0, le=1)


class Estimate(Frozen):
    """What the shipped threshold and this one do on the same held-out windows."""

    hours: Rate
    windows: int = Field(ge=0)
    shipped: FalseAlarms
    now: FalseAlarms


class SlotsFile(Frozen):
    """The memory's slots beside the calibration: `memory` bytes of `memory.npy`, then those of
    `memory_scale.npy`."""

    sha256: Sha256
    bytes: int = Field(ge=1)
    memory: int = Field(ge=1)


class Baseline(Frozen):
    """What is normal for one machine. It belongs to one bundle, by its hash, and to one board.
    `beneath` are the calibrations that its samples went through."""

    asset: Text
    stream: Text
    uid: Text
    bundle: Text
    bundle_serial: int = Field(ge=1)
    bundle_sha256: Sha256
    shipped_threshold: Positive
    threshold: ThresholdSpec
    normal_error: NormalError
    states: tuple[StateTold, ...] = Field(max_length=MOST_STATES)
    provisional: bool
    estimate: Estimate
    median_ratio: Finite
    beneath: tuple[Text, ...] = Field(default=(), max_length=8)
    slots: SlotsFile | None = None

    def refusal(self, name: str, sha256: str, uid: str | None) -> str | None:
        """Why it can't be applied to the bundle of this hash on this board, in one line."""
        if sha256 != self.bundle_sha256:
            return (
                f"baseline {name} of {self.asset} belongs to bundle {self.bundle} serial "
                f"{self.bundle_serial}, and another judges: it is not applied; calibrate again"
            )
        if uid is not None and uid != self.uid:
            return (
                f"baseline {name} of {self.asset} is of board {self.uid}, and {uid} answers: it "
                f"is not applied; calibrate this board, or put {self.uid} back"
            )
        return None

    def applied(self, manifest: Manifest) -> Manifest:
        """The bundle's manifest with these levels. Raises `ShelfError` if they don't fit it."""
        changes = {"threshold": self.threshold, "normal_error": self.normal_error}
        try:
            return Manifest.model_validate(manifest.model_copy(update=changes).model_dump())
        except ValidationError as error:
            raise ShelfError(f"baseline of {self.asset}: {error.errors()[0]['msg']}") from None


def baselines_of(stored: Stored) -> dict[str, Baseline]:
    """By the names of the assets. Raises `ShelfError`."""
    told = stored.details.get(ASSETS)
    if not isinstance(told, dict) or not 0 < len(told) <= MOST_ASSETS:
        raise ShelfError(f"{stored.id}: it names no asset; roll back, or calibrate again")
    try:
        found = {name: Baseline.model_validate_json(_json(each)) for name, each in told.items()}
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ShelfError(f"{stored.id}: {where}: {first['msg']}; calibrate again") from None
    for name, each in found.items():
        if each.asset != name:
            raise ShelfError(f"{stored.id}: {name} holds the baseline of {each.asset}")
    return found


def _json(value: Any) -> str:
    import json

    return json.dumps(value)
