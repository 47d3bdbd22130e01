"""Messages: facts to what subscribers read.

In: facts of the pipeline and states of the gateway. Out: `Message` values, flat JSON.
Never: sends anything, keeps anything but the numbers of open episodes. Topics, with <b> the base:

    <b>/status            online | stopped | offline, plain text, retained, last will
    <b>/info              retained: versions, boot, assets       <b>/health  numbers, not retained
    <b>/board/<board>     numbers, not retained: losses by kind, clock, the board's own counters
    <b>/<asset>/status    retained: online | offline | refused | faulty
    <b>/<asset>/state     retained: ok | alarm                   <b>/<asset>/score   QoS 0
    <b>/<asset>/event     not retained, through the outbox: begin | update | end | gap
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel

from edge_agent.explain import TOP_CHANNELS
from edge_agent.pipeline import AlarmEvent, Gap, Judgement

AssetStatus: TypeAlias = Literal["online", "offline", "refused", "faulty"]
GatewayStatus: TypeAlias = Literal["online", "stopped", "offline"]

NOT_REPLAYED, REPLAYED = b'"replayed":false', b'"replayed":true'


class Message(NamedTuple):
    """Something to publish. `alert` messages are the last that a full outbox gives up; `key` is
    the same for the same fact, however often it is sent."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    key: str = ""
    alert: bool = False

    def as_replayed(self) -> Message:
        """The same, saying that it comes late or again."""
        return self._replace(payload=self.payload.replace(NOT_REPLAYED, REPLAYED))


class Moment(NamedTuple):
    """When: wall clock, and the monotonic clock of this boot for when the wall clock was wrong."""

    ts: str
    mono_ms: int


class BundleName(NamedTuple):
    """Which bundle judged."""

    name: str
    serial: int
    sha256: str


class Event(BaseModel):
    """An episode began, got worse, or ended. `seq` counts from 1 within the episode."""

    event_id: str
    seq: int
    asset: str
    kind: Literal["begin", "update", "end"]
    ts: str
    mono_ms: int
    boot_id: str
    first_over: str
    score: float
    threshold: float
    ratio: float
    peak_ratio: float
    severity: int
    top1_ch: str
    top1_share: float
    top2_ch: str | None = None
    top2_share: float | None = None
    top3_ch: str | None = None
    top3_share: float | None = None
    feature: str
    direction: str
    observed: float
    expected: float
    shape: Literal["point", "collective", "contextual"]
    why: str
    bundle: str
    bundle_serial: int
    bundle_sha256: str
    replayed: bool = False


class GapEvent(BaseModel):
    """Samples are missing; no window spans the gap. `gaps` of them were put together here."""

    event_id: str
    seq: int
    asset: str
    kind: Literal["gap"] = "gap"
    ts: str
    mono_ms: int
    boot_id: str
    gaps: int
    samples_lost: int
    why: str
    replayed: bool = False


class State(BaseModel):
    """How an asset is now."""

    state: Literal["ok", "alarm"]
    severity: int
    ratio: float
    since: str
    event_id: str


class ScorePoint(BaseModel):
    """One point of the trend; `peak_ratio` is the worst since the point before."""

    asset: str
    ts: str
    score: float
    threshold: float
    ratio: float
    peak_ratio: float
    windows: int


