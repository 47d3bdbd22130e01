"""Payloads: what each message about an asset says, field by field.

In: nothing. Out: the types; their JSON Schema is what subscribers are promised (schemas/).
Never: nests (but for the explanation), names a number without its unit or its ratio.

Times are RFC 3339 in UTC (`ts`), with the monotonic clock of this boot beside them (`mono_ms`,
`boot_id`) for when the wall clock was wrong. A `replayed` message was stored first and comes late.
Times that were stored by a wrong clock are mended on their way out, within one boot; where that
can't be, `clock_synced` is there and false.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

AssetStatus: TypeAlias = Literal["online", "offline", "refused", "faulty"]
GatewayStatus: TypeAlias = Literal["online", "stopped", "offline"]


def short(value: float) -> float:
    """Six digits are more than a score means."""
    return float(f"{value:.6g}")


def known(value: float) -> float | None:
    """The same; None for what JSON has no word for: a sensor that sends infinity."""
    return short(value) if math.isfinite(value) else None


class Payload(BaseModel):
    """What is published has exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class Event(Payload):
    """An episode began, got worse, or ended. `seq` counts from 1 within the episode; after the
    agent was killed it goes on from a thousand higher, as what was told in the last moment may be
    told anew: `event_id` and `seq` together never stand for two contents. `reason` of an update is
    `worse`, `late` (it could not be told before) or `unacknowledged`, of an end `cleared` or
    `accepted`. `suppressed` episodes went untold since the last that was told. `observed` and
    `expected` are missing where they are no number."""

    event_id: str
    seq: int
    gateway: str
    asset: str
    kind: Literal["begin", "update", "end"]
    reason: Literal["", "worse", "late", "unacknowledged", "cleared", "accepted"]
    ts: str
    mono_ms: int
    boot_id: str
    first_over: str
    score: float
    threshold: float
    ratio: float
    peak_ratio: float
    severity: int
    suppressed: int
    top1_ch: str
    top1_share: float
    top2_ch: str | None = None
    top2_share: float | None = None
    top3_ch: str | None = None
    top3_share: float | None = None
    feature: str
    direction: str
    observed: float | None = None
    expected: float | None = None
    shape: Literal["point", "collective", "contextual"]
    why: str
    bundle: str
    bundle_serial: int
    bundle_sha256: str
    calibration: str | None = None
    replayed: bool = False
    clock_synced: Literal[False] | None = None


class GapEvent(Payload):
    """Samples are missing; no window spans the gap. `gaps` of them were put together here."""

    event_id: str
    seq: int
    gateway: str
    asset: str
    kind: Literal["gap"] = "gap"
    ts: str
    mono_ms: int
    boot_id: str
    gaps: int
    samples_lost: int
    why: str
    replayed: bool = False
    clock_synced: Literal[False] | None = None


class DriftEvent(Payload):
    """The scores of windows outside of alarms have moved away from those that the bundle was
    calibrated on (`moved`), or are back. `psi` is the population stability index of the two."""

    event_id: str
    seq: int
    gateway: str
    asset: str
    kind: Literal["drift"] = "drift"
    ts: str
    mono_ms: int
    boot_id: str
    moved: bool
    psi: float
    over_median: float
    why: str
    bundle: str
    bundle_serial: int
    replayed: bool = False
    clock_synced: Literal[False] | None = None


class State(Payload):
    """How an asset is now. `snoozed`: nothing is told until `snoozed_until`; `acked`: the alarm
    lasts and somebody has seen it. What an alarm is about stays until the next one. `since`: when
    the word became this one; `ts`: when anything in here last changed."""

    state: Literal["ok", "alarm", "acked", "snoozed"]
    severity: int
    ratio: float
    since: str
    ts: str
    event_id: str
    acknowledged: bool
    learning: bool
    snoozed_until: str | None = None
    top1_ch: str | None = None
    why: str | None = None


class ScorePoint(Payload):
    """One point of the trend; `peak_ratio` is the worst since the point before."""

    asset: str
    ts: str
    score: float
    threshold: float
    ratio: float
    peak_ratio: float
    windows: int
    calibration: str | None = None


class Compass(Payload):
    """Whether a board's compass can be believed: `disturbed` when the field's length has left 5 %
    about the calibrated one, or its dip 3 degrees, for 5 s (after 30 s within both it is `ok`).
    `norm_ratio` is that length over the calibrated one; `since`: when the word became this one."""

    board: str
    state: Literal["ok", "disturbed", "uncalibrated"]
    since: str
    ts: str
    norm_ratio: float | None = None
    dip_deg: float | None = None
    calibration: str | None = None