class Messages:
    """Builds every message of one run of the agent. `wall` is Unix time, `monotonic` the clock
    of the facts."""

    def __init__(
        self,
        base_topic: str,
        run_id: str,
        boot_id: str,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.base_topic = base_topic
        self.run_id = run_id
        self.boot_id = boot_id
        self._wall, self._monotonic = wall, monotonic
        self._seq: dict[str, int] = {}
        self._gaps: dict[str, int] = {}

    def event(self, fact: AlarmEvent, bundle: BundleName) -> Message:
        """Begin, update or end of an episode."""
        change, asset = fact.change, fact.asset
        seq = 1 if change.kind == "begin" else self._seq.get(asset, 0) + 1
        self._seq[asset] = seq
        tops: dict[str, Any] = {}
        for place, channel in enumerate(fact.why.channels[:TOP_CHANNELS], 1):
            tops |= {f"top{place}_ch": channel.name, f"top{place}_share": channel.share}
        ts, mono_ms = self._moment(change.t)
        event = Event(
            event_id=self.event_id(asset, change.number), seq=seq, asset=asset, kind=change.kind,
            ts=ts, mono_ms=mono_ms, boot_id=self.boot_id,
            first_over=self._moment(change.first_over_t).ts,
            score=_short(fact.score), threshold=_short(fact.threshold),
            ratio=_short(change.ratio), peak_ratio=_short(change.peak_ratio),
            severity=change.severity, feature=fact.why.feature, direction=fact.why.direction,
            observed=_short(fact.why.observed), expected=_short(fact.why.expected),
            shape=fact.why.shape,
            why=fact.why.sentence, bundle=bundle.name, bundle_serial=bundle.serial,
            bundle_sha256=bundle.sha256, **tops,
        )  # fmt: skip
        key = f"{event.event_id}/{seq}"
        return Message(self._topic(asset, "event"), _json(event), key=key, alert=True)

    def gap(self, fact: Gap, gaps: int, samples_lost: int) -> Message:
        """One gap, or several of one asset put together; `fact` is the last of them."""
        number = self._gaps[fact.asset] = self._gaps.get(fact.asset, 0) + 1
        event_id = f"{self.run_id}-{fact.asset}-gap{number}"
        ts, mono_ms = self._moment(fact.t)
        event = GapEvent(
            event_id=event_id, seq=1, asset=fact.asset, ts=ts, mono_ms=mono_ms,
            boot_id=self.boot_id, gaps=gaps, samples_lost=samples_lost, why=fact.reason,
        )  # fmt: skip
        return Message(self._topic(fact.asset, "event"), _json(event), key=f"{event_id}/1")

    def state(self, asset: str, event: AlarmEvent | None) -> Message:
        """How the asset is after `event`, or at the start."""
        alarm = event is not None and event.change.kind != "end"
        change = event.change if event else None
        state = State(
            state="alarm" if alarm else "ok",
            severity=change.severity if change and alarm else 0,
            ratio=_short(change.ratio) if change else 0.0,
            since=self._moment(change.t if change else self._monotonic()).ts,
            event_id=self.event_id(asset, change.number) if change else "",
        )
        return Message(self._topic(asset, "state"), _json(state), retain=True)

    def score(self, fact: Judgement, peak_ratio: float, windows: int) -> Message:
        """A point of the trend."""
        point = ScorePoint(
            asset=fact.asset, ts=self._moment(fact.score.t).ts, score=_short(fact.score.value),
            threshold=_short(fact.threshold), ratio=_short(fact.ratio),
            peak_ratio=_short(peak_ratio), windows=windows,
        )  # fmt: skip
        return Message(self._topic(fact.asset, "score"), _json(point), qos=0)

    def asset_status(self, asset: str, status: AssetStatus) -> Message:
        """Whether the asset is being judged."""
        return Message(self._topic(asset, "status"), status.encode(), retain=True)

    def gateway_status(self, status: GatewayStatus) -> Message:
        """Whether the gateway is there; also its last will."""
        return Message(f"{self.base_topic}/status", status.encode(), retain=True)

    def info(self, info: BaseModel) -> Message:
        """What runs here."""
        return Message(f"{self.base_topic}/info", _json(info), retain=True)

    def health(self, health: BaseModel) -> Message:
        """How the gateway is, as numbers."""
        return Message(f"{self.base_topic}/health", _json(health), qos=0)

    def board(self, name: str, health: BaseModel) -> Message:
        """How a board is, as numbers."""
        return Message(f"{self.base_topic}/board/{name}", _json(health), qos=0)

    def event_id(self, asset: str, number: int) -> str:
        """The name of an episode, the same in each of its messages."""
        return f"{self.run_id}-{asset}-{number}"

    def _topic(self, asset: str, leaf: str) -> str:
        return f"{self.base_topic}/{asset}/{leaf}"

    def _moment(self, t: float) -> Moment:
        wall = self._wall() - self._monotonic() + t
        text = datetime.fromtimestamp(wall, UTC).isoformat(timespec="milliseconds")
        return Moment(text.replace("+00:00", "Z"), round(t * 1e3))


def _json(model: BaseModel) -> bytes:
    return model.model_dump_json(exclude_none=True).encode()


def _short(value: float) -> float:
    """Six digits are more than a score means."""
    return float(f"{value:.6g}")
